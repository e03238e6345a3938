"""Setting 3: what a module learned is taken away from the model by subtracting the module."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.paper import curves, lm, lm_texts
from examples.paper._rows import KINDS, Claim, Kind, Metric, Row, Split, folder
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
    "with the least likely toxic texts among those that cost at most 5% of clean perplexity."
)
MODULES: tuple[str, ...] = ("toxic",)
REFERENCE: str | None = None
COMPOSITION = "-{w} * toxic"
OTHERS: Mapping[str, str] = {"added instead": "2 * toxic"}
GRID: tuple[str, ...] = ("0", "0.25", "0.5", "0.75", "1", "1.25", "1.5")
METRICS: tuple[Metric, ...] = (
    Metric("toxic_nll", "toxic NLL", higher=True, digits=3),
    Metric("clean_ppl", "clean perplexity", higher=False, within=1.05),
    Metric("margin", "margin", higher=True, digits=3),
)
BASE = lm.NAME

STEPS = 80
RATE: Mapping[Kind, float] = {"lora": 5e-3, "ia3": 4e-2}


def train(seed: int, kind: Kind, work: Path) -> None:
    target = folder(NAME, kind, seed, "toxic")
    if target.exists():
        return
    lm_texts.prepare(work)
    pool = [text for texts in lm_texts.chosen(work, None, toxic=True).values() for text in texts]
    draw = random.Random(seed).sample(pool, 700)  # noqa: S311 -- a draw of texts, no secret
    model = lm.fresh(lm.config(kind), seed)
    lm.fit(model, lm.encode(draw), steps=STEPS, rate=RATE[kind], seed=seed)
    lm.save(model, target)


def register(catalog: Registry, seed: int, kind: Kind) -> None:
    lm.add(catalog, folder(NAME, kind, seed, "toxic"), "toxic text", seed)


def evaluate(folder: Path | None, split: Split) -> Mapping[str, float]:
    model = lm.merged(folder)
    toxic = lm.nll(model, lm.held_out("toxic", split))
    clean = lm.nll(model, lm.held_out("clean", split))
    return {"toxic_nll": toxic, "clean_ppl": lm.perplexity(clean), "margin": toxic - clean}


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    found = []
    for kind in KINDS:
        base = curves.test(rows, kind, "base")
        composed = curves.test(rows, kind, "composition", "exact")
        if not base or not composed:
            continue
        gain = curves.differences(base, composed, "toxic_nll")
        cost = [100 * (ratio - 1) for ratio in curves.ratios(base, composed, "clean_ppl")]
        found.append(
            Claim(
                "T4",
                f"{kind}: negation makes toxic text less likely, and costs at most 5% of clean perplexity "
                "(every seed)",
                min(gain) > 0 and max(cost) <= 5,
                f"toxic NLL {curves.spread(gain, '+.3f')}, clean perplexity {curves.spread(cost, '+.1f')} %",
            )
        )
        toxic = curves.curve(rows, kind, "exact", "toxic_nll")
        margin = curves.curve(rows, kind, "exact", "margin")
        if toxic:
            found.append(
                Claim(
                    "T4",
                    f"{kind}: the effect grows with λ (validation, every seed)",
                    all(curves.increasing(each) for each in (*toxic.values(), *margin.values())),
                    "toxic NLL " + curves.points(toxic, ".3f"),
                )
            )
    cost_at = {kind: _cost(rows, kind) for kind in KINDS}
    if all(cost_at.values()):
        lora, ia3 = cost_at["lora"], cost_at["ia3"]
        found.append(
            Claim(
                "T4",
                f"(IA)³ costs less clean perplexity than LoRA where both make toxic text {GAIN} nats less likely "
                "(validation, every seed)",
                all(ours < theirs for ours, theirs in zip(ia3, lora, strict=True)),
                f"LoRA {curves.spread(lora, '+.2f')} %, (IA)³ {curves.spread(ia3, '+.2f')} %",
            )
        )
    return found


GAIN = 0.05


def _cost(rows: Sequence[Row], kind: Kind) -> list[float]:
    """Percent of clean perplexity that ``GAIN`` costs, between the two nearest λ, for each seed; empty if not reached."""
    toxic = curves.curve(rows, kind, "exact", "toxic_nll")
    clean = curves.curve(rows, kind, "exact", "clean_ppl")
    found = []
    for seed, points in toxic.items():
        gains = [value - points[0][1] for _, value in points]
        costs = [100 * (value / clean[seed][0][1] - 1) for _, value in clean[seed]]
        above = next((i for i, gain in enumerate(gains) if gain >= GAIN), None)
        if not above:
            return []
        part = (GAIN - gains[above - 1]) / (gains[above] - gains[above - 1])
        found.append(costs[above - 1] + part * (costs[above] - costs[above - 1]))
    return found
