"""Sweeps that there are, and what their points say: which are feasible, which are on the front, which is best."""

from __future__ import annotations

from collections.abc import Sequence

from registry.catalog import sweeps
from registry.catalog.database import Database
from registry.results import Sweep, SweepPoint
from registry.verbs import _points


def show(database: Database, number: int) -> Sweep:
    """A sweep as it is recorded. Raises ``NotFound``."""
    with database.read() as session:
        return judged(sweeps.one(session, number), sweeps.points(session, number))


def listing(database: Database, name: str | None) -> tuple[Sweep, ...]:
    """All sweeps, or those for one adapter, newest first, without their points."""
    with database.read() as session:
        return sweeps.listing(session, name)


def judged(what: Sweep, points: Sequence[SweepPoint]) -> Sweep:
    """The sweep with its points, and which of them are feasible, on the front, and chosen."""
    constraints = [_points.constraint(text) for text in what.constraints]
    wanted = {each.metric for each in what.metrics} | {each.metric for each in constraints}
    scored = {
        each.position: each for each in points if each.metrics is not None and wanted <= each.metrics.keys()
    }
    feasible = {
        position: _points.losses(each.metrics or {}, what.metrics)
        for position, each in scored.items()
        if all(constraint.holds(each.metrics or {}) for constraint in constraints)
    }
    front = _points.front(feasible)
    chosen = _points.best({position: (loss, scored[position].values) for position, loss in feasible.items()})
    marked = tuple(
        each.model_copy(update={"feasible": each.position in feasible, "front": each.position in front})
        for each in points
    )
    failed = sum(each.metrics is None and each.state != "new" for each in points)
    evaluated = sum(each.attempts > 0 for each in points)
    reused = sum(each.metrics is not None and not each.attempts for each in points)
    advice = _advice(
        [each for each in points if each.metrics is None or each.position in scored], constraints
    )
    return what.model_copy(
        update={
            "points": marked,
            "chosen": chosen,
            "failed": failed,
            "evaluated": evaluated,
            "reused": reused,
            "advice": advice if chosen is None else None,
        }
    )


def _advice(points: Sequence[SweepPoint], constraints: Sequence[_points.Constraint]) -> str | None:
    """Where no point is feasible: the one that misses the constraints by least, or why the first one failed."""
    scored = [each for each in points if each.metrics is not None]
    if scored:
        near = min(scored, key=lambda each: (_points.excess(each.metrics or {}, constraints), each.position))
        said = ", ".join(f"{name} = {value:g}" for name, value in (near.metrics or {}).items())
        return f"the nearest is {near.expression}, with {said}"
    return next((f"{each.expression}: {each.error}" for each in points if each.error), None)
