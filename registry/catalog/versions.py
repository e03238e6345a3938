"""Writing versions: numbers from the adapter's counter, content deduplicated, lineage and event included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import Row, and_, bindparam, case, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningInsert

from registry.base_layout import BaseLayout
from registry.catalog import artifacts, bases, database, references, revocations, seals, words
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
    WordRow,
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
class Line:
    """What all versions of an adapter share: anything else would be another adapter."""

    kind: str
    base: BaseModelIdentity


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
    source_revision: str | None = None
    origin: str | None = None
    base_layout: BaseLayout | None = None
    new: bool = False
    rebuilt: Pin | None = None
    """The version of this line that is made again, which has to be its latest still."""


def write(session: Session, draft: Draft) -> tuple[int, bool]:
    """Write the draft as the adapter's next version; returns its row id and whether it is new.

    An import whose content the adapter has, or a composition whose recipe it has, is found instead; of a
    rebuild only what another one made. Raises ``Conflict`` where the name means something else, a parent was
    deleted meanwhile, or a rebuilt version is not the latest any more.
    """
    if draft.parents:
        revocations.await_edges(session)
    adapter, existed = _adapter(session, draft)
    base = base_model(session, draft.base_model)
    if draft.base_layout is not None and base.fingerprint is not None:
        bases.save_layout(session, base.fingerprint, draft.base_layout)
    if existed and (found := _continued(session, adapter, draft, base)) is not None:
        _hold(session, found, draft)
        return found, False
    if draft.rebuilt is not None:
        _check_latest(session, draft.rebuilt)
    check_parents(session, draft.parents, held=draft.origin is None)
    connection, number = session.connection(), adapter.last_version + 1
    with database.batched(session):
        artifacts.save(session, draft.content)
        if draft.recipe is not None:
            artifacts.save_recipe(session, draft.recipe)
        connection.execute(_COUNT, {"adapter": adapter.id})
        connection.execute(_NOT_LATEST, {"adapter": adapter.id})
    values = values_of(draft, adapter.id, number, base.id, latest=True, at=now())
    statement = _version(connection.dialect.name)
    row_id = int(connection.execute(statement, seals.sealed(_VERSIONS, values)).scalar_one())
    with database.batched(session):
        _attach(session, row_id, draft)
        _record(session, f"{adapter.name}@{number}", draft)
    return row_id, True


def values_of(
    draft: Draft, adapter_id: int, number: int, base_model_id: int, *, latest: bool, at: datetime
) -> dict[str, Any]:
    """A version's own row."""
    return {
        "adapter_id": adapter_id,
        "number": number,
        "artifact_digest": draft.content.digest,
        "base_model_id": base_model_id,
        "recipe_digest": None if draft.recipe is None else draft.recipe.digest,
        "expression": draft.expression,
        "resolved": draft.resolved,
        "task": draft.task,
        "license": draft.license,
        "note": draft.note,
        "source": draft.source,
        "source_revision": draft.source_revision,
        "origin": draft.origin,
        "latest_of": adapter_id if latest else None,
        "created_at": at,
        "created_by": draft.actor,
    }


def refuse_early(
    session: Session, name: str, *, kind: str, base: BaseModelIdentity, new: bool = False
) -> None:
    """Raise what :func:`write` would raise for this name and base, before bytes are computed or stored for it."""
    query = select(BaseModelRow).where(
        BaseModelRow.repo == (base.repo or ""), BaseModelRow.revision == (base.revision or "")
    )
    if (known := session.execute(query).scalar_one_or_none()) is not None:
        _check_fingerprint(known, base)
        base = base if base.fingerprint else references.base_identity(known)
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
            f"{pin.ref} is what {', '.join(f'{pin.name}@{alias}' for alias in sorted(aliases))} "
            f"{'points' if len(aliases) == 1 else 'point'} at",
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
    named = {"repo": repo, "revision": revision}
    row = session.execute(_BASE, named).scalar_one_or_none()
    if row is None:
        insert_or_ignore(session, BaseModelRow, repo=repo, revision=revision, fingerprint=None)
        row = session.execute(_BASE, named).scalar_one()
    if identity.fingerprint is not None and identity.fingerprint != row.fingerprint:
        set_fingerprint(session, row.id, identity)
    return row


def set_fingerprint(session: Session, base_model_id: int, identity: BaseModelIdentity) -> None:
    """Record what the base's weights are, once; raises ``Incompatible`` where they are other weights."""
    row = session.execute(
        references.locking(select(BaseModelRow).where(BaseModelRow.id == base_model_id))
    ).scalar_one()
    _check_fingerprint(row, identity)
    row.fingerprint = row.fingerprint or identity.fingerprint
    session.flush()


def _check_fingerprint(row: BaseModelRow, identity: BaseModelIdentity) -> None:
    if row.fingerprint and identity.fingerprint and row.fingerprint != identity.fingerprint:
        raise Incompatible(
            f"these are other weights than those recorded for {references.base_identity(row)}: "
            f"{identity.fingerprint}, not {row.fingerprint}",
            hint="give the base model the adapters were trained on, or name this one with --base REPO@REVISION",
        )


_ADAPTERS, _VERSIONS = database.core(AdapterRow), database.core(VersionRow)
_ADAPTER = _ADAPTERS.c
_NAMED = select(_ADAPTER.id, _ADAPTER.name, _ADAPTER.last_version).where(
    _ADAPTER.name_key == bindparam("key")
)
_HOLD = _NAMED.with_for_update()
_COUNT = (
    update(_ADAPTERS)
    .where(_ADAPTER.id == bindparam("adapter"))
    .values(last_version=_ADAPTER.last_version + 1)
)
_NOT_LATEST = update(_VERSIONS).where(_VERSIONS.c.latest_of == bindparam("adapter")).values(latest_of=None)
_LATEST = (
    select(ArtifactRow.kind, BaseModelRow.repo, BaseModelRow.fingerprint)
    .select_from(VersionRow)
    .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
    .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
    .where(VersionRow.latest_of == bindparam("adapter"))
)
_OTHER = aliased(VersionRow)
_SAME = (
    select(_OTHER.id)
    # Not by an index: the content or the recipe finds few rows, the adapter may have very many.
    .where(_OTHER.adapter_id + 0 == bindparam("adapter"), _OTHER.deleted_at.is_(None))
    .order_by(_OTHER.number.desc())
    .limit(1)
)
_LATEST_AND_CONTENT = _LATEST.add_columns(
    _SAME.where(_OTHER.artifact_digest == bindparam("digest")).scalar_subquery().label("same")
)
# What somebody else says that a recipe gave is not what it gave here, unless it is the same.
_LATEST_AND_RECIPE = _LATEST.add_columns(
    _SAME.where(
        _OTHER.recipe_digest == bindparam("digest"),
        or_(_OTHER.origin.is_(None), _OTHER.artifact_digest == bindparam("content")),
    )
    .scalar_subquery()
    .label("same")
)
_REMADE = _LATEST.add_columns(
    # Only what somebody else made of it: back to an old recipe is a step on, too.
    case(
        (
            and_(
                VersionRow.recipe_digest == bindparam("digest"),
                VersionRow.id != bindparam("rebuilt"),
                or_(VersionRow.origin.is_(None), VersionRow.artifact_digest == bindparam("content")),
            ),
            VersionRow.id,
        )
    ).label("same")
)
_LINES = select(_VERSIONS.c.adapter_id).where(_VERSIONS.c.id.in_(bindparam("ids", expanding=True)))
_PARENTS = (
    select(VersionRow.id, VersionRow.number, VersionRow.artifact_digest, VersionRow.deleted_at)
    .add_columns(AdapterRow.name)
    .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
    .where(VersionRow.id.in_(bindparam("ids", expanding=True)))
    .order_by(VersionRow.id)
    .with_for_update(read=True, of=VersionRow)
)
_HELD_OF = (
    select(ArtifactFileRow.artifact_digest)
    .where(ArtifactFileRow.artifact_digest.in_(bindparam("digests", expanding=True)))
    .distinct()
)
_BASE = select(BaseModelRow).where(
    BaseModelRow.repo == bindparam("repo"), BaseModelRow.revision == bindparam("revision")
)


@cache
def _version(dialect: str) -> ReturningInsert[int]:
    return seals.inserting(insert(_VERSIONS), _VERSIONS, dialect).returning(_VERSIONS.c.id)


def _adapter(session: Session, draft: Draft) -> tuple[Row[int, str, int], bool]:
    """The draft's adapter, held together with those of its parents; and whether it has had a version."""
    key, connection = draft.name.lower(), session.connection()
    if (
        row := connection.execute(_HOLD if not draft.parents else _NAMED, {"key": key}).one_or_none()
    ) is None:
        insert_or_ignore(
            session,
            AdapterRow,
            name=draft.name,
            name_key=key,
            last_version=0,
            created_at=now(),
            created_by=draft.actor,
        )
        # This one's row, or that of another writer who was first.
        row = connection.execute(_HOLD if not draft.parents else _NAMED, {"key": key}).one()
        for word in words.split(draft.name):
            insert_or_ignore(session, NameWordRow, word=word, adapter_id=row.id)
    if draft.parents:
        parents = [edge.version_id for edge in draft.parents]
        lines = session.scalars(_LINES, {"ids": parents})
        references.held(session, {row.id, *lines})
        row = connection.execute(_NAMED, {"key": key}).one()
    existed = row.last_version > 0
    check_name(row, draft.name, new=existed and draft.new)
    return row, existed


def check_parents(session: Session, parents: Sequence[Edge], *, held: bool = True) -> None:
    """Hold the parents and refuse one that is gone: the new version could never be rebuilt.

    Their adapters are held already, so nobody deletes one, and no collection takes its bytes, from here on. With
    ``held`` their bytes have to be here, without which nothing was computed from them here.
    """
    if not parents:
        return
    found = session.execute(_PARENTS, {"ids": [edge.version_id for edge in parents]}).all()
    here: set[str] = set()
    if held:
        digests = {"digests": [row.artifact_digest for row in found]}
        here.update(session.scalars(_HELD_OF, digests))
    inputs = {edge.version_id for edge in parents if edge.relation == "input"}
    for row in found:
        if row.deleted_at is not None:
            raise Conflict(
                f"{row.name}@{row.number} was deleted meanwhile", hint=f"see: registry log {row.name}"
            )
        if held and row.id in inputs and row.artifact_digest not in here:
            raise IntegrityFailure(
                f"the bytes of {row.name}@{row.number} are not held",
                hint="add it again, or restore its blobs",
            )


def check_name(row: AdapterRow | Row[int, str, int], name: str, *, new: bool) -> None:
    if row.name != name:
        raise Conflict(
            f"{name!r} differs only by case from {row.name!r}", hint=f"use {row.name}, or another name"
        )
    if new:
        raise Conflict(
            f"the name {row.name} is taken", hint="leave out --new to add the next version, or choose another"
        )


def _check_line(
    session: Session, adapter: AdapterRow | Row[int, str, int], kind: str, base: BaseModelIdentity
) -> None:
    latest = session.connection().execute(_LATEST, {"adapter": adapter.id}).one_or_none()
    if latest is not None:
        check_line(adapter.name, _line(latest), Line(kind, base))


def _line(latest: Any) -> Line:
    return Line(latest.kind, BaseModelIdentity(repo=latest.repo, fingerprint=latest.fingerprint))


def check_line(name: str, there: Line, here: Line) -> None:
    """Raise ``Conflict`` unless a new version is of the kind and on the base model of the adapter's others."""
    same = here.base.fingerprint is not None and here.base.fingerprint == there.base.fingerprint
    if here.kind != there.kind or not (same or here.base.repo == there.base.repo):
        raise Conflict(
            f"the name {name} is taken by {there.kind} adapters on {there.base.repo}; "
            f"this is {here.kind} on {here.base.repo}",
            hint="choose another name",
        )


def _continued(session: Session, adapter: Row[int, str, int], draft: Draft, base: BaseModelRow) -> int | None:
    """The live version that the draft is already, if there is one; refused where it is of another line."""
    statement, values = _LATEST_AND_CONTENT, {"adapter": adapter.id, "digest": draft.content.digest}
    if draft.recipe is not None and draft.origin is None:  # what is imported is found by what it is
        statement, values["digest"] = _LATEST_AND_RECIPE, draft.recipe.digest
        values["content"] = draft.content.digest
    if draft.rebuilt is not None:
        statement, values["rebuilt"] = _REMADE, draft.rebuilt.id
    latest = session.connection().execute(statement, values).one_or_none()
    if latest is None:  # and so there is no live version at all
        return None
    check_line(adapter.name, _line(latest), Line(draft.content.kind, references.base_identity(base)))
    found: int | None = latest.same
    return found


def _hold(session: Session, row_id: int, draft: Draft) -> None:
    """Keep the bytes of a version that was only known until now."""
    if draft.content.files and artifacts.hold(session, draft.content):
        row = session.get_one(VersionRow, row_id)
        adapter = session.get_one(AdapterRow, row.adapter_id)
        detail = {"digest": draft.content.digest, "source": draft.source}
        record(session, draft.actor, "fetch", f"{adapter.name}@{row.number}", **detail)


def _check_latest(session: Session, rebuilt: Pin) -> None:
    if session.scalar(select(VersionRow.latest_of).where(VersionRow.id == rebuilt.id)) is None:
        raise Conflict(
            f"{rebuilt.ref} is not the latest version of {rebuilt.name} any more",
            hint=f"somebody made another one; see: registry log {rebuilt.name}",
        )


def rows_of(row_id: int, draft: Draft) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What is written beside a version's own row: a table and a row of it, again and again, table by table."""
    for key, value in draft.tags.items():
        yield TagRow, {"version_id": row_id, "key": key, "value": value}
    for position, edge in enumerate(draft.parents):
        yield (
            LineageRow,
            {
                "child_id": row_id,
                "position": position,
                "parent_id": edge.version_id,
                "relation": edge.relation,
                "coefficient": edge.coefficient,
            },
        )
    for each in draft.followed:
        yield FollowedRow, {"version_id": row_id, **vars(each)}
    for word in words.of_version(draft.note, draft.tags):
        yield WordRow, {"word": word, "version_id": row_id}


def _attach(session: Session, row_id: int, draft: Draft) -> None:
    for table, rows in groupby(rows_of(row_id, draft), key=itemgetter(0)):
        database.insert(session, table, *(row for _, row in rows))
    if draft.parents:
        revocations.inherit(session, row_id)


def _record(session: Session, ref: str, draft: Draft) -> None:
    said = told(draft)
    record(session, draft.actor, said["action"], ref, **said["detail"])


def told(draft: Draft) -> dict[str, Any]:
    """What a version's event says of how it came about."""
    detail = {"digest": draft.content.digest, "expression": draft.expression, "source": draft.source}
    if draft.origin is not None:
        return {"action": "import", "detail": {**detail, "origin": draft.origin}}
    if draft.rebuilt is not None:
        return {"action": "rebuild", "detail": {**detail, "of": draft.rebuilt.ref}}
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
