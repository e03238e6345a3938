from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from registry import reference
from registry.errors import Refused, UsageError
from registry.plots import Catalog, Drawing, Options, Plot, _canvas
from registry.plots._canvas import DIM, INK, MARGIN, Sheet, head_size, number, text, width
from registry.plots._grid import Grid, grid

# isort: split
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from registry.results import Conflict, ModuleConflict

PAIRS = 6
"""Pairs of inputs in one picture: those whose signs conflict most."""
WARNINGS = 4
"""Reasons why an input is not composed any more, in one picture."""
ROWS = 40
"""Projections in one picture."""

_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)  # of the colour scales
_STEPS, _STEPS_OF_COLOUR = (1, 2, 4, 5, 10, 20, 50, 100), 25
_CELL, _ROW = 0.125, 0.2  # inches, as all below
_NARROWEST, _WIDEST = 1.9, 6.0  # a panel
_BETWEEN, _HEADING, _NAMED, _NUMBERS, _BAR = 0.3, 0.3, 0.42, 0.27, 0.62
_WRITTEN, _TICK = 0.31, 0.24  # the room that a number needs in a cell, and below one
_DARK = 0.45  # luminance


@dataclass(frozen=True)
class Measure:
    """What a column of panels shows, and what its colours mean at both ends. ``middle`` is where nothing is to be seen."""

    name: str
    title: str
    of: Callable[[ModuleConflict], float | None]
    colours: str
    low: str
    high: str
    middle: float | None
    worst_is_low: bool = False


MEASURES = (
    Measure("cosine", "cosine of the deltas", lambda m: m.cosine, "RdBu", "they cancel", "same direction", 0.0, worst_is_low=True),
    Measure("sign-conflict", "sign conflict", lambda m: None if m.sign_agreement is None else 1 - m.sign_agreement, "RdBu_r", "same signs", "opposite signs", 0.5),
    Measure("column-overlap", "overlap of column spaces", lambda m: m.column_overlap, "Purples", "apart", "shared", None),
    Measure("row-overlap", "overlap of row spaces", lambda m: m.row_overlap, "Purples", "apart", "shared", None),
)  # fmt: skip


class ConflictMap(Plot):
    """How the inputs of a composition get in each other's way: two by two, layer by layer, projection by projection.

    The subject is a composed version or an expression. The measures are those of ``registry check``, taken in every
    module; each delta has the sign of its coefficient. Inputs that were revoked or deleted are drawn, and named.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"base_path"})

    def draw(self, catalog: Catalog, subject: str, options: Options) -> Drawing:
        """Raises ``UsageError`` for a version that was not composed, and for less than two inputs."""
        expression, called = _expression(catalog, subject)
        measured = catalog.conflicts(expression, base_path=options.base_path)
        found = measured.pairs
        if not found:
            raise UsageError(
                f"{called} has one input", hint="a conflict is between two: give an expression of them"
            )
        shared = [each for each in found if each.modules]
        if not shared:
            raise Refused(
                f"the inputs of {called} have no module in common", hint="there is nothing to compare"
            )
        shown = sorted(shared, key=_badness)[:PAIRS]
        notes = [*_some(measured.warnings), *_notes(found, shared, shown)]
        title = f"Where the inputs of {called} get in each other's way"
        return Drawing(figure(shown, title, tuple(notes)), called, title, tuple(notes))


def _expression(catalog: Catalog, subject: str) -> tuple[str, str]:
    """The expression that is meant, with its versions pinned where it is a version's, and what it is called."""
    try:
        reference.parse(subject)
    except UsageError:
        return subject, subject
    version = catalog.show(subject)
    if version.recipe is None:
        raise UsageError(f"{version.ref} was not composed", hint="give a composed version, or an expression")
    return version.recipe.resolved, version.ref


def _some(warnings: Sequence[str]) -> Sequence[str]:
    rest = len(warnings) - WARNINGS
    return warnings if rest <= 0 else [*warnings[:WARNINGS], f"and {rest} more of such reasons"]


def _badness(pair: Conflict) -> tuple[float, float]:
    """Pairs sort by the mean conflict of their signs, most first, and then by their cosine."""
    agreement, cosine = pair.sign_agreement, pair.cosine
    return (agreement.mean if agreement else 1.0, cosine.mean if cosine else 1.0)


def _notes(found: Sequence[Conflict], shared: Sequence[Conflict], shown: Sequence[Conflict]) -> Sequence[str]:
    notes = []
    if len(shown) < len(shared):
        notes.append(f"of {len(shared)} pairs these {len(shown)}, whose signs conflict most")
    if len(shared) < len(found):
        notes.append(f"{len(found) - len(shared)} of {len(found)} pairs have no module in common")
    if grid((m.module for each in shown for m in each.modules), most=ROWS).merged:
        notes.append(
            "a cell is the mean of several modules, whose names differ in a number or before the last word"
        )
    if any(m.sampled for each in shown for m in each.modules):
        notes.append("signs were compared on a grid of rows and columns")
    return notes


def figure(pairs: Sequence[Conflict], title: str, notes: Sequence[str] = ()) -> Figure:
    """A row of panels for each pair, a column for each measure that any pair has; panels are projections by layers."""
    try:
        places = grid((m.module for each in pairs for m in each.modules), most=ROWS)
    except ValueError as error:
        raise Refused(
            f"there are {error}, a picture holds {ROWS}", hint="registry check lists the modules"
        ) from error
    measures = [m for m in MEASURES if any(m.of(each) is not None for pair in pairs for each in pair.modules)]
    labels = [text(row, most=32) for row in places.rows]
    aside = max(width(label, 8) for label in labels) + 0.12
    across = min(_WIDEST, max(_NARROWEST, _CELL * len(places.columns)))
    down = _ROW * len(labels)
    head_wide, top = head_size(title, notes)
    wide = max(head_wide, 2 * MARGIN + aside + len(measures) * (across + _BETWEEN) - _BETWEEN)
    each_high = _NAMED + down + _NUMBERS
    low = top + _HEADING + len(pairs) * each_high
    with _canvas.look():
        sheet = Sheet(wide, low + _BAR + MARGIN)
        sheet.head(title, notes)
        for row, pair in enumerate(pairs):
            named = text(f"{pair.a} with {pair.b}", most=80)
            sheet.text(MARGIN + aside, top + _HEADING + row * each_high, named, weight="bold")
        for column, measure in enumerate(measures):
            x = MARGIN + aside + column * (across + _BETWEEN)
            sheet.text(x, top, measure.title, size=10)
            norm = _norm(measure, pairs)
            for row, pair in enumerate(pairs):
                axes = sheet.axes(x, top + _HEADING + row * each_high + _NAMED, across, down)
                _panel(
                    axes, measure, _cells(measure, pair, places), norm, across, gid=f"{measure.name}-{row}"
                )
                axes.set_yticks(range(len(labels)), [] if column else labels)
                _ticks(axes, places.columns, across)
                axes.set_title(_summary(measure, pair), size=7.5, color=DIM, loc="left", pad=3)
            sheet.text(x + across / 2, low - 0.05, "layer", size=8, color=DIM, ha="center")
            _bar(sheet.axes(x, low + 0.22, across, 0.09), measure, norm)
    return sheet.figure


def _norm(measure: Measure, pairs: Sequence[Conflict]) -> Normalize:
    """One scale for all pairs, as small as holds their values: around the middle, or from 0."""
    found = [value for pair in pairs for each in pair.modules if (value := measure.of(each)) is not None]
    centre = measure.middle or 0.0
    largest = max(abs(value - centre) for value in found)
    most = 1.0 - centre if measure.middle else 1.0
    reach = min(next(limit for limit in _LIMITS if largest <= limit + 1e-6), most)
    return Normalize(centre - reach if measure.middle is not None else 0.0, centre + reach)


@dataclass(frozen=True)
class _Cells:
    """Means ``(rows, columns)``, masked where there are none, and the cells that have modules without a defined value."""

    means: np.ma.MaskedArray[Any, Any]
    undefined: tuple[tuple[int, int], ...]


def _cells(measure: Measure, pair: Conflict, places: Grid) -> _Cells:
    known = {each.module: measure.of(each) for each in pair.modules}
    rows, columns = ({name: i for i, name in enumerate(axis)} for axis in (places.rows, places.columns))
    means, undefined = np.ma.array(np.zeros((len(rows), len(columns))), mask=True), []
    for (row, column), modules in places.cells.items():
        here = [known[module] for module in modules if module in known]
        values = [value for value in here if value is not None]
        if values:
            means[rows[row], columns[column]] = sum(values) / len(values)
        elif here:
            undefined.append((rows[row], columns[column]))
    return _Cells(means, tuple(undefined))


def _panel(axes: Axes, measure: Measure, cells: _Cells, norm: Normalize, across: float, *, gid: str) -> None:
    rows, columns = cells.means.shape
    edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
    mesh = axes.pcolormesh(
        *edges, cells.means, cmap=measure.colours, norm=norm, edgecolors="white", linewidth=0.4, gid=gid
    )
    for row, column in cells.undefined:
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(
            Rectangle(
                corner, 1, 1, hatch="////", fill=False, linewidth=0, gid=f"{gid}-undefined-{row}-{column}"
            )
        )
    if across / columns >= _WRITTEN:
        for (row, column), value in np.ndenumerate(cells.means):
            if cells.means[row, column] is not np.ma.masked:
                ink = "white" if _is_dark(*mesh.to_rgba(value)[:3]) else INK
                axes.text(
                    column, row, number(value, 2), size=6.5, ha="center", va="center_baseline", color=ink
                )
    axes.invert_yaxis()
    axes.tick_params(length=0, pad=2)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _ticks(axes: Axes, layers: Sequence[int | None], across: float) -> None:
    """Layers by number, as many as there is room for."""
    room = across / _TICK
    step = next((step for step in _STEPS if len(layers) / step <= room), max(_STEPS))
    shown = [(at, layer) for at, layer in enumerate(layers) if layer is None or layer % step == 0]
    axes.set_xticks(
        [at for at, _ in shown], ["–" if layer is None else str(layer) for _, layer in shown], size=7
    )


def _is_dark(red: float, green: float, blue: float) -> bool:
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < _DARK


def _summary(measure: Measure, pair: Conflict) -> str:
    """The numbers behind the colours: the mean over modules, and the worst."""
    known = [value for each in pair.modules if (value := measure.of(each)) is not None]
    if not known:
        return "not defined"
    word, worst = ("lowest", min(known)) if measure.worst_is_low else ("highest", max(known))
    return f"mean {number(sum(known) / len(known), 3)}, {word} {number(worst, 3)}"


def _bar(axes: Axes, measure: Measure, norm: Normalize) -> None:
    """What the colours mean, at both ends in words."""
    low, high = norm.vmin or 0.0, norm.vmax or 1.0
    axes.pcolormesh(
        np.linspace(low, high, _STEPS_OF_COLOUR + 1), [0, 1], np.linspace(low, high, _STEPS_OF_COLOUR)[None],
        cmap=measure.colours, norm=norm, edgecolors="face", linewidth=0.1,
    )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    ticks = (low, (low + high) / 2, high)
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.tick_params(labelsize=7, length=2)
    for x, side, words in ((0, "left", measure.low), (1, "right", measure.high)):
        axes.text(x, -2.6, words, transform=axes.transAxes, size=7, color=DIM, va="top", ha=side)
