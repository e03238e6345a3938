"""What the claims of a setting read from its rows: figures by seed, and curves over λ."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from examples.paper._rows import Kind, Operator, Row

Curve = Mapping[int, Sequence[tuple[float, float]]]
"""By seed: (λ, value), in the order of λ."""


def test(rows: Sequence[Row], kind: Kind, what: str, operator: Operator | None = None) -> dict[int, Row]:
    """The test rows of one model by seed; a composition is there at the λ that was chosen for it."""
    return {
        row.seed: row
        for row in rows
        if (row.kind, row.what, row.operator, row.split) == (kind, what, operator, "test")
    }


def curve(rows: Sequence[Row], kind: Kind, operator: Operator, metric: str) -> Curve:
    """A metric of the composition over λ, on the validation split."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if (row.kind, row.what, row.operator, row.split) == (kind, "composition", operator, "validation"):
            if row.weight is not None:
                found[row.seed].append((float(row.weight), row.metrics[metric]))
    return {seed: sorted(points) for seed, points in sorted(found.items())}


def differences(before: Mapping[int, Row], after: Mapping[int, Row], metric: str) -> list[float]:
    """``after`` less ``before``, for each seed."""
    return [after[seed].metrics[metric] - before[seed].metrics[metric] for seed in sorted(after)]


def ratios(before: Mapping[int, Row], after: Mapping[int, Row], metric: str) -> list[float]:
    """``after`` over ``before``, for each seed."""
    return [after[seed].metrics[metric] / before[seed].metrics[metric] for seed in sorted(after)]


def values(rows: Mapping[int, Row], metric: str) -> list[float]:
    return [rows[seed].metrics[metric] for seed in sorted(rows)]


def increasing(points: Sequence[tuple[float, float]]) -> bool:
    return all(before < after for (_, before), (_, after) in zip(points, points[1:], strict=False))


def best(points: Sequence[tuple[float, float]]) -> float:
    """The λ with the lowest value."""
    return min(points, key=lambda point: point[1])[0]


def at(points: Sequence[tuple[float, float]], weight: float) -> float:
    """The value at a λ of the grid."""
    return dict(points)[weight]


def spread(figures: Sequence[float], form: str) -> str:
    """Mean ± standard deviation over the seeds; of one seed, its figure."""
    mean = format(statistics.fmean(figures), form)
    if len(figures) < 2:
        return mean
    return f"{mean} ± {format(statistics.stdev(figures), form.lstrip('+'))}"


def points(curve: Curve, form: str) -> str:
    """The mean over the seeds at each λ."""
    by_weight: dict[float, list[float]] = defaultdict(list)
    for line in curve.values():
        for weight, value in line:
            by_weight[weight].append(value)
    return ", ".join(
        f"{weight:g}: {format(statistics.fmean(figures), form)}" for weight, figures in by_weight.items()
    )
