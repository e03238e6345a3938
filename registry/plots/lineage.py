from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from registry.errors import IntegrityFailure, Refused
from registry.plots import Catalog, Drawing, Options, Plot, _canvas
from registry.plots._canvas import BLUE, DIM, INK, MARGIN, ORANGE, RED, RULE, Sheet, head_size, text, width
from registry.plots._layered import Layers, heights, layers

# isort: split
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from registry.results import Lineage, LineageEdge, LineageNode

MOST = 200
"""Versions in one picture; beyond, nobody follows an arrow."""

_SIZE, _SMALL = 9.0, 7.5  # points
_LINE, _PAD, _GAP, _BETWEEN = (
    0.16,
    0.08,
    0.16,
    0.85,
)  # inches: a line, inside a box, between boxes, between columns
_PASS = 0.2  # where an arrow passes between boxes


class LineageGraph(Plot):
    """The versions that one was derived from, or that were derived from it, with coefficients on the arrows."""

    takes: ClassVar[frozenset[str]] = frozenset({"direction", "depth"})

    def draw(self, catalog: Catalog, subject: str, options: Options) -> Drawing:
        """Raises ``Refused`` for more than :data:`MOST` versions."""
        direction = options.direction or "up"
        found = catalog.lineage(subject, direction=direction, depth=options.depth)
        _refuse_many(found)
        compositions = [each.ref for each in found.nodes if each.expression is not None and not each.deleted]
        stale = {each.ref for each in catalog.stale(compositions)} if compositions else set()
        title = (
            f"What {found.ref} was derived from"
            if direction == "up"
            else f"What was derived from {found.ref}"
        )
        return Drawing(figure(found, title, stale=stale), found.ref, title)


def _refuse_many(found: Lineage) -> None:
    if len(found.nodes) <= MOST:
        return
    depths = sorted({each.depth for each in found.nodes})
    fits = [d for d in depths if d > 0 and sum(each.depth <= d for each in found.nodes) <= MOST]
    hint = f"--depth {fits[-1]} shows so many as fit" if fits else "registry lineage lists them all"
    raise Refused(
        f"the lineage of {found.ref} has {len(found.nodes)} versions, a picture holds {MOST}", hint=hint
    )


@dataclass(frozen=True)
class _Box:
    """What stands in a node's box: lines with their size and colour, the first in bold."""

    lines: tuple[tuple[str, float, str], ...]

    @property
    def width(self) -> float:
        return 2 * _PAD + max(width(line, size, bold=not at) for at, (line, size, _) in enumerate(self.lines))

    @property
    def height(self) -> float:
        return 2 * _PAD + _LINE * len(self.lines)


def _box(node: LineageNode, *, stale: bool) -> _Box:
    about = " · ".join(
        [
            node.kind,
            *([node.task] if node.task else []),
            *([f"[{', '.join(node.aliases)}]"] if node.aliases else []),
        ]
    )
    marks = {
        "✗ revoked": node.revoked,
        "from revoked": node.affected,
        "deleted": node.deleted,
        "stale": stale,
        "not held": not node.held,
    }
    said = ", ".join(mark for mark, holds in marks.items() if holds)
    lines = [(text(node.ref, most=40), _SIZE, INK), (text(about, most=48), _SMALL, DIM)]
    if node.expression is not None:
        lines.append((f"= {text(node.expression, most=46)}", _SMALL, DIM))
    if said:
        lines.append((said, _SMALL, RED if node.revoked or node.affected else ORANGE))
    return _Box(tuple(lines))


def figure(lineage: Lineage, title: str, *, stale: Collection[str] = ()) -> Figure:
    """Columns from parents to children, left to right, as many inches wide and high as that takes."""
    refs = [node.ref for node in lineage.nodes]
    edges = [each for each in lineage.edges if {each.child, each.parent} <= set(refs)]  # a depth cuts some
    try:
        placed = layers(refs, [(each.parent, each.child) for each in edges])
    except ValueError as error:
        raise IntegrityFailure(
            f"the lineage of {lineage.ref} goes in a circle", hint="run registry verify"
        ) from error
    boxes: dict[object, _Box] = {node.ref: _box(node, stale=node.ref in stale) for node in lineage.nodes}
    middles = heights(placed, lambda place: _GAP + boxes[place].height if place in boxes else _PASS)
    left, across = _sides(placed, boxes)
    low = min((middles[ref] - boxes[ref].height / 2 for ref in refs), default=0.0)
    head_wide, head = head_size(title)
    wide, high = max(across + 2 * MARGIN, head_wide), head - low + MARGIN
    with _canvas.look():
        sheet = Sheet(wide, high)
        sheet.head(title)
        axes = sheet.axes(0, 0, wide, high)
        axes.set_axis_off()
        axes.set_xlim(-MARGIN, wide - MARGIN)  # in inches
        axes.set_ylim(low - MARGIN, head)
        for number, (edge, way) in enumerate(zip(edges, placed.ways, strict=True)):
            _arrow(axes, number, edge, _points(way, boxes, left, middles), outward=lineage.direction == "up")
        for number, node in enumerate(lineage.nodes):
            at = (left[node.ref], middles[node.ref])
            _node(axes, number, node, boxes[node.ref], at, asked=node.ref == lineage.ref)
    return sheet.figure


def _sides(placed: Layers[str], boxes: Mapping[object, _Box]) -> tuple[dict[object, float], float]:
    """The left side of every place, and the width of all columns together."""
    left: dict[object, float] = {}
    x = 0.0
    for column in placed.columns:
        wide = max(boxes[place].width for place in column if place in boxes)
        left |= dict.fromkeys(column, x)
        left |= {("right", place): x + wide for place in column}
        x += wide + _BETWEEN
    return left, max(x - _BETWEEN, 0.0)


def _points(
    way: Sequence[object],
    boxes: Mapping[object, _Box],
    left: Mapping[object, float],
    y: Mapping[object, float],
) -> list[tuple[float, float]]:
    """Where an arrow begins, where it passes through columns, and where it ends."""
    start, *passes, end = way
    points = [(left[start] + boxes[start].width, y[start])]
    for place in passes:
        points += [(left[place], y[place]), (left["right", place], y[place])]
    return [*points, (left[end], y[end])]


def _arrow(
    axes: Axes, number: int, edge: LineageEdge, points: Sequence[tuple[float, float]], *, outward: bool
) -> None:
    against = edge.coefficient is not None and edge.coefficient.startswith("-")
    colour = ORANGE if against else DIM
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    arrow = FancyArrowPatch(
        path=Curve(vertices, codes),
        arrowstyle="-|>",
        mutation_scale=8,
        shrinkA=0,
        shrinkB=0,
        color=colour,
        linewidth=1.0,
        linestyle="--" if edge.relation == "declared" else "-",
        zorder=1,
        gid=f"edge-{number}",
    )
    axes.add_patch(arrow)
    said = "declared" if edge.relation == "declared" else edge.coefficient
    if said is not None:
        # Near the end that fewer arrows share: parents of what is asked about, or its children.
        (x, y), (x1, y1) = (points[0], points[1]) if outward else (points[-1], points[-2])
        share = 0.32
        along = 3 * share**2 * (1 - share) + share**3
        axes.text(
            x + (x1 - x) * 0.36, y + (y1 - y) * along, text(said, most=12).replace("-", "−"), size=_SMALL, color=colour,
            ha="center", va="center", zorder=2, gid=f"coefficient-{number}",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _node(
    axes: Axes, number: int, node: LineageNode, box: _Box, at: tuple[float, float], *, asked: bool
) -> None:
    x, y = at
    edge = BLUE if asked else RED if node.revoked else RULE
    axes.add_patch(
        FancyBboxPatch(
            (x, y - box.height / 2), box.width, box.height, boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="#e8f2fa" if asked else "white", edgecolor=edge, linewidth=2.0 if asked else 1.0,
            linestyle=":" if node.deleted or not node.held else "-", zorder=3, gid=f"node-{number}",
        )
    )  # fmt: skip
    for at_line, (line, size, colour) in enumerate(box.lines):
        axes.text(
            x + _PAD, y + box.height / 2 - _PAD - _LINE * (at_line + 0.5), line, size=size, color=colour,
            weight="normal" if at_line else "bold", va="center_baseline", zorder=4,
        )  # fmt: skip
