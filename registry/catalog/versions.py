"""Writing versions: numbers from the adapter's counter, content deduplicated, lineage and event included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry.catalog import artifacts, references, revocations, words
from registry.catalog.artifacts import Content
from registry.catalog.database import insert_or_ignore
from registry.catalog.events import now, record
from registry.catalog.references import Pin
from registry.catalog.tables import (
    AdapterRow,
    AliasRow,
    ArtifactFileRow,
    ArtifactRow,
    BaseModelRow,
    FollowedRow,
    LineageRow,
    NameWordRow,
    TagRow,
    VersionRow,
)
from registry.errors import Conflict, Incompatible, IntegrityFailure
from registry.recipe import Recipe
from registry.results import BaseModelIdentity


@dataclass(frozen=True)
class Edge:
    """A parent of a new version."""

    version_id: int
    relation: Literal["input", "declared"]
    coefficient: str | None = None


@dataclass(frozen=True)
class Followed:
    """A reference of an expression that moves: an alias (its key), or the latest (``""``), and what it meant."""

    adapter_id: int
    alias_key: str
    pinned_id: int


@dataclass(frozen=True)
class Draft:
    """A version about to be written. ``recipe``, ``expression`` and ``resolved`` go together, or are all None."""

    name: str
    content: Content
    base_model: BaseModelIdentity
    actor: str
    recipe: Recipe | None = None
    expression: str | None = None
    resolved: str | None = None
    parents: Sequence[Edge] = ()
    followed: Sequence[Followed] = ()
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None
    note: str | None = None
    source: str | None = None
    new: bool = False


def write(session: Session, draft: Draft) -> tuple[int, bool]:
    """Write the draft as the adapter's next version; returns its row id and whether it is new.

    An import whose content the adapter has, or a composition whose recipe it has, is found instead. Raises
    ``Conflict`` where the name means something else, or a parent was deleted meanwhile.
    """
    adapter, existed = _adapter(session, draft)
    base = base_model(session, draft.base_model)
    if existed:
        _check_line(session, adapter, draft.content.kind, draft.base_model)
        if (found := _same(session, adapter, draft)) is not None:
            return found, False
    check_parents(session, draft.parents)
    artifacts.save(session, draft.content)
    if draft.recipe is not None:
        artifacts.save_recipe(session, draft.recipe)
    adapter.last_version += 1
    session.execute(update(VersionRow).where(VersionRow.latest_of == adapter.id).values(latest_of=None))
    row = VersionRow(
        adapter_id=adapter.id,
        number=adapter.last_version,
        artifact_digest=draft.content.digest,
        base_model_id=base.id,
        recipe_digest=None if draft.recipe is None else draft.recipe.digest,
        expression=draft.expression,
        resolved=draft.resolved,
        task=draft.task,
        license=draft.license,
        note=draft.note,
        source=draft.source,
        latest_of=adapter.id,
        created_at=now(),
        created_by=draft.actor,
    )
    session.add(row)
    session.flush()  # the row's id, for what refers to it
    _attach(session, row, draft)
    _record(session, f"{adapter.name}@{row.number}", draft)
    return row.id, True


def refuse_early(
    session: Session, name: str, *, kind: str, base: BaseModelIdentity, new: bool = False
) -> None:
    """Raise what :func:`write` would raise for this name and base, before bytes are computed or stored for it."""
    query = select(BaseModelRow).where(
        BaseModelRow.repo == (base.repo or ""), BaseModelRow.revision == (base.revision or "")
    )
    if (known := session.execute(query).scalar_one_or_none()) is not None:
        _check_fingerprint(known, base)
    named = select(AdapterRow).where(AdapterRow.name_key == name.lower())
    if (row := session.execute(named).scalar_one_or_none()) is not None:
        check_name(row, name, new=new)
        _check_line(session, row, kind, base)


def tombstone(session: Session, pin: Pin, actor: str) -> list[str]:
    """Mark a version deleted; returns the live versions derived from it.

    Raises ``Conflict`` while an alias points at it.
    """
    adapter = references.locked(session, pin)
    aliases = session.scalars(
        select(AliasRow.alias).where(AliasRow.adapter_id == adapter.id, AliasRow.number == pin.number)
    ).all()
    if aliases:
        raise Conflict(
            f"{pin.ref} is what {', '.join(f'{pin.name}@{alias}' for alias in sorted(aliases))} points at",
            hint="move or delete the alias first",
        )
    row = session.get_one(VersionRow, pin.id)
    was_latest, row.latest_of = row.latest_of is not None, None
    row.deleted_at, row.deleted_by = now(), actor
    session.flush()
    if was_latest:
        last = session.scalar(
            select(func.max(VersionRow.number)).where(
                VersionRow.adapter_id == adapter.id, VersionRow.deleted_at.is_(None)
            )
        )
        session.execute(
            update(VersionRow)
            .where(VersionRow.adapter_id == adapter.id, VersionRow.number == last)
            .values(latest_of=adapter.id)
        )
    record(session, actor, "delete", pin.ref, digest=pin.digest)
    return _live_children(session, pin.id)


def base_model(session: Session, identity: BaseModelIdentity) -> BaseModelRow:
    """The base model's row. A fingerprint is recorded when first seen; another one is ``Incompatible``."""
    repo, revision = identity.repo or "", identity.revision or ""
    query = select(BaseModelRow).where(BaseModelRow.repo == repo, BaseModelRow.revision == revision)
    row = session.execute(query).scalar_one_or_none()
    if row is None:
        insert_or_ignore(session, BaseModelRow, repo=repo, revision=revision, fingerprint=None)
        row = session.execute(query).scalar_one()
    set_fingerprint(session, row.id, identity)
    return row


def set_fingerprint(session: Session, base_model_id: int, identity: BaseModelIdentity) -> None:
    """Record what the base's weights are, once; raises ``Incompatible`` where they are other weights."""
    row = session.execute(
        references.locking(select(BaseModelRow).where(BaseModelRow.id == base_model_id))
    ).scalar_one()
    _check_fingerprint(row, identity)
    row.fingerprint = row.fingerprint or identity.fingerprint


def _check_fingerprint(row: BaseModelRow, identity: BaseModelIdentity) -> None:
    if row.fingerprint and identity.fingerprint and row.fingerprint != identity.fingerprint:
        raise Incompatible(
            f"these are other weights than those recorded for {references.base_identity(row)}: "
            f"{identity.fingerprint}, not {row.fingerprint}",
            hint="give the base model the adapters were trained on, or name this one with --base REPO@REVISION",
        )


def _adapter(session: Session, draft: Draft) -> tuple[AdapterRow, bool]:
    """The draft's adapter, held together with those of its parents; and whether it has had a version."""
    key = draft.name.lower()
    named = select(AdapterRow.id).where(AdapterRow.name_key == key)
    if (own := session.scalar(named)) is None:
        insert_or_ignore(
            session,
            AdapterRow,
            name=draft.name,
            name_key=key,
            last_version=0,
            created_at=now(),
            created_by=draft.actor,
        )
        own = session.execute(named).scalar_one()  # this one's, or that of another writer who was first
        for word in words.split(draft.name):
            insert_or_ignore(session, NameWordRow, word=word, adapter_id=own)
    parents = [edge.version_id for edge in draft.parents]
    lines = (
        session.scalars(select(VersionRow.adapter_id).where(VersionRow.id.in_(parents))) if parents else ()
    )
    row = references.held(session, {own, *lines})[own]
    existed = row.last_version > 0
    check_name(row, draft.name, new=existed and draft.new)
    return row, existed


def check_parents(session: Session, parents: Sequence[Edge]) -> None:
    """Hold the parents and refuse one that is gone: the new version could never be rebuilt.

    Their adapters are held already, so nobody deletes one, and no collection takes its bytes, from here on.
    """
    if not parents:
        return
    statement = (
        select(VersionRow.id, VersionRow.number, VersionRow.artifact_digest, VersionRow.deleted_at)
        .add_columns(AdapterRow.name)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.id.in_([edge.version_id for edge in parents]))
        .order_by(VersionRow.id)
        .with_for_update(read=True, of=VersionRow)
    )
    found = session.execute(statement).all()
    files = select(ArtifactFileRow.artifact_digest).where(
        ArtifactFileRow.artifact_digest.in_([row.artifact_digest for row in found])
    )
    held = set(session.scalars(files.distinct()))
    inputs = {edge.version_id for edge in parents if edge.relation == "input"}
    for row in found:
        if row.deleted_at is not None:
            raise Conflict(
                f"{row.name}@{row.number} was deleted meanwhile", hint=f"see: registry log {row.name}"
            )
        if row.id in inputs and row.artifact_digest not in held:
            raise IntegrityFailure(
                f"the bytes of {row.name}@{row.number} are not held",
                hint="add it again, or restore its blobs",
            )


def check_name(row: AdapterRow, name: str, *, new: bool) -> None:
    if row.name != name:
        raise Conflict(
            f"{name!r} differs only by case from {row.name!r}", hint=f"use {row.name}, or another name"
        )
    if new:
        raise Conflict(
            f"the name {row.name} is taken", hint="leave out --new to add the next version, or choose another"
        )


def _check_line(session: Session, adapter: AdapterRow, kind: str, base: BaseModelIdentity) -> None:
    """An adapter's versions are one kind on one base model: anything else would be another adapter."""
    statement = (
        select(ArtifactRow.kind, BaseModelRow.repo)
        .select_from(VersionRow)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
        .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
        .where(VersionRow.latest_of == adapter.id)
    )
    latest = session.execute(statement).one_or_none()
    if latest is None:
        return
    check_line(adapter.name, (latest.kind, latest.repo), (kind, base.repo))


def check_line(name: str, there: tuple[str, str | None], here: tuple[str, str | None]) -> None:
    """Raise ``Conflict`` unless the kind and base model of an adapter's versions are those of a new one."""
    if there != here:
        raise Conflict(
            f"the name {name} is taken by {there[0]} adapters on {there[1]}; this is {here[0]} on {here[1]}",
            hint="choose another name",
        )


def _same(session: Session, adapter: AdapterRow, draft: Draft) -> int | None:
    statement = select(VersionRow.id).where(
        VersionRow.adapter_id == adapter.id, VersionRow.deleted_at.is_(None)
    )
    if draft.recipe is None:
        statement = statement.where(VersionRow.artifact_digest == draft.content.digest)
    else:
        statement = statement.where(VersionRow.recipe_digest == draft.recipe.digest)
    return session.scalars(statement.order_by(VersionRow.number.desc()).limit(1)).first()


def _attach(session: Session, row: VersionRow, draft: Draft) -> None:
    session.add_all(TagRow(version_id=row.id, key=key, value=value) for key, value in draft.tags.items())
    session.add_all(
        LineageRow(
            child_id=row.id,
            position=position,
            parent_id=edge.version_id,
            relation=edge.relation,
            coefficient=edge.coefficient,
        )
        for position, edge in enumerate(draft.parents)
    )
    session.add_all(
        FollowedRow(
            version_id=row.id,
            adapter_id=each.adapter_id,
            alias_key=each.alias_key,
            pinned_id=each.pinned_id,
        )
        for each in draft.followed
    )
    session.flush()
    words.add(session, row.id, words.of_version(draft.note, draft.tags))
    if draft.parents:
        revocations.inherit(session, row.id)


def _record(session: Session, ref: str, draft: Draft) -> None:
    said = told(draft)
    record(session, draft.actor, said["action"], ref, **said["detail"])


def told(draft: Draft) -> dict[str, Any]:
    """What a version's event says of how it came about."""
    detail = {"digest": draft.content.digest, "expression": draft.expression, "source": draft.source}
    return {"action": "import" if draft.recipe is None else "compose", "detail": detail}


def _live_children(session: Session, version_id: int) -> list[str]:
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .select_from(LineageRow)
        .join(VersionRow, LineageRow.child_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(LineageRow.parent_id == version_id, VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.id)
    )
    return [f"{row.name}@{row.number}" for row in session.execute(statement)]
