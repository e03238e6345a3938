"""Figures that claims are about: means and spreads over the seeds, of rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from examples.paper._rows import Kind, Operator, Row, Split

TITLES = {"lora": "LoRA", "ia3": "(IA)³"}


def values(
    rows: Sequence[Row],
    kind: Kind,
    what: str,
    metric: str,
    operator: Operator | None = None,
    *,
    split: Split = "test",
    weight: str | None = None,
) -> list[float]:
    """The metric of each seed, in the order of the seeds; ``weight`` None takes any λ (on the test there is one)."""
    found = [
        row
        for row in rows
        if (row.kind, row.what, row.operator, row.split) == (kind, what, operator, split)
        and weight in (None, row.weight)
    ]
    return [row.metrics[metric] for row in sorted(found, key=lambda row: row.seed)]


def mean(
    rows: Sequence[Row],
    kind: Kind,
    what: str,
    metric: str,
    operator: Operator | None = None,
    *,
    split: Split = "test",
    weight: str | None = None,
) -> float:
    """Over the seeds; NaN where nothing was measured, so that no comparison with it holds."""
    found = values(rows, kind, what, metric, operator, split=split, weight=weight)
    return statistics.fmean(found) if found else math.nan


def shown(found: Sequence[float], digits: int = 1) -> str:
    """``76.2 ± 1.1``: the mean and the standard deviation over the seeds."""
    if not found:
        return ""
    text = f"{statistics.fmean(found):.{digits}f}"
    return text if len(set(found)) == 1 else f"{text} ± {statistics.stdev(found):.{digits}f}"


def smooth(curve: Sequence[float], *, higher: bool) -> bool:
    """Whether the best is inside, and no step towards it, from either end, is worse by more than half a point."""
    signed = [value if higher else -value for value in curve]
    best = max(range(len(signed)), key=signed.__getitem__)
    up, down = signed[: best + 1], signed[: best - 1 : -1] if best else signed[::-1]
    steps = [after - before for side in (up, down) for before, after in pairwise(side)]
    return 0 < best < len(signed) - 1 and min(steps) >= -0.5


def operators(kind: Kind) -> tuple[Operator, ...]:
    """(IA)³ has no factors: the paper's operators are the exact ones."""
    return ("exact", "factors") if kind == "lora" else ("exact",)


def listed(found: Sequence[float], digits: int = 1) -> str:
    """``+5.0, +3.8, +4.2``: one for each seed."""
    return ", ".join(f"{value:+.{digits}f}" for value in found)
