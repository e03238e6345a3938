"""From a reference to the version it means, in one statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from registry.catalog.tables import AdapterRow, AliasRow, ArtifactRow, BaseModelRow, VersionRow
from registry.errors import NotFound, UsageError
from registry.reference import Reference
from registry.results import BaseModelIdentity

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

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"


def resolve(session: Session, reference: Reference, *, deleted: bool = False) -> Pin:
    """The version that ``reference`` means now. Tombstones are found only with ``deleted``.

    Raises ``NotFound``, saying what is there instead, and ``UsageError`` for a digest start that fits several.
    """
    found = session.execute(_statement(reference)).all()
    if reference.digest is not None and len({row.VersionRow.artifact_digest for row in found}) > 1:
        raise UsageError(f"{reference} fits several contents", hint="give more digits of the digest")
    live = [row for row in found if deleted or row.VersionRow.deleted_at is None]
    if not live:
        raise _not_found(session, reference, found[0] if found else None)
    return _pin(live[0])


def adapter(session: Session, name: str, *, lock: bool = False) -> AdapterRow:
    """The adapter called ``name``, regardless of case; ``lock`` holds its row until the transaction ends."""
    statement = select(AdapterRow).where(AdapterRow.name_key == name.lower())
    if lock:
        statement = locking(statement)
    row = session.execute(statement).scalar_one_or_none()
    if row is None:
        raise _unknown_name(session, name)
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
    statement = select(AdapterRow).where(AdapterRow.id.in_(list(adapter_ids))).order_by(AdapterRow.id)
    return {row.id: row for row in session.scalars(locking(statement))}


def locking(statement: Select[T]) -> Select[T]:
    """The statement, holding its rows and reading them anew: what was seen before the lock may be old."""
    return statement.with_for_update().execution_options(populate_existing=True)


def _statement(reference: Reference) -> Select[VersionRow, AdapterRow, ArtifactRow, BaseModelRow]:
    statement = (
        select(VersionRow, AdapterRow, ArtifactRow, BaseModelRow)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
        .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
    )
    if reference.digest is not None:
        # The end of the range is the first text after every digest that starts so.
        start = reference.digest
        return (
            statement.where(VersionRow.artifact_digest >= start, VersionRow.artifact_digest < start + "g")
            .order_by(VersionRow.id)
            .limit(100)
        )
    statement = statement.where(AdapterRow.name_key == (reference.name or "").lower())
    if reference.version is not None:
        return statement.where(VersionRow.number == reference.version)
    if reference.alias is not None:
        return statement.join(
            AliasRow, (AliasRow.adapter_id == VersionRow.adapter_id) & (AliasRow.number == VersionRow.number)
        ).where(AliasRow.alias_key == reference.alias.lower())
    return statement.where(VersionRow.latest_of == AdapterRow.id)


def _pin(row: Any) -> Pin:
    version, name, artifact, base = row.VersionRow, row.AdapterRow, row.ArtifactRow, row.BaseModelRow
    return Pin(
        id=version.id,
        adapter_id=version.adapter_id,
        name=name.name,
        number=version.number,
        digest=artifact.digest,
        kind=artifact.kind,
        rank=artifact.rank,
        parameters=artifact.parameters,
        modules=artifact.modules,
        dtype=artifact.dtype,
        size=artifact.size,
        not_composable=tuple(artifact.not_composable),
        base_model_id=base.id,
        base_model=base_identity(base),
        recipe_digest=version.recipe_digest,
        task=version.task,
        license=version.license,
        deleted=version.deleted_at is not None,
    )


def base_identity(row: BaseModelRow) -> BaseModelIdentity:
    return BaseModelIdentity(repo=row.repo, revision=row.revision or None, fingerprint=row.fingerprint)


def _not_found(session: Session, reference: Reference, tombstone: Any) -> NotFound:
    where = f" at column {reference.column}" if reference.column > 1 else ""
    if tombstone is not None:
        when = tombstone.VersionRow.deleted_at.date().isoformat()
        return NotFound(
            f"{reference}{where} was deleted on {when}", hint=f"see: registry log {reference.name}"
        )
    if reference.digest is not None:
        return NotFound(f"no version has the content {reference}{where}")
    row = adapter(session, reference.name or "")
    if reference.version is not None:
        return NotFound(
            f"{row.name} has no version {reference.version}{where}", hint=f"its last is {row.last_version}"
        )
    if reference.alias is not None:
        query = select(AliasRow.alias).where(AliasRow.adapter_id == row.id).order_by(AliasRow.alias_key)
        known = ", ".join(session.scalars(query)) or "none"
        return NotFound(f"{row.name} has no alias {reference.alias!r}{where}", hint=f"its aliases: {known}")
    return NotFound(f"{row.name} has no live version{where}", hint=f"see: registry log {row.name}")


def _unknown_name(session: Session, name: str) -> NotFound:
    known = session.scalars(
        select(AdapterRow.name).order_by(AdapterRow.name_key).limit(_SUGGESTIONS_FROM)
    ).all()
    import difflib

    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see what there is with: registry list"
    return NotFound(f"there is no adapter called {name!r}", hint=hint)
