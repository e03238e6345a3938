"""What the database holds, checked against the seals of its rows; what other rows determine is mended."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from sqlalchemy.orm import Session

from registry.blobs import BlobStore
from registry.catalog import damaged, rot
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.rot import MOST, Rotten
from registry.errors import DatabaseDamaged
from registry.results import Damage, DatabaseCheck
from registry.verbs._healing import Healer, whole

RESTORE = "restore the database from a backup, or import a bundle of it into a new one: registry import"


def check(database: Database, blobs: BlobStore, healer: Healer | None) -> DatabaseCheck:
    """Every row, and the blobs that no live version has; nothing is raised for damage, it is reported.

    With a ``healer``, what can be mended is.
    """
    found = _rows(database, healer)
    try:
        with database.read() as session:
            left = damaged.unclaimed(session)
    except DatabaseDamaged:  # which is reported already
        left = []
    bad = [_blob(digest, healer) for digest in left if not whole(blobs, digest)]
    open_ = [each for each in bad if not each.repaired]
    return found.model_copy(
        update={
            "ok": found.ok and not open_,
            "problems": (*found.problems, *(_line(each.table, each.row, each.problem) for each in open_)),
            "damage": (*found.damage, *bad),
            "quarantined": tuple(name for name, _, _ in blobs.quarantined()),
        }
    )


def _blob(digest: str, healer: Healer | None) -> Damage:
    healed = "" if healer is None else healer.heal(digest)
    said = "its bytes are missing or damaged, and belong to no live version"
    return Damage(
        table="blobs",
        row=digest,
        problem=f"{said}; healed from {healed}" if healed else said,
        repaired=bool(healed),
    )


def _rows(database: Database, healer: Healer | None) -> DatabaseCheck:
    found = _look(database)
    if healer is None or not any(each.derived for each in found.damage):
        return found
    database.transact(lambda session: _mend(session, found, healer.actor))
    again = _look(database)
    left = {(each.table, each.row, each.problem) for each in again.damage}
    mended = [
        each.model_copy(update={"repaired": True})
        for each in found.damage
        if each.derived and (each.table, each.row, each.problem) not in left
    ]
    return again.model_copy(update={"damage": (*mended, *again.damage)})


def problems_of(session: Session, version_id: int) -> tuple[str, ...]:
    """What is damaged of the rows that a version consists of, a line each."""
    return tuple(_line(each.table, each.row, each.problem) for each in rot.of_version(session, version_id))


def _look(database: Database) -> DatabaseCheck:
    found: list[Rotten] = []
    more, refs, note = 0, dict[int, str](), None
    try:
        with database.read() as session:
            note = rot.unchecked(session)
            findings = rot.findings(session)
            found.extend(islice(findings, MOST))
            more = sum(1 for _ in findings)
            refs = rot.refs(session, (row_id for each in found for row_id in each.versions))
    except DatabaseDamaged as error:  # so damaged that it cannot be read to its end
        found.append(Rotten("", "", error.message))
    return _report(found, refs, more, [] if note is None else [note])


def _report(found: Iterable[Rotten], refs: dict[int, str], more: int, notes: list[str]) -> DatabaseCheck:
    damage = tuple(
        Damage(
            table=each.table,
            row=each.row,
            problem=each.problem,
            versions=tuple(refs.get(row_id, f"id {row_id}") for row_id in each.versions),
            derived=each.derived,
        )
        for each in found
    )
    return DatabaseCheck(
        ok=not damage,
        problems=tuple(_line(each.table, each.row, each.problem) for each in damage),
        damage=damage,
        more=more,
        notes=tuple(notes),
    )


def _mend(session: Session, found: DatabaseCheck, actor: str) -> None:
    rot.mend(session)
    tables = sorted({each.table for each in found.damage if each.derived})
    record(session, actor, "repair", "database", tables=tables)


def _line(table: str, row: str, problem: str) -> str:
    return f"{table}, {row}: {problem}" if row else problem
