"""From rows to the results that are shown: one statement for any number of versions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    DateTime,
    Float,
    Integer,
    Select,
    String,
    Text,
    cast,
    exists,
    literal_column,
    null,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from registry.catalog._ids import among
from registry.catalog.database import not_written
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactFileRow,
    ArtifactRow,
    BaseModelRow,
    EvaluationRow,
    Identity,
    Json,
    LineageRow,
    PublicationRow,
    RevocationRow,
    SweepRow,
    TagRow,
    VersionRow,
    in_utc,
)
from registry.results import (
    BaseModelIdentity,
    Evaluation,
    Parent,
    Publication,
    RecipeInfo,
    Revoked,
    Version,
    Withdrawn,
)

_CHUNK = 10_000  # versions whose rows are held at once
_NOTHING: dict[str, list[Any]] = {}


def versions(session: Session, ids: Sequence[int]) -> tuple[Version, ...]:
    """The versions with these row ids, in this order."""
    found: dict[int, Version] = {}
    for start in range(0, len(ids), _CHUNK):
        found.update(_load(session, ids[start : start + _CHUNK]))
    return tuple(found[i] for i in ids)


def version(session: Session, row_id: int) -> Version:
    return versions(session, [row_id])[0]


def _load(session: Session, ids: Sequence[int]) -> dict[int, Version]:
    session.flush()
    try:
        return _read(session.connection(), ids)
    except (ValueError, TypeError) as error:
        raise not_written(session.connection().engine.url, error) from error


def _read(connection: Connection, ids: Sequence[int]) -> dict[int, Version]:
    facts: list[Any] = []
    said: dict[int, dict[str, list[Any]]] = {}
    for row in connection.execute(_everything(connection.dialect.name), {"ids": ids}).all():
        if row[0] == "version":
            facts.append(row)
        else:
            said.setdefault(row[1], defaultdict(list))[row[0]].append(row)
    bases: dict[Any, BaseModelIdentity] = {}
    return {row[1]: _version(row, said.get(row[1], _NOTHING), bases) for row in facts}


def _version(
    row: Sequence[Any], said: Mapping[str, list[Any]], bases: dict[Any, BaseModelIdentity]
) -> Version:
    (
        _, _, digest, recipe_digest, expression, resolved, task, license_, note, source, created_by, name, kind,
        dtype, not_composable, repo, revision, fingerprint,
        source_revision, origin,
        number, rank, parameters, modules, size, held, created_at, deleted_at, *_,
    ) = row  # fmt: skip
    base = bases.get((repo, revision))
    if base is None:
        base = BaseModelIdentity(repo=repo, revision=revision or None, fingerprint=fingerprint)
        bases[repo, revision] = base
    recipe = None
    if recipe_digest is not None:
        recipe = RecipeInfo(expression=expression, resolved=resolved, digest=recipe_digest)
    ref = f"{name}@{number}"
    marked: dict[str, Any] = {}
    for what, marks in said.items():
        field, order, read = _READERS[what]
        marked[field] = read(sorted(marks, key=order), ref)
    return Version(
        ref=ref,
        name=name,
        version=number,
        kind=kind,
        task=task,
        base_model=base,
        digest=digest,
        rank=rank,
        parameters=parameters,
        dtype=dtype,
        size=size,
        modules=modules,
        license=license_,
        note=note,
        source=source,
        source_revision=source_revision,
        origin=origin,
        held=bool(held),
        recipe=recipe,
        # Mostly an empty list, which needs no parser.
        not_composable=() if not_composable == "[]" else tuple(json.loads(not_composable)),
        created_at=in_utc(created_at),
        created_by=created_by,
        deleted_at=deleted_at and in_utc(deleted_at),
        **marked,
    )


_TEXTS = [f"t{place}" for place in range(18)]
_NUMBERS = [f"n{place}" for place in range(6)]
_SHAPE: dict[str, TypeEngine[Any]] = {
    **dict.fromkeys(_TEXTS, String()),
    **dict.fromkeys(_NUMBERS, Identity),
    "at": DateTime(timezone=True),  # few rows have one, and a type of our own would be asked about each
    "until": DateTime(timezone=True),
    "value": Float(),
    "doc": Json(),
}


@cache
def _everything(dialect: str) -> CompoundSelect[*tuple[Any, ...]]:
    """All rows about the versions with these ids, in one shape and told apart by ``what``: one statement, one state."""
    version, adapter = VersionRow.__table__.c, AdapterRow.__table__.c
    artifact, base = ArtifactRow.__table__.c, BaseModelRow.__table__.c
    parent, parents_name = VersionRow.__table__.alias().c, AdapterRow.__table__.alias().c
    revoked, revoked_name = VersionRow.__table__.alias().c, AdapterRow.__table__.alias().c
    file = ArtifactFileRow.__table__.c
    held = cast(exists().where(file.artifact_digest == version.artifact_digest), Integer())
    branches = [
        _branch(
            "version",
            version.id,
            [
                version.artifact_digest, version.recipe_digest, version.expression, version.resolved, version.task,
                version.license, version.note, version.source, version.created_by, adapter.name, artifact.kind,
                artifact.dtype, cast(artifact.not_composable, Text()), base.repo, base.revision, base.fingerprint,
                version.source_revision, version.origin,
            ],
            [version.number, artifact.rank, artifact.parameters, artifact.modules, artifact.size, held],
            at=version.created_at,
            until=version.deleted_at,
        ).where(
            version.adapter_id == adapter.id,
            version.artifact_digest == artifact.digest,
            version.base_model_id == base.id,
        ),
        _branch("alias", AliasRow.version_id, [AliasRow.alias]),
        _branch("tag", TagRow.version_id, [TagRow.key, TagRow.value]),
        _branch(
            "parent",
            LineageRow.child_id,
            [parents_name.name, parent.artifact_digest, LineageRow.coefficient, LineageRow.relation],
            [LineageRow.position, parent.number],
        ).where(parent.id == LineageRow.parent_id, parents_name.id == parent.adapter_id),
        _branch(
            "evaluation",
            EvaluationRow.version_id,
            [EvaluationRow.dataset, EvaluationRow.split, EvaluationRow.metric, EvaluationRow.created_by],
            at=EvaluationRow.created_at,
            value=EvaluationRow.value,
        ),
        _branch(
            "publication",
            PublicationRow.version_id,
            [
                PublicationRow.repo, PublicationRow.revision, PublicationRow.target, PublicationRow.state,
                PublicationRow.commit, PublicationRow.url, PublicationRow.created_by, PublicationRow.tag,
                PublicationRow.withdrawn_by, PublicationRow.reason, PublicationRow.error,
            ],
            [PublicationRow.id, PublicationRow.pull_request, cast(PublicationRow.tagged, Integer())],
            at=PublicationRow.created_at,
            until=PublicationRow.withdrawn_at,
            doc=PublicationRow.files,
        ),
        _branch(
            "revocation",
            RevocationRow.version_id,
            [RevocationRow.reason, RevocationRow.revoked_by],
            at=RevocationRow.revoked_at,
        ),
        _branch("sweep", SweepRow.version_id, [], [SweepRow.id]),
        _branch(
            "affected", AffectedRow.version_id, [revoked_name.name], [AffectedRow.revoked_id, revoked.number]
        ).where(revoked.id == AffectedRow.revoked_id, revoked_name.id == revoked.adapter_id),
    ]  # fmt: skip
    return union_all(*(branch.where(among(branch.selected_columns.id, dialect)) for branch in branches))


def _branch(
    what: str, version_id: Any, texts: Sequence[Any], numbers: Sequence[Any] = (), **others: Any
) -> Select[*tuple[Any, ...]]:
    columns = {
        **dict(zip(_TEXTS, texts, strict=False)),
        **dict(zip(_NUMBERS, numbers, strict=False)),
        **others,
    }
    filled = [
        type_coerce(columns[name], kind).label(name) if name in columns else cast(null(), kind).label(name)
        for name, kind in _SHAPE.items()
    ]
    return select(literal_column(f"'{what}'", String()).label("what"), version_id.label("id"), *filled)


def _parents(rows: Sequence[Any], _: str) -> tuple[Parent, ...]:
    return tuple(
        Parent(ref=f"{row.t0}@{row.n1}", digest=row.t1, coefficient=row.t2, relation=row.t3) for row in rows
    )


def _evaluations(rows: Sequence[Any], ref: str) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(
            ref=ref,
            metric=row.t2,
            value=row.value,
            dataset=row.t0,
            split=row.t1 or None,
            created_at=in_utc(row.at),
            created_by=row.t3,
        )
        for row in rows
    )


def _publications(rows: Sequence[Any], ref: str) -> tuple[Publication, ...]:
    return tuple(
        Publication(
            ref=ref,
            repo=row.t0,
            revision=row.t1,
            target=row.t2,
            state=row.t3,
            commit=row.t4,
            url=row.t5,
            files=row.doc,
            pull_request=row.n1,
            tag=row.t7,
            tagged=bool(row.n2),
            error=row.t10,
            withdrawn=row.until and Withdrawn(reason=row.t9, at=in_utc(row.until), by=row.t8),
            created_at=in_utc(row.at),
            created_by=row.t6,
        )
        for row in rows
    )


def _revocation(rows: Sequence[Any], _: str) -> Revoked:
    return Revoked(reason=rows[0].t0, at=in_utc(rows[0].at), by=rows[0].t1)


_READERS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Sequence[Any], str], Any]]] = {
    "alias": ("aliases", lambda row: row.t0.lower(), lambda rows, _: tuple(row.t0 for row in rows)),
    "tag": ("tags", itemgetter(2), lambda rows, _: {row[2]: row[3] for row in rows}),
    "parent": ("parents", attrgetter("n0"), _parents),
    "evaluation": ("evaluations", attrgetter("t0", "t1", "t2"), _evaluations),
    "publication": ("publications", attrgetter("n0"), _publications),
    "sweep": ("sweep", attrgetter("n0"), lambda rows, _: rows[0].n0),
    "revocation": ("revoked", attrgetter("n0"), _revocation),
    "affected": (
        "affected_by",
        attrgetter("n0"),
        lambda rows, _: tuple(f"{row.t0}@{row.n1}" for row in rows),
    ),
}
"""For each sort of row the field of a version that it makes, its order, and how it is read."""


def evaluation(row: EvaluationRow, refs: dict[int, str]) -> Evaluation:
    return Evaluation(
        ref=refs[row.version_id],
        metric=row.metric,
        value=row.value,
        dataset=row.dataset,
        split=row.split or None,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def publication(row: PublicationRow, refs: dict[int, str]) -> Publication:
    return Publication.model_validate(
        {
            "ref": refs[row.version_id],
            "repo": row.repo,
            "revision": row.revision,
            "target": row.target,
            "state": row.state,
            "commit": row.commit,
            "url": row.url,
            "files": row.files,
            "pull_request": row.pull_request,
            "tag": row.tag,
            "tagged": row.tagged,
            "error": row.error,
            "withdrawn": row.withdrawn_at
            and {"reason": row.reason, "at": row.withdrawn_at, "by": row.withdrawn_by},
            "created_at": row.created_at,
            "created_by": row.created_by,
        }
    )
