"""How a sweep looks to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._parts import Cell, line, table
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Sweep, SweepPoint


def sweep_parts(sweep: Sweep, console: Console) -> Iterator[RenderableType]:
    """What was asked, a row for each point, and what became of the best one."""
    number = f"sweep {sweep.id}" if sweep.id else "sweep"
    yield line((number, "bold"), f"  {sweep.expression}  {sweep.state}")
    if sweep.state == "planned" and not sweep.points:
        yield line(
            f"{plural(sweep.budget or 0, 'point')}, chosen one after another by what those before them give"
        )
        return
    names = list(dict.fromkeys(name for point in sweep.points for name in point.metrics or {}))
    variables = list(sweep.variables)
    rows = [
        [
            str(point.position),
            *(point.values[name] for name in variables),
            *((point.metrics or {}).get(name) for name in names),
            _state(sweep, point),
            point.error,
        ]
        for point in sweep.points
    ]
    if rows:
        yield table(console, ["point", *variables, *names, "state", "because"], rows, prose=["because"])
    counts = {
        "computed": sweep.computed,
        "measured": sweep.evaluated,
        "known": sweep.reused,
        "failed": sweep.failed,
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count is not None)
    yield line(f"{plural(len(sweep.points), 'point')}: {said}")
    if sweep.chosen is not None:
        best = next(point.expression for point in sweep.points if point.position == sweep.chosen)
        parts = ("  is ", (sweep.ref, "bold")) if sweep.ref else ()
        yield line("best  " if sweep.state == "done" else "best so far  ", (best, "cyan"), *parts)


def _state(sweep: Sweep, point: SweepPoint) -> Cell:
    if point.position == sweep.chosen:
        return Cell("best", "bold green")
    if point.metrics is None:
        return Cell(point.state, "red" if point.state != "new" else "dim")
    if not point.feasible:
        return Cell("constrained", "dim")
    return Cell("front", "green") if point.front and len(sweep.metrics) > 1 else Cell(point.state, "")
