"""Setting 1, distribution generalization: two modules of one task that saw differently skewed labels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.paper import _claims, encoder
from examples.paper._rows import KINDS, TRAINED, Claim, Kind, Metric, Row, Split, folder
from registry import Registry

NUMBER = 1
NAME = "distribution"
TITLE = "Distribution generalization"
QUESTION = "Do two modules that saw the same task with differently skewed labels make a better one together?"
SETUP = (
    "Sentiment of film review sentences, on MiniLM. One module saw 800 negative and 200 positive sentences, the "
    "other 200 and 800, all drawn anew for each seed; the reference saw all 2,000. The test sentences are balanced."
)
REMARK = (
    "The exact composition comes close to training on all sentences, for each seed: LoRA within 2 points, (IA)³ within 4. "
    "Factors vary with the seed, and gain nothing with one of them: the A's of the two modules have drifted apart in "
    "training (see Initialization), so that cross terms of one module's B with the other's A take part. (IA)³ has no such "
    "terms."
)
MODULES = ("mostly-negative", "mostly-positive")
REFERENCE: str | None = "both"
COMPOSITION = "{w}*mostly-negative + {1-w}*mostly-positive"
OTHERS: Mapping[str, str] = {"sum": "mostly-negative + mostly-positive"}
GRID = tuple(f"{tenth / 10:g}" for tenth in range(11))
METRICS = (Metric("accuracy", "accuracy, %", higher=True, slack=2.0),)
BASE = encoder.BASE


def halves(seed: int, work: Path) -> tuple[encoder.Labelled, encoder.Labelled]:
    """What the two modules of a seed see: 80% negative, and 80% positive; no sentence is in both."""
    rng = random.Random(seed)
    data = encoder.drawn("sentiment", work, {"negative": 1000, "positive": 1000}, rng)
    negative, positive = data[:1000], data[1000:]
    return negative[:800] + positive[:200], negative[800:] + positive[200:]


def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
    encoder.hold_out("sentiment", work)
    negative, positive = halves(seed, work)
    parts = {"mostly-negative": negative, "mostly-positive": positive, "both": [*negative, *positive]}
    for name, part in parts.items():
        lesson = encoder.Lesson({"sentiment": part}, seed=seed, start=seed)
        encoder.train(folder(NAME, kind, seed, name, modules), kind, lesson)


def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
    encoder.register(catalog, NAME, (*MODULES, "both"), seed, kind, modules=modules, task="sentiment")


def evaluate(adapter: Path | None, split: Split) -> Mapping[str, float]:
    return {"accuracy": encoder.accuracy(adapter, "sentiment", split)}


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    return [*_union(rows), *_curve(rows)]


def _union(rows: Sequence[Row]) -> list[Claim]:
    """T1: seed by seed, so that one lucky seed does not carry it."""
    found = []
    for kind in KINDS:
        for operator in _claims.operators(kind):
            together = _claims.values(rows, kind, "composition", "accuracy", operator)
            alone = [_claims.values(rows, kind, name, "accuracy") for name in MODULES]
            best = [max(pair) for pair in zip(*alone, strict=True)]
            gains = [merged - single for merged, single in zip(together, best, strict=True)]
            reference = _claims.shown(_claims.values(rows, kind, "reference", "accuracy"))
            found.append(
                Claim(
                    "T1",
                    f"The composition is better than either module ({_claims.TITLES[kind]}, {operator})",
                    held=min(gains) > 0,
                    figures=f"{_claims.shown(together)} against {_claims.shown(best)} of the better module; "
                    f"gains {_claims.listed(gains)} points; trained on both {reference}",
                )
            )
    return found


def _curve(rows: Sequence[Row]) -> list[Claim]:
    found = []
    for kind in KINDS:
        for operator in _claims.operators(kind):
            curve = [
                _claims.mean(
                    rows, kind, "composition", "accuracy", operator, split="validation", weight=weight
                )
                for weight in GRID
            ]
            found.append(
                Claim(
                    "T2",
                    f"The curve over λ is smooth with its best inside ({_claims.TITLES[kind]}, {operator})",
                    held=_claims.smooth(curve, higher=True),
                    figures=" ".join(f"{value:.1f}" for value in curve) + " for λ from 0 to 1, validation",
                )
            )
    return found
