"""Writing many versions in one transaction: what :func:`versions.write` does for each, in statements for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from registry.catalog import artifacts, references, revocations, versions, words
from registry.catalog import bases as base_models
from registry.catalog.artifacts import Content
from registry.catalog.database import chunked
from registry.catalog.events import now
from registry.catalog.loading import load, next_ids
from registry.catalog.tables import (
    AdapterRow,
    ArtifactFileRow,
    ArtifactRow,
    BaseModelRow,
    BlobRow,
    EventRow,
    NameWordRow,
    VersionRow,
)
from registry.catalog.versions import Draft, Line


def write_many(session: Session, drafts: Sequence[Draft]) -> list[tuple[int, bool]]:
    """Write the drafts, in their order; for each its row id and whether it is new.

    Raises what :func:`versions.write` raises for the first that cannot be written: then none of them may be.
    """
    if any(draft.parents for draft in drafts):
        revocations.await_edges(session)
    adapters = _held(session, drafts)
    bases = _bases(session, drafts)
    lines = _lines(session, adapters.values())
    known = _known(session, drafts, adapters)
    for edges in chunked([edge for draft in drafts for edge in draft.parents]):
        versions.check_parents(session, edges)
    places: list[int] = []  # by draft: the new version that it is, or -1
    found: list[int] = []  # by draft: the row that holds it already, or 0
    fresh: dict[tuple[int, str], int] = {}
    new: list[tuple[Draft, int]] = []
    for draft in drafts:
        adapter = adapters[draft.name.lower()]
        existed = adapter.last_version > 0
        versions.check_name(adapter, draft.name, new=existed and draft.new)
        line = Line(draft.content.kind, references.base_identity(bases[_identity(draft)]))
        versions.check_line(adapter.name, lines.setdefault(adapter.id, line), line)
        key = (adapter.id, _key(draft))
        found.append(known.get(key, 0))
        places.append(-1 if key in known else fresh.setdefault(key, len(new)))
        if key not in known and places[-1] == len(new):
            adapter.last_version += 1
            new.append((draft, adapter.last_version))
    unheld = artifacts.unheld(session, [draft.content.digest for draft in drafts])
    known_only = [draft.content for draft in drafts if draft.content.digest in unheld]
    for content in {content.digest: content for content in known_only if content.files}.values():
        artifacts.save(session, content)
    save_many(session, [draft.content for draft, _ in new])
    for recipe in {
        draft.recipe.digest: draft.recipe for draft, _ in new if draft.recipe is not None
    }.values():
        artifacts.save_recipe(session, recipe)
    ids = _insert(session, new, adapters, bases)
    seen: set[int] = set()
    written = []
    for place, row_id in zip(places, found, strict=True):
        written.append((row_id, False) if place < 0 else (ids[place], place not in seen))
        seen.add(place)
    return written


def holding(session: Session, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, str]]:
    """Of pairs of a name and a content digest, those that a live version holds, with its row id and reference."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for some in chunked(wanted):
        query = (
            select(AdapterRow.name, VersionRow.id, VersionRow.number, VersionRow.artifact_digest)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .where(
                VersionRow.artifact_digest.in_([content for _, content in some]),
                AdapterRow.name_key.in_([name.lower() for name, _ in some]),
                VersionRow.deleted_at.is_(None),
                exists().where(ArtifactFileRow.artifact_digest == VersionRow.artifact_digest),
            )
            .order_by(VersionRow.id)
        )
        for row in session.execute(query):
            found[row.name, row.artifact_digest] = row.id, f"{row.name}@{row.number}"
    return found


def refs(session: Session, ids: Sequence[int]) -> dict[int, str]:
    """The references of versions by row id."""
    found: dict[int, str] = {}
    for some in chunked(ids):
        query = (
            select(VersionRow.id, AdapterRow.name, VersionRow.number)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .where(VersionRow.id.in_(some))
        )
        found.update((row.id, f"{row.name}@{row.number}") for row in session.execute(query))
    return found


def save_many(session: Session, contents: Sequence[Content]) -> None:
    """Record contents whose bytes are in the blob store already; known content stays as it is."""
    connection = session.connection()
    made = {content.digest: content for content in contents}
    at = now()
    # In one order, so that two who share several do not wait for one another.
    files = {file.digest: file.size for content in contents for file in content.files.values()}
    blobs = [{"digest": digest, "size": files[digest], "created_at": at} for digest in sorted(files)]
    load(connection, BlobRow, blobs, ignore=True)
    load(
        connection,
        ArtifactRow,
        [
            {
                "digest": digest,
                "target": made[digest].target,
                "kind": made[digest].kind,
                "rank": made[digest].rank,
                "parameters": made[digest].parameters,
                "modules": made[digest].modules,
                "dtype": made[digest].dtype,
                "size": made[digest].size,
                "not_composable": list(made[digest].not_composable),
                "created_at": at,
            }
            for digest in sorted(made)
        ],
        ignore=True,
    )
    load(
        connection,
        ArtifactFileRow,
        [
            {"artifact_digest": digest, "path": path, "blob_digest": file.digest}
            for digest in sorted(made)
            for path, file in sorted(made[digest].files.items())
        ],
        ignore=True,
    )


def _held(session: Session, drafts: Sequence[Draft]) -> dict[str, AdapterRow]:
    """The adapters of the drafts by name in lower case, made where they are not, held with those of all parents."""
    names = {draft.name.lower(): draft for draft in reversed(drafts)}
    ids = _ids(session, names)
    missing = sorted(set(names) - set(ids))
    if missing:
        rows = [
            {
                "name": names[key].name,
                "name_key": key,
                "last_version": 0,
                "created_at": now(),
                "created_by": names[key].actor,
            }
            for key in missing
        ]
        load(session.connection(), AdapterRow, rows, ignore=True)
        ids |= (made := _ids(session, missing))  # these, or those of another writer who was first
        found = [
            {"word": word, "adapter_id": row_id} for key, row_id in made.items() for word in words.split(key)
        ]
        load(session.connection(), NameWordRow, found, ignore=True)
    held = set(ids.values())
    for some in chunked([edge.version_id for draft in drafts for edge in draft.parents]):
        held.update(session.scalars(select(VersionRow.adapter_id).where(VersionRow.id.in_(some))))
    rows_by_id: dict[int, AdapterRow] = {}
    for each in chunked(sorted(held)):
        rows_by_id |= references.held(session, each)
    return {key: rows_by_id[row_id] for key, row_id in ids.items()}


def _ids(session: Session, keys: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in chunked(list(keys)):
        query = select(AdapterRow.name_key, AdapterRow.id).where(AdapterRow.name_key.in_(some))
        found.update((row.name_key, row.id) for row in session.execute(query))
    return found


def _bases(session: Session, drafts: Sequence[Draft]) -> dict[Any, BaseModelRow]:
    identities = {_identity(draft): draft.base_model for draft in drafts}
    found = {key: versions.base_model(session, identities[key]) for key in sorted(identities)}
    layouts = {_identity(draft): draft.base_layout for draft in drafts if draft.base_layout is not None}
    for key, layout in sorted(layouts.items(), key=lambda each: each[0]):
        if (fingerprint := found[key].fingerprint) is not None:
            base_models.save_layout(session, fingerprint, layout)
    return found


def _identity(draft: Draft) -> tuple[str, str, str]:
    base = draft.base_model
    return base.repo or "", base.revision or "", base.fingerprint or ""


def _lines(session: Session, adapters: Iterable[AdapterRow]) -> dict[int, Line]:
    found: dict[int, Line] = {}
    for some in chunked([adapter.id for adapter in adapters if adapter.last_version]):
        query = (
            select(VersionRow.adapter_id, ArtifactRow.kind, BaseModelRow)
            .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
            .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
            .where(VersionRow.latest_of.in_(some))
        )
        for row in session.execute(query):
            found[row.adapter_id] = Line(row.kind, references.base_identity(row.BaseModelRow))
    return found


def _key(draft: Draft) -> str:
    return draft.content.digest if draft.recipe is None else draft.recipe.digest


def _known(
    session: Session, drafts: Sequence[Draft], adapters: dict[str, AdapterRow]
) -> dict[tuple[int, str], int]:
    """The live versions that hold a draft's content, or were made by its recipe: the last of each adapter."""
    found: dict[tuple[int, str], int] = {}
    for recipe, column in ((False, VersionRow.artifact_digest), (True, VersionRow.recipe_digest)):
        asked = [draft for draft in drafts if (draft.recipe is not None) == recipe]
        here = {draft.name.lower() for draft in asked}
        held = {adapters[name].id for name in here if adapters[name].last_version}
        for some in chunked(sorted({_key(draft) for draft in asked}) if held else []):
            query = select(VersionRow.adapter_id, column.label("key"), VersionRow.id).where(
                column.in_(some), VersionRow.deleted_at.is_(None)
            )
            for row in session.execute(query.order_by(VersionRow.id)):
                if row.adapter_id in held:
                    found[row.adapter_id, row.key] = row.id
    return found


def _insert(
    session: Session,
    new: Sequence[tuple[Draft, int]],
    adapters: dict[str, AdapterRow],
    bases: dict[Any, BaseModelRow],
) -> list[int]:
    owners = [adapters[draft.name.lower()] for draft, _ in new]
    for some in chunked(
        sorted({owner.id for owner, (_, number) in zip(owners, new, strict=True) if number > 1})
    ):
        session.execute(update(VersionRow).where(VersionRow.latest_of.in_(some)).values(latest_of=None))
    session.flush()  # the counters
    ids = next_ids(session, VersionRow, len(new))
    at = now()
    rows = [
        {
            "id": row_id,
            **versions.values_of(
                draft,
                owner.id,
                number,
                bases[_identity(draft)].id,
                latest=number == owner.last_version,
                at=at,
            ),
        }
        for row_id, owner, (draft, number) in zip(ids, owners, new, strict=True)
    ]
    load(session.connection(), VersionRow, rows)
    made = list(zip(ids, [draft for draft, _ in new], strict=True))
    beside: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row_id, draft in made:
        for table, row in versions.rows_of(row_id, draft):
            beside[table].append(row)
    for table, several in beside.items():
        load(session.connection(), table, several)
    load(session.connection(), EventRow, list(_events(made, rows, owners)))
    for row_id, draft in made:
        if draft.parents:
            revocations.inherit(session, row_id)
    return list(ids)


_Made = Sequence[tuple[int, Draft]]
_Rows = Iterator[dict[str, Any]]


def _events(made: _Made, rows: Sequence[dict[str, Any]], owners: Sequence[AdapterRow]) -> _Rows:
    for (_, draft), row, owner in zip(made, rows, owners, strict=True):
        yield {
            "at": row["created_at"],
            "actor": draft.actor,
            "subject": f"{owner.name}@{row['number']}",
            **versions.told(draft),
        }
