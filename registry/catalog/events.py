"""The append-only record of changes, and the clock they are stamped with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from registry.catalog.database import insert
from registry.catalog.tables import AdapterRow, EventRow
from registry.results import Event


def now() -> datetime:
    return datetime.now(UTC)


def record(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Append an event to the transaction that makes the change it tells of.

    The change is sent first: events are the last table that a transaction writes to, as they are for an import, which
    holds every table in its turn.
    """
    session.flush()
    row = {"at": now(), "actor": actor, "action": action, "subject": subject, "detail": detail}
    insert(session, EventRow, row)


def last(session: Session, action: str) -> int:
    """The id of the last event of this sort, 0 for none."""
    return session.scalar(select(func.max(EventRow.id)).where(EventRow.action == action)) or 0


def listing(
    session: Session,
    *,
    subject: str | None,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    before: int | None,
) -> tuple[Event, ...]:
    """Events that fit every condition, newest first; the ``subject`` of an adapter includes its versions."""
    statement = select(EventRow).order_by(EventRow.id.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(_about(session, subject))
    if actor is not None:
        statement = statement.where(EventRow.actor == actor)
    if action is not None:
        statement = statement.where(EventRow.action == action)
    if since is not None:
        statement = statement.where(EventRow.at >= since)
    if until is not None:
        statement = statement.where(EventRow.at < until)
    if before is not None:
        statement = statement.where(EventRow.id < before)
    return tuple(
        Event(
            id=row.id, at=row.at, actor=row.actor, action=row.action, subject=row.subject, detail=row.detail
        )
        for row in session.scalars(statement)
    )


def _about(session: Session, subject: str) -> Any:
    name, at, number = subject.partition("@")
    known = session.scalar(select(AdapterRow.name).where(AdapterRow.name_key == name.lower()))
    if known is None:
        return EventRow.subject == subject
    if at:
        return EventRow.subject == f"{known}@{number}"
    # What begins with "name@" comes before "nameA": the character after "@".
    versions = and_(EventRow.subject > f"{known}@", EventRow.subject < f"{known}A")
    return or_(EventRow.subject == known, versions)
