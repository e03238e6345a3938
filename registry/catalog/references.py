"""From a reference to the version it means, in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from registry.catalog.tables import AdapterRow, AliasRow, ArtifactRow, BaseModelRow, VersionRow
from registry.errors import NotFound, UsageError
from registry.reference import Reference
from registry.results import BaseModelIdentity, Pinned

T = TypeVar("T")
_SUGGESTIONS_FROM = 10_000


@dataclass(frozen=True)
class Pin:
    """A version as composing and reading need it: who it is, and what its content is."""

    id: int
    adapter_id: int
    name: str
    number: int
    digest: str
    kind: str
    rank: int | None
    parameters: int
    modules: int
    dtype: str
    size: int
    not_composable: tuple[str, ...]
    base_model_id: int
    base_model: BaseModelIdentity
    recipe_digest: str | None
    task: str | None
    license: str | None
    deleted: bool
    origin: str | None = None

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"


def resolve(session: Session, reference: Reference, *, deleted: bool = False) -> Pin:
    """The version that ``reference`` means now. Tombstones are found only with ``deleted``.

    Raises ``NotFound``, saying what is there instead, and ``UsageError`` for a digest start that fits several.
    """
    found = _found(session, reference)
    if reference.digest is not None and len({row.digest for row in found}) > 1:
        raise UsageError(f"{reference} fits several contents", hint="give more digits of the digest")
    live = [row for row in found if deleted or row.deleted_at is None]
    if not live:
        raise _not_found(session, reference, found[0] if found else None)
    return _pin(live[0])


def pinned(pin: Pin) -> Pinned:
    """What is told of a version that a reference means."""
    return Pinned(
        ref=pin.ref,
        name=pin.name,
        version=pin.number,
        digest=pin.digest,
        kind=pin.kind,
        base_model=pin.base_model,
    )


def adapter(session: Session, name: str, *, lock: bool = False, where: str = "") -> AdapterRow:
    """The adapter called ``name``, regardless of case; ``lock`` holds its row until the transaction ends.

    Raises ``NotFound``, which says ``where`` it was named.
    """
    statement = select(AdapterRow).where(AdapterRow.name_key == name.lower())
    if lock:
        statement = locking(statement)
    row = session.execute(statement).scalar_one_or_none()
    if row is None:
        raise _unknown_name(session, name, where)
    return row


def locked(session: Session, pin: Pin) -> AdapterRow:
    """The pinned version's adapter, held; raises ``NotFound`` where the version was deleted meanwhile."""
    row = adapter(session, pin.name, lock=True)
    if session.get_one(VersionRow, pin.id, populate_existing=True).deleted_at is not None:
        raise NotFound(f"{pin.ref} was deleted meanwhile", hint=f"see: registry log {pin.name}")
    return row


def held(session: Session, adapter_ids: Iterable[int]) -> dict[int, AdapterRow]:
    """These adapters, held until the transaction ends, and with them everything about their versions.

    Whoever needs several takes them here, before any other lock: in the order of their ids nobody waits for
    somebody who waits for him.
    """
    return {row.id: row for row in session.scalars(_ADAPTERS_HELD, {"ids": list(adapter_ids)})}


def locking(statement: Select[T]) -> Select[T]:
    """The statement, holding its rows and reading them anew: what was seen before the lock may be old."""
    return statement.with_for_update().execution_options(populate_existing=True)


_ADAPTERS_HELD = locking(
    select(AdapterRow).where(AdapterRow.id.in_(bindparam("ids", expanding=True))).order_by(AdapterRow.id)
)


def meant(session: Session, reference: Reference) -> list[int]:
    """The row ids of all versions that ``reference`` means, tombstones too: of a digest, each that has it.

    Raises ``NotFound`` where there is none.
    """
    found = _found(session, reference)
    if not found:
        raise _not_found(session, reference, None)
    return [row.id for row in found]


_REF = (
    select(AdapterRow.name, VersionRow.number)
    .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
    .where(VersionRow.id == bindparam("version"))
)


def ref_of(session: Session, row_id: int) -> str:
    """How a version is called."""
    row = session.execute(_REF, {"version": row_id}).one()
    return f"{row.name}@{row.number}"


def _found(session: Session, reference: Reference) -> Sequence[Any]:
    statement, values = _statement(reference)
    return session.connection().execute(statement, values).all()


def _statement(reference: Reference) -> tuple[Select[*tuple[Any, ...]], dict[str, Any]]:
    if reference.digest is not None:
        # The end of the range is the first text after every digest that starts so.
        return _STATEMENTS["digest"], {"start": reference.digest, "end": reference.digest + "g"}
    name = (reference.name or "").lower()
    if reference.version is not None:
        return _STATEMENTS["version"], {"name": name, "number": reference.version}
    if reference.alias is not None:
        return _STATEMENTS["alias"], {"name": name, "alias": reference.alias.lower()}
    return _STATEMENTS["latest"], {"name": name}


def _statements() -> dict[str, Select[*tuple[Any, ...]]]:
    """One for each way to refer to a version, built once: their text never changes, so that plans are kept."""
    versions, adapters = VersionRow.__table__, AdapterRow.__table__
    artifacts, bases, aliases = ArtifactRow.__table__, BaseModelRow.__table__, AliasRow.__table__
    version, artifact, base = versions.c, artifacts.c, bases.c
    columns: list[Any] = [
        version.id, version.adapter_id, adapters.c.name, version.number, artifact.digest, artifact.kind,
        artifact.rank, artifact.parameters, artifact.modules, artifact.dtype, artifact.size,
        artifact.not_composable, version.base_model_id, base.repo, base.revision, base.fingerprint,
        version.recipe_digest, version.task, version.license, version.deleted_at, version.origin,
    ]  # fmt: skip
    pinned = select(*columns).where(
        version.artifact_digest == artifact.digest, version.base_model_id == base.id
    )
    of_line = version.adapter_id == adapters.c.id
    named = pinned.where(adapters.c.name_key == bindparam("name"))
    digest = (version.artifact_digest >= bindparam("start"), version.artifact_digest < bindparam("end"))
    at = (
        aliases.c.adapter_id == adapters.c.id,
        aliases.c.alias_key == bindparam("alias"),
        aliases.c.version_id == version.id,
        aliases.c.number == version.number,  # SQLite gives the id of a row that was lost to the next one
    )
    return {
        "digest": pinned.where(of_line, *digest).order_by(version.id).limit(100),
        "version": named.where(of_line, version.number == bindparam("number")),
        "alias": named.where(of_line, *at),
        # Without the line, so that SQLite takes no other index.
        "latest": named.where(version.latest_of == adapters.c.id),
    }


_STATEMENTS = _statements()


def _pin(row: Any) -> Pin:
    return Pin(
        id=row.id,
        adapter_id=row.adapter_id,
        name=row.name,
        number=row.number,
        digest=row.digest,
        kind=row.kind,
        rank=row.rank,
        parameters=row.parameters,
        modules=row.modules,
        dtype=row.dtype,
        size=row.size,
        not_composable=tuple(row.not_composable),
        base_model_id=row.base_model_id,
        base_model=BaseModelIdentity(
            repo=row.repo, revision=row.revision or None, fingerprint=row.fingerprint
        ),
        recipe_digest=row.recipe_digest,
        task=row.task,
        license=row.license,
        deleted=row.deleted_at is not None,
        origin=row.origin,
    )


def base_identity(row: BaseModelRow) -> BaseModelIdentity:
    return BaseModelIdentity(repo=row.repo, revision=row.revision or None, fingerprint=row.fingerprint)


def _not_found(session: Session, reference: Reference, tombstone: Any) -> NotFound:
    where = f" at column {reference.column}" if reference.column > 1 else ""
    if tombstone is not None:
        when = tombstone.deleted_at.date().isoformat()
        return NotFound(
            f"{reference}{where} was deleted on {when}", hint=f"see: registry log {reference.name}"
        )
    if reference.digest is not None:
        return NotFound(f"no version has the content {reference}{where}")
    row = adapter(session, reference.name or "", where=where)
    if reference.version is not None:
        return NotFound(
            f"{row.name} has no version {reference.version}{where}", hint=f"its last is {row.last_version}"
        )
    if reference.alias is not None:
        query = select(AliasRow.alias).where(AliasRow.adapter_id == row.id).order_by(AliasRow.alias_key)
        known = ", ".join(session.scalars(query)) or "none"
        return NotFound(f"{row.name} has no alias {reference.alias!r}{where}", hint=f"its aliases: {known}")
    return NotFound(f"{row.name} has no live version{where}", hint=f"see: registry log {row.name}")


def _unknown_name(session: Session, name: str, where: str) -> NotFound:
    known = session.scalars(
        select(AdapterRow.name).order_by(AdapterRow.name_key).limit(_SUGGESTIONS_FROM)
    ).all()
    import difflib

    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see what there is with: registry list"
    return NotFound(f"there is no adapter called {name!r}{where}", hint=hint)
