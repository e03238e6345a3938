"""Setting 2, multi-tasking: a module of one task and a module of another, together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.paper import _claims, encoder
from examples.paper._rows import KINDS, TRAINED, Claim, Kind, Metric, Operator, Row, Split, folder
from registry import Registry

NUMBER = 2
NAME = "multitask"
TITLE = "Multi-tasking"
QUESTION = "Does a module of one task plus a module of another do both tasks?"
SETUP = (
    "Sentiment of film review sentences (2 labels) and genre of sentences of the Brown corpus (4 labels), on MiniLM. "
    "Each module saw 1,000 sentences of its task; the reference saw both in turn, in twice as many steps. The "
    "average is that of the two accuracies."
)
REMARK = (
    "The plain sum is what works: it comes within a point of training on both tasks, in the mean. With λ and 1 − λ each "
    "module's change is a part of what was trained, which costs each task, most of all with (IA)³. That is why no weights "
    "are normalized here unless asked for. The two LoRA modules learned from unlike texts; added by factors they gain "
    "nothing over the better of the two that all seeds show."
)
TASKS: tuple[encoder.Task, ...] = ("sentiment", "genre")
MODULES: tuple[str, ...] = TASKS
REFERENCE: str | None = "both-tasks"
COMPOSITION = "{w}*sentiment + {1-w}*genre"
OTHERS: Mapping[str, str] = {"sum": "sentiment + genre"}
GRID = tuple(f"{tenth / 10:g}" for tenth in range(11))
METRICS = (
    Metric("average", "average, %", higher=True, slack=2.0),
    Metric("sentiment", "sentiment, %", higher=True, slack=2.0),
    Metric("genre", "genre, %", higher=True, slack=2.0),
)
BASE = encoder.BASE


def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
    for each in TASKS:
        encoder.hold_out(each, work)
    rng = random.Random(seed)
    tasks: dict[encoder.Task, encoder.Labelled] = {
        "sentiment": encoder.drawn("sentiment", work, {"negative": 500, "positive": 500}, rng),
        "genre": encoder.drawn("genre", work, dict.fromkeys(encoder.LABELS["genre"], 250), rng),
    }
    for task, data in tasks.items():
        lesson = encoder.Lesson({task: data}, seed=seed, start=seed)
        encoder.train(folder(NAME, kind, seed, task, modules), kind, lesson)
    encoder.train(
        folder(NAME, kind, seed, "both-tasks", modules), kind, encoder.Lesson(tasks, seed=seed, start=seed)
    )


def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
    for name, task in (("sentiment", "sentiment"), ("genre", "genre"), ("both-tasks", "sentiment and genre")):
        encoder.register(catalog, NAME, (name,), seed, kind, modules=modules, task=task)


def evaluate(adapter: Path | None, split: Split) -> Mapping[str, float]:
    sentiment, genre = (encoder.accuracy(adapter, task, split) for task in ("sentiment", "genre"))
    return {"average": (sentiment + genre) / 2, "sentiment": sentiment, "genre": genre}


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    """T3: the best average, and somewhat below each specialist on its own task."""
    return [
        claim
        for kind in KINDS
        for operator in _claims.operators(kind)
        for claim in (
            _average(rows, kind, operator, "composition", "The composition λ, 1 − λ"),
            _average(rows, kind, operator, "sum", "The plain sum"),
            _specialists(rows, kind, operator),
        )
    ]


def _average(rows: Sequence[Row], kind: Kind, operator: Operator, what: str, subject: str) -> Claim:
    together = _claims.values(rows, kind, what, "average", operator)
    alone = [_claims.values(rows, kind, name, "average") for name in MODULES]
    best = [max(pair) for pair in zip(*alone, strict=True)]
    gains = [merged - single for merged, single in zip(together, best, strict=True)]
    return Claim(
        "T3",
        f"{subject} has a better average than either module ({_claims.TITLES[kind]}, {operator})",
        held=min(gains) > 0,
        figures=f"{_claims.shown(together)} against {_claims.shown(best)}; gains {_claims.listed(gains)} points",
    )


def _specialists(rows: Sequence[Row], kind: Kind, operator: Operator) -> Claim:
    costs = [
        _claims.mean(rows, kind, "composition", task, operator) - _claims.mean(rows, kind, task, task)
        for task in MODULES
    ]
    return Claim(
        "T3",
        f"The composition is at most a few points below each specialist ({_claims.TITLES[kind]}, {operator})",
        held=all(-5 <= cost <= 0.5 for cost in costs),
        figures=", ".join(f"{task} {cost:+.1f} points" for task, cost in zip(MODULES, costs, strict=True)),
    )
