from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, nan
from typing import TYPE_CHECKING

import numpy as np

from registry.errors import Refused, UsageError
from registry.plots import Catalog, Drawing, Options, Plot, _canvas
from registry.plots._canvas import BLUE, INK, MARGIN, ORANGE, RED, Sheet, head_size, text

# isort: split
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from registry.results import Sweep, SweepPoint

METRICS, VARIABLES, CELLS = 6, 6, 40
"""What one picture holds: metrics, variables, and values of each of two variables as a map."""

_WIDE, _HIGH, _SIDE, _FOOT, _LEGEND = 3.6, 2.1, 0.75, 0.6, 0.35  # inches: a panel, around it, the legend
_ALONE, _MAP = 5.4, 2.8  # the width of a panel that is alone in its row, the height of a map
_CONSTRAINT = re.compile(r"\s*(?P<metric>\S(?:.*?\S)?)\s*(?P<sign><=|>=|<|>|=)\s*(?P<bound>\S+)\s*")
_BETTER = {"min": "smaller is better", "max": "larger is better"}


class SweepCurves(Plot):
    """What a sweep measured at each of its points, the constraints, the Pareto front, and the point that it chose.

    The subject is a version that a sweep chose, or the number of a sweep.
    """

    def draw(self, catalog: Catalog, subject: str, options: Options) -> Drawing:  # noqa: ARG002  (there are none)
        """Raises ``UsageError`` for a version of no sweep, ``Refused`` where no point has metrics, or too many variables."""
        sweep = _sweep(catalog, subject)
        called = f"sweep {sweep.id} of {sweep.name}"
        if not any(point.metrics for point in sweep.points):
            raise Refused(
                f"no point of {called} was measured", hint="run it again: what failed is tried again"
            )
        if len(sweep.variables) > VARIABLES:
            raise Refused(
                f"{called} has {len(sweep.variables)} variables, a picture holds {VARIABLES}",
                hint="registry sweeps show --format json has the numbers",
            )
        notes = tuple(_notes(sweep))
        title = f"{sweep.name}: {sweep.expression}"
        return Drawing(figure(sweep, title, notes), called, title, notes)


def _sweep(catalog: Catalog, subject: str) -> Sweep:
    if subject.isascii() and subject.isdigit():
        return catalog.sweep_result(int(subject))
    version = catalog.show(subject)
    found = [
        each.id for each in catalog.sweeps(version.name) if each.ref == version.ref and each.id is not None
    ]
    if not found:
        raise UsageError(
            f"{version.ref} was chosen by no sweep", hint="give the number of one: registry sweeps list"
        )
    return catalog.sweep_result(max(found))


def _notes(sweep: Sweep) -> Iterator[str]:
    chosen = _chosen(sweep)
    if chosen is not None:
        values = ", ".join(f"{name} = {_minus(value)}" for name, value in chosen.values.items())
        measured = ", ".join(
            f"{name} {_minus(f'{value:.4g}')}" for name, value in (chosen.metrics or {}).items()
        )
        yield f"chosen: {values}: {measured}{f', which is {sweep.ref}' if sweep.ref else ''}"
    else:
        yield "no point was chosen"
    outside = sum(point.metrics is not None and not point.feasible for point in sweep.points)
    if outside:
        yield f"outside {' and '.join(sweep.constraints)}: {outside} of {len(sweep.points)} points"
    failed = sum(point.metrics is None for point in sweep.points)
    if failed:
        yield f"without metrics: {failed} of {len(sweep.points)} points"
    left_out = _metrics(sweep)[METRICS:]
    if left_out:
        yield f"not drawn: {', '.join(left_out)}"


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _chosen(sweep: Sweep) -> SweepPoint | None:
    return next((point for point in sweep.points if point.position == sweep.chosen), None)


def _metrics(sweep: Sweep) -> list[str]:
    """The objectives, what constraints are on, and then what else was measured."""
    constrained = [each.metric for each in _bounds(sweep)]
    also = sorted({name for point in sweep.points for name in point.metrics or ()})
    return list(dict.fromkeys([*(each.metric for each in sweep.metrics), *constrained, *also]))


@dataclass(frozen=True)
class _Bound:
    metric: str
    sign: str
    bound: float
    said: str


def _bounds(sweep: Sweep) -> list[_Bound]:
    found = ((_CONSTRAINT.fullmatch(each), each) for each in sweep.constraints)
    return [_Bound(m["metric"], m["sign"], float(m["bound"]), said) for m, said in found if m]


def figure(sweep: Sweep, title: str, notes: Sequence[str] = ()) -> Figure:
    """A map of each metric where two variables form a grid, else a panel for each metric and variable.

    Where there are two objectives, one more panel has the one over the other.
    """
    metrics = _metrics(sweep)[:METRICS]
    with _canvas.look():
        return _Page(sweep, title, notes, metrics).drawn()


class _Page:
    """The panels of a sweep, in rows of as many as there are variables, or of three maps."""

    def __init__(self, sweep: Sweep, title: str, notes: Sequence[str], metrics: Sequence[str]) -> None:
        self.sweep, self.title, self.notes, self.metrics = sweep, title, notes, metrics
        self.names = list(sweep.variables)
        self.axes_of = {name: _distinct(sweep, name) for name in self.names}
        self.chosen = _chosen(sweep)

    def drawn(self) -> Figure:
        maps = self._is_grid()
        panels: list[tuple[str, str | None]] = [
            (metric, None if maps else name)
            for metric in self.metrics
            for name in (self.names[:1] if maps else self.names)
        ]
        pareto = len(self.sweep.metrics) == 2
        across = min(len(panels) + pareto, 3) if maps else max(len(self.names), 1)
        high, broad = _MAP if maps else _HIGH, _WIDE if across > 1 else _ALONE
        head_wide, top = head_size(self.title, self.notes)
        rows = ceil((len(panels) + pareto) / across)
        wide = max(head_wide, 2 * MARGIN + across * (broad + _SIDE))
        sheet = Sheet(wide, top + _LEGEND + rows * (high + _FOOT) + MARGIN)
        sheet.head(self.title, self.notes)

        def place(at: int) -> Axes:
            x = MARGIN + _SIDE * 0.8 + (at % across) * (broad + _SIDE)
            return sheet.axes(x, top + _LEGEND + (at // across) * (high + _FOOT), broad, high)

        for at, (metric, name) in enumerate(panels):
            if name is None:
                self._map(place(at), metric, at)
            else:
                self._curve(place(at), metric, name, at)
        if pareto:
            self._front(place(len(panels)))
        sheet.legend(MARGIN, top, self._legend(maps=maps))
        return sheet.figure

    def _is_grid(self) -> bool:
        """Two variables of which every pair of values is a point, few enough for a map."""
        counts = [len(values) for values in self.axes_of.values()]
        return len(counts) == 2 and max(counts) <= CELLS and counts[0] * counts[1] == len(self.sweep.points)

    def _curve(self, axes: Axes, metric: str, name: str, at: int) -> None:
        """The metric over one variable; joined by a line where it is the only one."""
        measured = _measured(self.sweep, metric)
        xs = [float(point.values[name]) for point, _ in measured]
        if len(self.names) == 1:
            known = {point.position: value for point, value in measured}
            ordered = sorted(  # a gap where nothing was measured
                (float(point.values[name]), known.get(point.position, nan)) for point in self.sweep.points
            )
            axes.plot(*zip(*ordered, strict=True), color=BLUE, linewidth=1.0, alpha=0.5, gid=f"line-{at}")
        self._marks(axes, [(x, value, point) for x, (point, value) in zip(xs, measured, strict=True)], at)
        failed = [float(point.values[name]) for point in self.sweep.points if point.metrics is None]
        if failed:  # on the lower edge, whatever the scale
            axes.plot(failed, [0.03] * len(failed), "x", color=RED, markersize=5, transform=axes.get_xaxis_transform(), clip_on=False, gid=f"failed-{at}")  # fmt: skip
        self._constrain(axes, metric)
        axes.set_xlabel(text(name, most=40), size=8)
        axes.set_ylabel(self._label(metric), size=8)
        axes.grid(visible=True, color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)

    def _marks(self, axes: Axes, found: Sequence[tuple[float, float, SweepPoint]], at: int | str) -> None:
        """Full where the constraints hold, hollow where not, and a ring around the chosen one."""
        for gid, fill, holds in (("feasible", BLUE, True), ("outside", "white", False)):
            here = [(x, y) for x, y, point in found if point.feasible is holds]
            if here:
                axes.plot(*zip(*here, strict=True), "o", markersize=4.5, markerfacecolor=fill, markeredgecolor=BLUE, gid=f"{gid}-{at}")  # fmt: skip
        for x, y, point in found:
            if point is self.chosen:
                axes.plot([x], [y], "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=2.0, gid=f"chosen-{at}")  # fmt: skip

    def _constrain(self, axes: Axes, metric: str) -> None:
        """A line at the bound, and a shade over what it forbids."""
        for each in _bounds(self.sweep):
            if each.metric != metric:
                continue
            low, high = axes.get_ylim()
            margin = 0.08 * (high - low)
            low, high = min(low, each.bound - margin), max(high, each.bound + margin)
            axes.set_ylim(low, high)
            axes.axhline(each.bound, color=RED, linewidth=1.0, linestyle="--", gid="constraint")
            if each.sign != "=":
                forbidden = (each.bound, high) if each.sign.startswith("<") else (low, each.bound)
                axes.axhspan(*forbidden, color=RED, alpha=0.07, linewidth=0)
            axes.annotate(text(each.said, most=40), (1, each.bound), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points", size=7.5, color=RED, ha="right")  # fmt: skip

    def _label(self, metric: str) -> str:
        direction = next((each.direction for each in self.sweep.metrics if each.metric == metric), None)
        return text(metric, most=40) + (f"\n{_BETTER[direction]}" if direction else "")

    def _map(self, axes: Axes, metric: str, at: int) -> None:
        """The metric over two variables: a cell for each pair of values, in their order and not to scale."""
        across, up = self.names
        columns, rows = ({value: i for i, value in enumerate(self.axes_of[name])} for name in (across, up))
        cells = np.ma.array(np.zeros((len(rows), len(columns))), mask=True)
        measured = {point.position: value for point, value in _measured(self.sweep, metric)}
        for point in self.sweep.points:
            x, y = columns[float(point.values[across])], rows[float(point.values[up])]
            if point.position in measured:
                cells[y, x] = measured[point.position]
                if not point.feasible:
                    corner = (x - 0.5, y - 0.5)
                    axes.add_patch(Rectangle(corner, 1, 1, hatch="///", fill=False, linewidth=0, gid=f"outside-{at}-{point.position}"))  # fmt: skip
            else:
                axes.plot([x], [y], "x", color=RED, markersize=5, gid=f"failed-{at}-{point.position}")
            if point is self.chosen:
                corner = (x - 0.5, y - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.5, zorder=5, gid=f"chosen-{at}"))  # fmt: skip
        edges = (np.arange(len(columns) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5)
        mesh = axes.pcolormesh(
            *edges, cells, cmap="cividis", edgecolors="white", linewidth=0.4, zorder=0, gid=f"map-{at}"
        )
        _name_cells(axes, list(columns), list(rows))
        axes.set_xlabel(text(across, most=40), size=8)
        axes.set_ylabel(text(up, most=40), size=8)
        axes.set_title(self._label(metric).replace("\n", ", "), loc="left", pad=4)
        bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03)
        bar.ax.tick_params(labelsize=7)

    def _front(self, axes: Axes) -> None:
        """One objective over the other, the points of the front joined."""
        (first, second), points = (each.metric for each in self.sweep.metrics), self.sweep.points
        found = [
            (each.metrics[first], each.metrics[second], each)
            for each in points
            if each.metrics is not None and {first, second} <= each.metrics.keys()
        ]
        front = sorted((x, y) for x, y, point in found if point.front)
        if front:
            axes.plot(*zip(*front, strict=True), color=INK, linewidth=1.0, gid="front")
        self._marks(axes, found, "front")
        axes.set_xlabel(self._label(first), size=8)
        axes.set_ylabel(self._label(second), size=8)
        axes.grid(visible=True, color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)

    def _legend(self, *, maps: bool) -> list[tuple[Line2D | Rectangle, str]]:
        """What the marks mean, of those that are there."""
        points = self.sweep.points
        full = Line2D([], [], marker="o", linestyle="", markersize=4.5, color=BLUE)
        hollow = Line2D(
            [], [], marker="o", linestyle="", markersize=4.5, markerfacecolor="white", markeredgecolor=BLUE
        )
        ring = Line2D([], [], marker="o", linestyle="", markersize=9, markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=2)  # fmt: skip
        hatched = Rectangle((0, 0), 1, 1, hatch="///", fill=False, linewidth=0)
        framed = Rectangle((0, 0), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2)
        cross = Line2D([], [], marker="x", linestyle="", markersize=5, color=RED)
        entries: Mapping[str, tuple[Line2D | Rectangle, bool]] = {
            "measured": (full, not maps),
            "outside the constraints": (
                hatched if maps else hollow,
                any(p.metrics is not None and not p.feasible for p in points),
            ),
            "no metrics": (cross, any(p.metrics is None for p in points)),
            "chosen": (framed if maps else ring, self.chosen is not None),
            "Pareto front": (Line2D([], [], color=INK), len(self.sweep.metrics) == 2),
        }
        return [(handle, said) for said, (handle, there) in entries.items() if there]


def _measured(sweep: Sweep, metric: str) -> list[tuple[SweepPoint, float]]:
    return [
        (point, point.metrics[metric]) for point in sweep.points if point.metrics and metric in point.metrics
    ]


def _distinct(sweep: Sweep, name: str) -> list[float]:
    return sorted({float(point.values[name]) for point in sweep.points})


def _name_cells(axes: Axes, columns: Sequence[float], rows: Sequence[float]) -> None:
    """The values at the edges, as many as there is room for."""
    for values, ticks in ((columns, axes.set_xticks), (rows, axes.set_yticks)):
        step = max(1, ceil(len(values) / 10))
        shown = range(0, len(values), step)
        ticks(list(shown), [_minus(f"{values[i]:g}") for i in shown])
    axes.tick_params(length=0)
