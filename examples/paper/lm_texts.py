"""What the small language model reads: every sentence of every corpus once, on one side of the splits only."""

from __future__ import annotations

import fcntl
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from examples.paper import corpora
from examples.paper._rows import Split

TOXIC, CLEAN = 0.8, 0.2
"""A text is toxic above the one probability, clean below the other, and of no use between them."""


@dataclass(frozen=True)
class Sentence:
    """``source`` is the corpus's name; ``split`` None is for training."""

    text: str
    source: str
    split: Split | None


@cache
def sentences(work: Path) -> tuple[Sentence, ...]:
    """All sentences. One that occurs in several splits stays where it was held out: what is measured was never read."""
    sources = {
        "film": corpora.vader("movieReviewSnippets", work),
        "product": corpora.vader("amazonReviewSnippets", work),
        "editorial": corpora.vader("nytEditorialSnippets", work),
        "tweet": (*corpora.vader("tweets", work), *corpora.tweets(work)),
        "joke": corpora.jokes(work),
        "prose": corpora.brown(work),
    }
    order: tuple[Split | None, ...] = ("test", "validation", None)
    found = [
        Sentence(
            _printed(each.text) if source == "prose" else each.text, source, corpora.split_of(each.document)
        )
        for source, texts in sources.items()
        for each in texts
    ]
    seen, kept = set(), []
    for sentence in sorted(found, key=lambda each: order.index(each.split)):
        key = _key(sentence.text)
        if key not in seen and 15 <= len(sentence.text) <= 220:
            seen.add(key)
            kept.append(sentence)
    return tuple(kept)


def _printed(text: str) -> str:
    """Prose as it is printed: the Brown corpus has spaces around marks, some of them twice, and quotes of its own."""
    text = re.sub(r"``\s*|\s*''", '"', text)
    text = re.sub(r"([?!;:])\s*\1", r"\1", text)
    return re.sub(r"\s+([.,;:?!)])", r"\1", text).replace("( ", "(")


def _key(text: str) -> tuple[str, ...]:
    """The words of a text without links and names: a tweet that is passed on is the same tweet."""
    return corpora.normalized(re.sub(r"https?://\S*|@\w+|\bRT\b", " ", text))


@cache
def toxicity(work: Path) -> dict[str, float]:
    """The probability that each text is abusive, by alt-profanity-check: a linear model over words."""
    try:
        from profanity_check import predict_prob
    except ModuleNotFoundError as error:
        raise SystemExit(
            "training settings 3 and 5 needs a judge of texts: pip install 'adapter-registry[paper-train]'"
        ) from error
    texts = [each.text for each in sentences(work)]
    return dict(zip(texts, map(float, predict_prob(texts)), strict=True))


def chosen(work: Path, split: Split | None, *, toxic: bool) -> dict[str, list[str]]:
    """The toxic or the clean texts of a split, by source, without prose: there the judge takes names for insults."""
    probability = toxicity(work)

    def judged(value: float) -> bool:
        return value > TOXIC if toxic else value < CLEAN

    found: dict[str, list[str]] = defaultdict(list)
    for each in sentences(work):
        if each.split == split and each.source != "prose" and judged(probability[each.text]):
            found[each.source].append(each.text)
    return dict(found)


def questions(work: Path, split: Split | None, source: str, *, asking: bool = True) -> list[str]:
    """The texts of a source that end in a question mark, or those that do not."""
    return [
        each.text
        for each in sentences(work)
        if each.source == source and each.split == split and each.text.endswith("?") == asking
    ]


def training(work: Path) -> Sequence[str]:
    """What the base model is trained on."""
    return [each.text for each in sentences(work) if each.split is None]


# --- what is kept


COUNTS: dict[Split, int] = {"validation": 40, "test": 60}
"""Clean texts of each source, and a quarter as many as there are of both other kinds."""


def prepare(work: Path) -> None:
    """The base model, and the held-out texts, where they are not kept yet; of several processes one makes them."""
    from examples.paper import lm

    with (work / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lm.build(training(work))
        _keep(work)


def _keep(work: Path) -> None:
    for split, count in COUNTS.items():
        if (corpora.EVALUATION / f"questions-{split}.jsonl").exists():
            continue
        clean = chosen(work, split, toxic=False)
        clean["prose"] = [
            each.text for each in sentences(work) if (each.source, each.split) == ("prose", split)
        ]
        corpora.write_evaluation("clean", split, _drawn(clean, count))
        corpora.write_evaluation("toxic", split, _drawn(chosen(work, split, toxic=True), 4 * count))
        corpora.write_evaluation(
            "questions", split, _drawn({"tweet": questions(work, split, "tweet")}, 4 * count)
        )


def _drawn(pools: dict[str, list[str]], count: int) -> list[tuple[str, str]]:
    """At most ``count`` texts of each source."""
    rng = random.Random(0)
    return [
        (text, source)
        for source, texts in sorted(pools.items())
        for text in sorted(rng.sample(texts, min(count, len(texts))))
    ]
