"""Where versions came from: their ancestors, and what is held or only known of the contents that others tell of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from registry.catalog import lineage
from registry.catalog.database import chunked, insert_or_ignore
from registry.catalog.events import now
from registry.catalog.references import base_identity
from registry.catalog.tables import (
    AdapterRow,
    ArtifactFileRow,
    ArtifactRow,
    BaseModelRow,
    LineageRow,
    NameWordRow,
    PublicationRow,
    VersionRow,
)
from registry.catalog.words import split
from registry.results import BaseModelIdentity

_HELD = exists().where(ArtifactFileRow.artifact_digest == VersionRow.artifact_digest)
_HUB = "hf://"


@dataclass(frozen=True)
class Here:
    """A live version of this catalog with some content."""

    id: int
    ref: str
    adapter_id: int
    base: BaseModelIdentity
    held: bool


@dataclass(frozen=True)
class LineHere:
    """An adapter as it is: what its versions share, and who told of them.

    ``only_known`` says that none was ever held here, ``owners`` are the Hub's owners whose word they are.
    """

    id: int
    name: str
    kind: str | None
    base: BaseModelIdentity | None
    only_known: bool
    owners: frozenset[str]
    last_version: int


@dataclass(frozen=True)
class Source:
    """A version and where on the Hub it came from."""

    ref: str
    name: str
    source: str
    revision: str | None


def ancestors(session: Session, version_id: int, most: int) -> tuple[list[int], bool]:
    """The row ids of a version and of what it was derived from, nearest first, and whether more are left out."""
    reached = lineage.closure(session, version_id, "up")
    onward: dict[int, list[int]] = defaultdict(list)
    edges = select(LineageRow.child_id, LineageRow.parent_id).join(
        reached, LineageRow.child_id == reached.c.id
    )
    for child, parent in session.execute(edges.order_by(LineageRow.child_id, LineageRow.position)):
        onward[child].append(parent)
    found, front = {version_id: None}, [version_id]
    while front:
        front = [each for each in dict.fromkeys(p for row in front for p in onward[row]) if each not in found]
        found.update(dict.fromkeys(front))
    return list(found)[:most], len(found) > most


def with_content(session: Session, digests: Iterable[str]) -> dict[str, list[Here]]:
    """The live versions with these contents: those that are held first, then the oldest."""
    found: dict[str, list[Here]] = defaultdict(list)
    for some in chunked(sorted(set(digests))):
        query = (
            select(
                VersionRow.artifact_digest,
                VersionRow.id,
                VersionRow.number,
                VersionRow.adapter_id,
                AdapterRow.name,
                BaseModelRow,
                _HELD.label("held"),
            )
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
            .where(VersionRow.artifact_digest.in_(some), VersionRow.deleted_at.is_(None))
            .order_by(_HELD.desc(), VersionRow.id)
        )
        for row in session.execute(query):
            base = base_identity(row.BaseModelRow)
            here = Here(row.id, f"{row.name}@{row.number}", row.adapter_id, base, bool(row.held))
            found[row.artifact_digest].append(here)
    return found


def same_in(session: Session, name: str, digest: str) -> bool:
    """Whether the adapter has a live version with this content."""
    query = (
        select(VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(
            AdapterRow.name_key == name.lower(),
            VersionRow.artifact_digest == digest,
            VersionRow.deleted_at.is_(None),
        )
    )
    return session.scalars(query.limit(1)).first() is not None


def line(session: Session, name: str) -> LineHere | None:
    """The adapter of this name, regardless of case."""
    row = session.execute(select(AdapterRow).where(AdapterRow.name_key == name.lower())).scalar_one_or_none()
    if row is None:
        return None
    kind, base = None, None
    latest = (
        select(ArtifactRow.kind, BaseModelRow)
        .select_from(VersionRow)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
        .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
        .where(VersionRow.latest_of == row.id)
    )
    if (found := session.execute(latest).one_or_none()) is not None:
        kind, base = found.kind, base_identity(found.BaseModelRow)
    own = select(func.count()).where(VersionRow.adapter_id == row.id)
    told = session.scalars(
        select(VersionRow.origin).where(VersionRow.adapter_id == row.id, VersionRow.origin.is_not(None))
    ).all()
    ours = session.scalar(own.where(or_(VersionRow.origin.is_(None), _HELD))) or 0
    owners = frozenset(owner_of(each) for each in told if each is not None)
    return LineHere(
        row.id, row.name, kind, base, row.last_version > 0 and ours == 0, owners, row.last_version
    )


def owner_of(place: str) -> str:
    """The owner in ``hf://OWNER/REPO@COMMIT#REF``."""
    return place.removeprefix(_HUB).partition("/")[0]


def named(session: Session, names: Iterable[str], actor: str) -> dict[str, int]:
    """The row ids of adapters by name, made where they are not."""
    ids: dict[str, int] = {}
    for name in sorted(set(names), key=str.lower):
        query = select(AdapterRow.id).where(AdapterRow.name_key == name.lower())
        found = session.scalar(query)
        if found is None:
            columns = {"name": name, "last_version": 0, "created_at": now(), "created_by": actor}
            insert_or_ignore(session, AdapterRow, name_key=name.lower(), **columns)
            found = session.scalars(query).one()
            for word in split(name):
                insert_or_ignore(session, NameWordRow, word=word, adapter_id=found)
        ids[name] = found
    return ids


def base_named(session: Session, base: BaseModelIdentity) -> BaseModelIdentity | None:
    """What is recorded under a base model's name and revision, None where nothing is."""
    query = select(BaseModelRow).where(
        BaseModelRow.repo == (base.repo or ""), BaseModelRow.revision == (base.revision or "")
    )
    row = session.execute(query).scalar_one_or_none()
    return None if row is None else base_identity(row)


def place_of(session: Session, digest: str) -> tuple[str, str] | None:
    """A live version that is known to have this content, and where it is known from."""
    query = (
        select(AdapterRow.name, VersionRow.number, VersionRow.source, VersionRow.origin)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.artifact_digest == digest, VersionRow.origin.is_not(None))
        .order_by(VersionRow.deleted_at.is_not(None), VersionRow.id)
    )
    row = session.execute(query.limit(1)).one_or_none()
    return None if row is None else (f"{row.name}@{row.number}", str(row.source or row.origin))


def sources(session: Session, version_ids: Sequence[int] | None = None) -> list[Source]:
    """What came from the Hub: these versions, or the latest of each adapter where it came by a branch or tag."""
    query = (
        select(AdapterRow.name, VersionRow.number, VersionRow.source, VersionRow.source_revision)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.source.startswith(_HUB, autoescape=True))
        .order_by(AdapterRow.name_key, VersionRow.number)
    )
    if version_ids is None:
        query = query.where(VersionRow.latest_of.is_not(None), VersionRow.source_revision.is_not(None))
        return [_source(row) for row in session.execute(query)]
    found: list[Source] = []
    for some in chunked(list(version_ids)):
        found += [_source(row) for row in session.execute(query.where(VersionRow.id.in_(some)))]
    return found


def _source(row: Any) -> Source:
    return Source(f"{row.name}@{row.number}", row.name, row.source, row.source_revision)


def published_at(session: Session, repo: str, commit: str) -> list[tuple[str, int]]:
    """The versions that this catalog published in this very commit, with their row ids."""
    query = (
        select(AdapterRow.name, VersionRow.number, VersionRow.id)
        .select_from(PublicationRow)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(PublicationRow.repo == repo, PublicationRow.commit == commit, PublicationRow.state == "done")
        .order_by(PublicationRow.id)
    )
    return [(f"{row.name}@{row.number}", row.id) for row in session.execute(query)]
