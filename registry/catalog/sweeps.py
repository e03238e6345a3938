"""Sweeps as they are recorded, and what is known of points by their recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.catalog.database import chunked, insert_or_ignore
from registry.catalog.events import now
from registry.catalog.references import locking
from registry.catalog.tables import AdapterRow, SweepPointRow, SweepRow, VersionRow
from registry.errors import NotFound
from registry.results import Sweep, SweepPoint


@dataclass(frozen=True)
class Draft:
    """What a sweep is to do; ``digest`` is over all of it, so that the same is the same sweep."""

    digest: str
    evaluator_digest: str
    what: Sweep


def begin(session: Session, draft: Draft, actor: str) -> int:
    """The id of this sweep, which is running from now on."""
    what = draft.what
    insert_or_ignore(
        session,
        SweepRow,
        digest=draft.digest,
        name=what.name,
        name_key=what.name.lower(),
        expression=what.expression,
        pins=what.pins,
        variables=what.variables,
        evaluator=what.evaluator,
        evaluator_digest=draft.evaluator_digest,
        objectives=[[each.metric, each.direction] for each in what.metrics],
        constraints=list(what.constraints),
        search=what.search,
        budget=what.budget,
        seed=what.seed,
        dataset=what.dataset,
        split=what.split or "",
        state="running",
        created_at=now(),
        created_by=actor,
    )
    row = session.scalars(locking(select(SweepRow).where(SweepRow.digest == draft.digest))).one()
    if row.state != "running":
        row.state, row.finished_at = "running", None
    return row.id


def end(session: Session, sweep_id: int, state: str) -> None:
    """It is ``stopped`` or ``done`` from now on, if it was running."""
    row = session.scalars(locking(select(SweepRow).where(SweepRow.id == sweep_id))).one()
    if row.state == "running":
        row.state, row.finished_at = state, now()


def chose(session: Session, sweep_id: int, version_id: int) -> bool:
    """Its best point is this version from now on; whether that is new."""
    row = session.scalars(locking(select(SweepRow).where(SweepRow.id == sweep_id))).one()
    new = row.version_id != version_id
    if new:
        row.version_id = version_id
    return new


def find(session: Session, digest: str) -> int | None:
    """The id of the sweep with this digest."""
    return session.scalar(select(SweepRow.id).where(SweepRow.digest == digest))


def save(session: Session, sweep_id: int, points: Sequence[SweepPoint]) -> None:
    """Record points and what was measured at them, in place of what was there: a search may have come to other ones."""
    rows = _at(session, sweep_id, points)
    for point in points:
        row = rows.get(point.position)
        if row is None:
            row = SweepPointRow(sweep_id=sweep_id, position=point.position)
            session.add(row)
        row.values, row.expression, row.recipe_digest = point.values, point.expression, point.recipe
        row.state, row.metrics = point.state, dict(point.metrics or {})
        row.attempts, row.seconds, row.error = point.attempts, point.seconds, point.error
        row.created_at = now()


def unrecorded(session: Session, sweep_id: int, points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Those that are not recorded as they are; what was just measured is not."""
    rows = _at(session, sweep_id, [point for point in points if not point.attempts])
    there = {position: _said(_point(row)) for position, row in rows.items()}
    return [point for point in points if there.get(point.position) != _said(point)]


def _said(point: SweepPoint) -> tuple[object, ...]:
    """What a point says, however it came to be known."""
    return point.values, point.recipe, point.metrics


def _at(session: Session, sweep_id: int, points: Iterable[SweepPoint]) -> dict[int, SweepPointRow]:
    """The rows at the positions of these points, where there are any."""
    found: dict[int, SweepPointRow] = {}
    for some in chunked([point.position for point in points]):
        statement = select(SweepPointRow).where(
            SweepPointRow.sweep_id == sweep_id, SweepPointRow.position.in_(some)
        )
        found |= {row.position: row for row in session.scalars(statement)}
    return found


Told = tuple[str, tuple[str | None, ...]]
"""A recipe, and the values that the evaluator was told of it."""


def known(
    session: Session,
    evaluator_digest: str,
    recipes: Iterable[str],
    named: Sequence[str],
    *,
    dataset: str,
    split: str | None,
) -> dict[Told, dict[str, float]]:
    """What this evaluator measured of these recipes on this dataset, in whatever sweep, the newest last.

    ``named`` are the variables that it is told of: with other values of them it may measure something else.
    """
    found: dict[Told, dict[str, float]] = {}
    for some in chunked(sorted(set(recipes))):
        statement = (
            select(SweepPointRow.recipe_digest, SweepPointRow.values, SweepPointRow.metrics)
            .join(SweepRow, SweepRow.id == SweepPointRow.sweep_id)
            .where(
                SweepPointRow.recipe_digest.in_(some),
                SweepRow.evaluator_digest == evaluator_digest,
                SweepRow.dataset == dataset,
                SweepRow.split == (split or ""),
                SweepPointRow.state == "ok",
            )
            .order_by(SweepPointRow.created_at, SweepPointRow.sweep_id)
        )
        for digest, values, metrics in session.execute(statement):
            found[told(digest, values, named)] = _numbers(metrics)
    return found


def told(recipe: str, values: Mapping[str, str], named: Sequence[str]) -> Told:
    """What an evaluator that is told of the ``named`` variables learns of a point."""
    return recipe, tuple(values.get(name) for name in named)


def before(session: Session, sweep_id: int) -> list[tuple[dict[str, str], str, dict[str, float]]]:
    """Values, recipe and metrics of what this sweep's evaluator measured of the same versions, on its dataset, before it
    began."""
    this = session.get_one(SweepRow, sweep_id)
    statement = (
        select(SweepPointRow.values, SweepPointRow.recipe_digest, SweepPointRow.metrics, SweepRow.pins)
        .join(SweepRow, SweepRow.id == SweepPointRow.sweep_id)
        .where(
            SweepRow.evaluator_digest == this.evaluator_digest,
            SweepRow.dataset == this.dataset,
            SweepRow.split == this.split,
            SweepRow.id < sweep_id,
            SweepPointRow.created_at < this.created_at,
            SweepPointRow.state == "ok",
        )
        .order_by(SweepPointRow.sweep_id, SweepPointRow.position)
    )
    return [
        (values, recipe, _numbers(metrics))
        for values, recipe, metrics, pins in session.execute(statement)
        if pins == this.pins
    ]


def points(session: Session, sweep_id: int) -> tuple[SweepPoint, ...]:
    """The points that were measured, as they are recorded."""
    rows = session.scalars(
        select(SweepPointRow).where(SweepPointRow.sweep_id == sweep_id).order_by(SweepPointRow.position)
    )
    return tuple(map(_point, rows))


def _point(row: SweepPointRow) -> SweepPoint:
    return SweepPoint(
        position=row.position,
        values=row.values,
        expression=row.expression,
        recipe=row.recipe_digest,
        metrics=_numbers(row.metrics) if row.state == "ok" else None,
        state=row.state,
        attempts=row.attempts,
        seconds=row.seconds,
        error=row.error,
    )


def one(session: Session, sweep_id: int) -> Sweep:
    """A sweep without its points. Raises ``NotFound``."""
    row = session.execute(_SWEEPS.where(SweepRow.id == sweep_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no sweep {sweep_id}", hint="see which there are: registry sweeps list")
    return _sweep(*row)


def listing(session: Session, name: str | None) -> tuple[Sweep, ...]:
    """All sweeps, or those for one adapter, newest first, without their points."""
    statement = _SWEEPS.order_by(SweepRow.id.desc())
    if name is not None:
        statement = statement.where(SweepRow.name_key == name.lower())
    return tuple(_sweep(*row) for row in session.execute(statement))


_SWEEPS = (
    select(SweepRow, AdapterRow.name, VersionRow.number)
    .outerjoin(VersionRow, VersionRow.id == SweepRow.version_id)
    .outerjoin(AdapterRow, AdapterRow.id == VersionRow.adapter_id)
)
"""Sweeps, and the version that each one's best point became."""


def _sweep(row: SweepRow, name: str | None, number: int | None) -> Sweep:
    values: dict[str, Any] = {
        field: getattr(row, field)
        for field in (
            *(
                "id",
                "name",
                "expression",
                "pins",
                "variables",
                "evaluator",
                "constraints",
                "search",
                "budget",
            ),
            *("seed", "dataset", "state", "created_at", "created_by", "finished_at"),
        )
    }
    return Sweep(
        **values,
        metrics=[{"metric": metric, "direction": direction} for metric, direction in row.objectives],
        split=row.split or None,
        ref=None if name is None else f"{name}@{number}",
    )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
