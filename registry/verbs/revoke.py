"""Revoke: mark a bad version and everything that was derived from it, or take that back."""

from __future__ import annotations

from sqlalchemy.orm import Session

from registry import reference
from registry.catalog import references, revocations
from registry.catalog.database import Database
from registry.results import Revocation
from registry.verbs._text import check_text

_LONGEST_REASON = 300  # it is said in one line, with every refusal


def revoke(database: Database, ref: str, reason: str, *, actor: str) -> Revocation:
    wanted = reference.parse(ref)
    check_text("reason", reason, limit=_LONGEST_REASON)

    def work(session: Session) -> Revocation:
        revocations.exclude_edges(session)
        pin = references.resolve(session, wanted, deleted=True)
        return revocations.revoke(session, pin, " ".join(reason.split()), actor)

    return database.transact(work)


def unrevoke(database: Database, ref: str, *, actor: str) -> Revocation:
    wanted = reference.parse(ref)

    def work(session: Session) -> Revocation:
        revocations.exclude_edges(session)
        pin = references.resolve(session, wanted, deleted=True)
        return revocations.undo(session, pin, actor)

    return database.transact(work)
