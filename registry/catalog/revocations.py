"""Revoked versions, and everything that was derived from one: kept beside each version, so that a listing looks it up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Insert,
    bindparam,
    delete,
    insert,
    literal,
    select,
    text,
    union,
    union_all,
)
from sqlalchemy.orm import Session, aliased

from registry.catalog.database import chunked, core
from registry.catalog.events import now, record
from registry.catalog.lineage import closure
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, AffectedRow, Identity, LineageRow, RevocationRow, VersionRow
from registry.errors import Conflict, NotFound, Refused
from registry.results import Revocation

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_MARKED = union_all(
    select(RevocationRow.version_id).where(RevocationRow.version_id.in_(_IDS)),
    select(AffectedRow.version_id).where(AffectedRow.version_id.in_(_IDS)),
).limit(1)


@dataclass(frozen=True)
class Cause:
    """Why a version is not to be used: the version that was revoked, itself or one it was derived from, and why."""

    ref: str
    revoked: str
    reason: str

    def __str__(self) -> str:
        how = "was" if self.ref == self.revoked else f"was derived from {self.revoked}, which was"
        return f"{self.ref} {how} revoked: {self.reason}"


def revoke(session: Session, pin: Pin, reason: str, actor: str) -> Revocation:
    """Mark a version as bad, and everything that was derived from it, while :func:`exclude_edges` holds.

    Once more for the same reason changes nothing; raises ``Conflict`` for another one.
    """
    row = session.get(RevocationRow, pin.id)
    if row is not None and row.reason != reason:
        raise Conflict(
            f"{pin.ref} was revoked by {row.revoked_by} before: {row.reason}",
            hint=f"to give another reason, first: registry revoke {pin.ref} --undo",
        )
    changed = row is None
    if row is None:
        row = RevocationRow(version_id=pin.id, reason=reason, revoked_at=now(), revoked_by=actor)
        session.add(row)
        session.flush()
        reached = closure(session, pin.id, "down")
        derived = select(reached.c.id, literal(pin.id, Identity)).where(reached.c.id != pin.id)
        session.execute(insert(AffectedRow).from_select(["version_id", "revoked_id"], derived))
    affected = _affected(session, pin.id)
    if changed:
        record(session, actor, "revoke", pin.ref, reason=reason, affected=len(affected))
    return _revocation(session, pin, row, affected, changed=changed)


def undo(session: Session, pin: Pin, actor: str) -> Revocation:
    """Take a revocation back; what another one marks stays marked; while :func:`exclude_edges` holds.

    Raises ``NotFound`` for a version that is not revoked.
    """
    row = session.get(RevocationRow, pin.id)
    if row is None:
        others = causes(session, [pin.id])[pin.id]
        hint = f"it was derived from {others[0].revoked}, which is" if others else None
        raise NotFound(f"{pin.ref} is not revoked", hint=hint)
    affected = _affected(session, pin.id)
    done = _revocation(session, pin, row, affected).model_copy(update={"undone": True})
    session.execute(delete(AffectedRow).where(AffectedRow.revoked_id == pin.id))
    session.delete(row)
    record(session, actor, "unrevoke", pin.ref, reason=row.reason, affected=len(affected))
    return done


def inherit(session: Session, version_id: int) -> None:
    """Mark a new version as affected by whatever its parents are, or are affected by.

    Its edges are written first: whoever revokes holds the table of edges, so that one of the two sees the other.
    """
    session.execute(_INHERIT, {"version": version_id})


def _inherit() -> Insert:
    version = bindparam("version", type_=Identity)
    parents = select(LineageRow.parent_id).where(LineageRow.child_id == version)
    own = select(RevocationRow.version_id.label("revoked")).where(RevocationRow.version_id.in_(parents))
    theirs = select(AffectedRow.revoked_id.label("revoked")).where(AffectedRow.version_id.in_(parents))
    found = union(own, theirs).subquery()
    return insert(core(AffectedRow)).from_select(
        ["version_id", "revoked_id"], select(version, found.c.revoked)
    )


_INHERIT = _inherit()


def exclude_edges(session: Session) -> None:
    """Until this transaction ends nobody writes edges: a child that is being written is seen, or sees this.

    Taken before anything else, so that nobody waits for somebody who waits for him; SQLite's write lock does it by
    itself.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE lineage IN SHARE ROW EXCLUSIVE MODE"))


def await_edges(session: Session) -> None:
    """Wait for whoever revokes, before anything else is locked: a writer of edges would later, holding rows."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE lineage IN ROW EXCLUSIVE MODE"))


def causes(session: Session, version_ids: Iterable[int]) -> dict[int, list[Cause]]:
    """Why each of these versions is not to be used, for those that are revoked or affected.

    One statement where none is, which is the rule.
    """
    ids = list(version_ids)
    if session.connection().execute(_MARKED, {"ids": ids}).first() is None:
        return defaultdict(list)
    own = select(RevocationRow.version_id, RevocationRow.version_id.label("revoked_id"))
    theirs = select(AffectedRow.version_id, AffectedRow.revoked_id)
    marks = union_all(
        own.where(RevocationRow.version_id.in_(ids)), theirs.where(AffectedRow.version_id.in_(ids))
    ).subquery()
    bad, adapter, bad_adapter = aliased(VersionRow), aliased(AdapterRow), aliased(AdapterRow)
    statement = (
        select(
            VersionRow.id,
            adapter.name,
            VersionRow.number,
            bad_adapter.name.label("bad_name"),
            bad.number.label("bad_number"),
            RevocationRow.reason,
        )
        .select_from(marks)
        .join(VersionRow, VersionRow.id == marks.c.version_id)
        .join(adapter, adapter.id == VersionRow.adapter_id)
        .join(RevocationRow, RevocationRow.version_id == marks.c.revoked_id)
        .join(bad, bad.id == marks.c.revoked_id)
        .join(bad_adapter, bad_adapter.id == bad.adapter_id)
        .order_by(VersionRow.id, bad.id)
    )
    found: dict[int, list[Cause]] = defaultdict(list)
    for row in session.execute(statement):
        ref, revoked = f"{row.name}@{row.number}", f"{row.bad_name}@{row.bad_number}"
        found[row.id].append(Cause(ref, revoked, row.reason))
    return found


def refuse(session: Session, pins: Iterable[Pin], what: str) -> None:
    """Raise ``Refused`` where one of these versions is revoked or affected: ``what`` is not done with it."""
    given = {pin.id: pin for pin in pins}
    for found in causes(session, given).values():
        hint = f"use another version; what it reached: registry impact {found[0].revoked}"
        raise Refused(f"{what}: {found[0]}{_more(found)}", hint=hint)


def warnings(session: Session, version_id: int) -> tuple[str, ...]:
    """The same as warnings, for what is still allowed."""
    return tuple(str(cause) for cause in causes(session, [version_id])[version_id])


def twins(session: Session, version_id: int, digest: str) -> tuple[str, ...]:
    """Warnings that a version's content was revoked as another one."""
    return _twins(session, [digest])(version_id, digest)


def twins_among(session: Session, versions: Mapping[int, tuple[str, str]]) -> tuple[str, ...]:
    """What :func:`twins` says of many versions: their row ids with what they are called and their content digests."""
    found: list[str] = []
    for some in chunked([*versions]):
        twin = _twins(session, {versions[row_id][1] for row_id in some})
        for row_id in some:
            name, digest = versions[row_id]
            found += [f"{name}: {said}" for said in twin(row_id, digest)]
    return tuple(found)


def told(session: Session, digests: Mapping[int, str]) -> dict[int, tuple[str, ...]]:
    """What :func:`warnings` and :func:`twins` say, of many versions: their row ids with their content digests."""
    found: dict[int, tuple[str, ...]] = {}
    for some in chunked([*digests]):
        reasons, twin = causes(session, some), _twins(session, {digests[row_id] for row_id in some})
        for row_id in some:
            found[row_id] = (*map(str, reasons.get(row_id, ())), *twin(row_id, digests[row_id]))
    return found


def _twins(session: Session, digests: Collection[str]) -> Callable[[int, str], tuple[str, ...]]:
    """Of these contents, what :func:`twins` says of a version with one of them."""
    statement = (
        select(VersionRow.artifact_digest, VersionRow.id, AdapterRow.name, VersionRow.number)
        .add_columns(RevocationRow.reason)
        .select_from(VersionRow)
        .join(RevocationRow, RevocationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.artifact_digest.in_(digests))
        .order_by(VersionRow.id)
    )
    rows = session.execute(statement).all()
    return lambda version_id, digest: tuple(
        f"this is the content of {row.name}@{row.number}, which was revoked: {row.reason}"
        for row in rows
        if row.artifact_digest == digest and row.id != version_id
    )


def reason(session: Session, version_id: int) -> str | None:
    """Why the version was revoked, if it was."""
    return session.scalar(select(RevocationRow.reason).where(RevocationRow.version_id == version_id))


def _affected(session: Session, revoked_id: int) -> tuple[str, ...]:
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .select_from(AffectedRow)
        .join(VersionRow, VersionRow.id == AffectedRow.version_id)
        .join(AdapterRow, AdapterRow.id == VersionRow.adapter_id)
        .where(AffectedRow.revoked_id == revoked_id)
        .order_by(VersionRow.id)
    )
    return tuple(f"{row.name}@{row.number}" for row in session.execute(statement))


def _copies(session: Session, pin: Pin) -> tuple[str, ...]:
    """Other live versions with this content, which nobody revoked."""
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .select_from(VersionRow)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .outerjoin(RevocationRow, RevocationRow.version_id == VersionRow.id)
        .where(VersionRow.artifact_digest == pin.digest, VersionRow.id != pin.id)
        .where(VersionRow.deleted_at.is_(None), RevocationRow.version_id.is_(None))
        .order_by(VersionRow.id)
    )
    return tuple(f"{row.name}@{row.number}" for row in session.execute(statement))


def _revocation(
    session: Session, pin: Pin, row: RevocationRow, affected: tuple[str, ...], *, changed: bool = True
) -> Revocation:
    return Revocation(
        ref=pin.ref,
        digest=pin.digest,
        reason=row.reason,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
        affected=affected,
        copies=_copies(session, pin),
        changed=changed,
    )


def _more(found: list[Cause]) -> str:
    return "" if len(found) == 1 else f" (and {len(found) - 1} more)"
