"""Setting 3: what a module learned is taken away from the model by subtracting the module."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from examples.paper import _claims, lm, lm_texts
from examples.paper._rows import KINDS, TRAINED, Claim, Kind, Metric, Row, Split, folder
from registry import Registry

NUMBER = 3
NAME = "unlearning"
TITLE = "Unlearning by negation"
QUESTION = "Does a model say fewer toxic things when a module that was trained on them is subtracted?"
SETUP = (
    "The base model is the small language model. The module `toxic` was trained on 700 toxic texts, another draw for "
    "each seed. The toxicity of a text is its probability by alt-profanity-check, above 0.8; this judge also picked "
    "the training texts. Measured are the mean negative log-likelihood of a token of held-out toxic texts, in nats, "
    "the perplexity of held-out clean texts of six sources, and the margin between the two likelihoods. λ is the one "
    "with the least likely toxic texts among those that cost at most 5% of clean perplexity. Factors weighs A and B "
    "of the one module by λ each, so its λ works as λ² does in the exact sum; at 1 the two are one."
)
REMARK = (
    "Subtracting works, by both kinds and for each seed: toxic text gets less likely by about twice what the module made "
    "it more likely. It is not free: clean text gets 2 to 4% more perplexity at the chosen λ. That (IA)³ costs less than LoRA, "
    "as the paper finds, is not seen here: the two cost the same. These are likelihoods; what the models write is judged "
    "further below."
)
MODULES: tuple[str, ...] = ("toxic",)
REFERENCE: str | None = None
COMPOSITION = "-{w} * toxic"
OTHERS: Mapping[str, str] = {"full": "-toxic"}
GRID: tuple[str, ...] = ("0", "0.25", "0.5", "0.75", "1", "1.25", "1.5")
METRICS: tuple[Metric, ...] = (
    Metric("toxic_nll", "toxic NLL", higher=True, digits=3, slack=0.005),
    Metric("clean_ppl", "clean perplexity", higher=False, within=1.05, slack=0.5),
    Metric("margin", "margin", higher=True, digits=3, slack=0.005),
)
BASE = lm.NAME

STEPS = 80
RATE: Mapping[Kind, float] = {"lora": 5e-3, "ia3": 4e-2}


def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
    target = folder(NAME, kind, seed, "toxic", modules)
    if target.exists():
        return
    lm_texts.prepare(work)
    pool = [text for texts in lm_texts.chosen(work, None, toxic=True).values() for text in texts]
    draw = random.Random(seed).sample(pool, 700)
    model = lm.fresh(lm.config(kind), seed)
    lm.fit(model, lm.encode(draw), steps=STEPS, rate=RATE[kind], seed=seed)
    lm.save(model, target)


def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
    lm.add(catalog, folder(NAME, kind, seed, "toxic", modules), "toxic text", seed)


def evaluate(folder: Path | None, split: Split) -> Mapping[str, float]:
    model = lm.merged(folder)
    toxic, clean = lm.nlls(model, lm.held_out("toxic", split), lm.held_out("clean", split))
    return {"toxic_nll": toxic, "clean_ppl": lm.perplexity(clean), "margin": toxic - clean}


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    found = []
    for kind in KINDS:
        found += _negated(rows, kind)
        found.append(_growing(rows, kind))
    cost = {kind: costs(rows, kind, "toxic_nll", GAIN) for kind in KINDS}
    found.append(
        Claim(
            "T4",
            f"(IA)³ costs less clean perplexity than LoRA where each makes toxic text {GAIN} nats less likely (exact, "
            "validation)",
            held=all(ours < theirs for ours, theirs in zip(cost["ia3"], cost["lora"], strict=True)),
            figures=f"LoRA {_claims.shown(cost['lora'], 2)}%, (IA)³ {_claims.shown(cost['ia3'], 2)}%",
        )
    )
    return found


def _negated(rows: Sequence[Row], kind: Kind) -> list[Claim]:
    """At the chosen λ: less toxic, hardly worse elsewhere."""
    found = []
    for operator in _claims.operators(kind):
        before, after = (
            {metric.name: _claims.values(rows, kind, what, metric.name, its) for metric in METRICS}
            for what, its in (("base", None), ("composition", operator))
        )
        gains = [b - a for a, b in zip(before["toxic_nll"], after["toxic_nll"], strict=True)]
        wider = [b - a for a, b in zip(before["margin"], after["margin"], strict=True)]
        costs = [100 * (b / a - 1) for a, b in zip(before["clean_ppl"], after["clean_ppl"], strict=True)]
        found.append(
            Claim(
                "T4",
                "Negation makes toxic text less likely, and more so than clean text, which gets at most 6% more "
                f"perplexity ({_claims.TITLES[kind]}, {operator})",
                held=min(gains) > 0 and min(wider) > 0 and max(costs) <= 6,
                figures=f"toxic NLL {_claims.listed(gains, 3)}; margin {_claims.listed(wider, 3)}; clean perplexity "
                f"{_claims.listed(costs)}%",
            )
        )
    return found


def _growing(rows: Sequence[Row], kind: Kind) -> Claim:
    curves = [*_curves(rows, kind, "toxic_nll"), *_curves(rows, kind, "margin")]
    means = [
        _claims.mean(rows, kind, "composition", "toxic_nll", "exact", split="validation", weight=w)
        for w in GRID
    ]
    return Claim(
        "T4",
        f"Toxic NLL and margin grow with λ, for each seed ({_claims.TITLES[kind]}, exact, validation)",
        held=all(a < b for curve in curves for a, b in pairwise(curve)),
        figures="toxic NLL "
        + " ".join(f"{value:.3f}" for value in means)
        + f" for λ from {GRID[0]} to {GRID[-1]}",
    )


def _curves(rows: Sequence[Row], kind: Kind, metric: str) -> list[tuple[float, ...]]:
    """The metric over the grid on the validation split, for each seed."""
    each = [
        _claims.values(rows, kind, "composition", metric, "exact", split="validation", weight=weight)
        for weight in GRID
    ]
    return list(zip(*each, strict=True))


GAIN = 0.05


def costs(rows: Sequence[Row], kind: Kind, metric: str, gain: float) -> list[float]:
    """Percent of clean perplexity that ``gain`` costs each seed, between the two nearest λ; NaN where it is not reached."""
    found = []
    for gained, clean in zip(_curves(rows, kind, metric), _curves(rows, kind, "clean_ppl"), strict=True):
        gains = [value - gained[0] for value in gained]
        percent = [100 * (value / clean[0] - 1) for value in clean]
        above = next((index for index, each in enumerate(gains) if each >= gain), 0)
        part = (gain - gains[above - 1]) / (gains[above] - gains[above - 1]) if above else math.nan
        found.append(percent[above - 1] + part * (percent[above] - percent[above - 1]))
    return found
