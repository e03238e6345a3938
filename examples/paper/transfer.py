"""Setting 4: a task learned in one domain is carried to another by the analogy of two language modules."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from examples.paper import _claims, lm, lm_texts
from examples.paper._rows import KINDS, TRAINED, Claim, Kind, Metric, Operator, Row, Split, folder
from registry import Registry

NUMBER = 4
NAME = "transfer"
TITLE = "Domain transfer by analogy"
QUESTION = (
    "Does a module that learned questions in prose do better on those in tweets with tweets less prose added?"
)
SETUP = (
    "The base model is the small language model. The task is a style, questions; the domains are the printed prose of "
    "the Brown corpus and tweets. `prose-questions` was trained on 900 questions from prose, `prose` and `tweets` on "
    "1,800 texts each that ask nothing, `tweet-questions`, the reference, on 900 of the very questions that are "
    "wanted; another draw for each seed. Measured is the perplexity of held-out questions from tweets. λ weighs the "
    "task against the difference of the domains, as in the paper."
)
REMARK = (
    "The order is that of the paper, and the effects are small: the analogy gains about 2 of 80 points of perplexity over "
    "the module of the task, where training on the wanted questions gains 4 to 5. Most of that needs no prose to be taken "
    "away: half the task and half the tweets come within 0.3 of the analogy. With weights of 1, factors are worse than no "
    "module at all."
)
MODULES: tuple[str, ...] = ("prose-questions", "prose", "tweets")
REFERENCE: str | None = "tweet-questions"
COMPOSITION = "{w} * prose-questions + {1-w} * (tweets - prose)"
HALF = "half"
OTHERS: Mapping[str, str] = {
    "full": "prose-questions + tweets - prose",
    HALF: "0.5 * prose-questions + 0.5 * tweets",
}
GRID: tuple[str, ...] = ("0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1")
METRICS: tuple[Metric, ...] = (Metric("ppl", "perplexity of tweeted questions", higher=False, slack=0.5),)
BASE = lm.NAME

STEPS = 80
RATE: Mapping[Kind, float] = {"lora": 3e-3, "ia3": 2e-2}
LESSONS: Mapping[str, tuple[str, bool, int]] = {
    "prose-questions": ("prose", True, 900),
    "prose": ("prose", False, 1800),
    "tweets": ("tweet", False, 1800),
    "tweet-questions": ("tweet", True, 900),
}
"""What a module learns: the source, whether its texts ask, and how many."""


def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
    for number, (module, (source, asking, count)) in enumerate(LESSONS.items()):
        target = folder(NAME, kind, seed, module, modules)
        if target.exists():
            continue
        lm_texts.prepare(work)
        pool = lm_texts.questions(work, None, source, asking=asking)
        draw = random.Random(seed).sample(pool, count)
        model = lm.fresh(lm.config(kind), seed)
        lm.fit(model, lm.encode(draw), steps=STEPS, rate=RATE[kind], seed=len(LESSONS) * seed + number)
        lm.save(model, target)


def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
    for module, (source, asking, _) in LESSONS.items():
        task = f"{source} questions" if asking else f"{source} language"
        lm.add(catalog, folder(NAME, kind, seed, module, modules), task, seed)


def evaluate(folder: Path | None, split: Split) -> Mapping[str, float]:
    [nats] = lm.nlls(lm.merged(folder), lm.held_out("questions", split))
    return {"ppl": lm.perplexity(nats)}


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    return [
        claim
        for kind in KINDS
        for operator in _claims.operators(kind)
        for claim in (*_better(rows, kind, operator), _inside(rows, kind, operator))
    ]


def _better(rows: Sequence[Row], kind: Kind, operator: Operator) -> Iterator[Claim]:
    """Than the module of the task, as the paper says; and than whatever else is there, which says more."""
    name = f"({_claims.TITLES[kind]}, {operator})"
    ours = _claims.values(rows, kind, "composition", "ppl", operator)
    task, half = (
        _claims.values(rows, kind, what, "ppl", its)
        for what, its in (("prose-questions", None), (HALF, operator))
    )
    alone = [_claims.values(rows, kind, what, "ppl") for what in ("base", *MODULES)]
    best = [min(figures) for figures in zip(*alone, strict=True)]
    for subject, theirs in (
        ("The analogy is better on tweeted questions than the module of the task", task),
        ("The analogy is better than each of its modules and the base model", best),
        ("The analogy is better than half the task and half the tweets, without prose taken away", half),
    ):
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        yield Claim(
            "T5",
            f"{subject} {name}",
            held=max(gains) < 0,
            figures=f"{_claims.shown(ours)} against {_claims.shown(theirs)}; {_claims.listed(gains, 2)}",
        )


def _inside(rows: Sequence[Row], kind: Kind, operator: Operator) -> Claim:
    curve = [
        _claims.mean(rows, kind, "composition", "ppl", operator, split="validation", weight=weight)
        for weight in GRID
    ]
    return Claim(
        "T5",
        f"The curve over λ is smooth with its best inside ({_claims.TITLES[kind]}, {operator})",
        held=_claims.smooth(curve, higher=False),
        figures=" ".join(f"{value:.1f}" for value in curve) + " for λ from 0 to 1, validation",
    )
