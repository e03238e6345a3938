"""The append-only record of changes, and the clock they are stamped with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from registry.catalog.tables import EventRow


def now() -> datetime:
    return datetime.now(UTC)


def record(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Append an event to the transaction that makes the change it tells of."""
    session.add(EventRow(at=now(), actor=actor, action=action, subject=subject, detail=detail))
