"""From rows to the results that are shown: a handful of statements for any number of versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.catalog.references import base_identity
from registry.catalog.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    EvaluationRow,
    LineageRow,
    PublicationRow,
    TagRow,
    VersionRow,
)
from registry.results import Evaluation, Parent, Publication, RecipeInfo, Version

T = TypeVar("T")
_CHUNK = 500  # bound parameters in one statement


def versions(session: Session, ids: Sequence[int]) -> tuple[Version, ...]:
    """The versions with these row ids, in this order."""
    found: dict[int, Version] = {}
    for start in range(0, len(ids), _CHUNK):
        found.update(_load(session, ids[start : start + _CHUNK]))
    return tuple(found[i] for i in ids)


def version(session: Session, row_id: int) -> Version:
    return versions(session, [row_id])[0]


def _load(session: Session, ids: Sequence[int]) -> dict[int, Version]:
    statement = (
        select(VersionRow, AdapterRow, ArtifactRow, BaseModelRow)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
        .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
        .where(VersionRow.id.in_(ids))
    )
    rows = session.execute(statement).all()
    refs = {row.VersionRow.id: f"{row.AdapterRow.name}@{row.VersionRow.number}" for row in rows}
    aliases = _aliases(session, ids)
    tags = _tags(session, ids)
    parents = _parents(session, ids)
    evaluations = group((row.version_id, evaluation(row, refs)) for row in session.scalars(_evaluations(ids)))
    publications = group(
        (row.version_id, publication(row, refs)) for row in session.scalars(_publications(ids))
    )
    return {
        row.VersionRow.id: Version(
            **_facts(row),
            aliases=tuple(aliases.get(row.VersionRow.id, ())),
            tags=tags.get(row.VersionRow.id, {}),
            parents=tuple(parents.get(row.VersionRow.id, ())),
            evaluations=tuple(evaluations.get(row.VersionRow.id, ())),
            publications=tuple(publications.get(row.VersionRow.id, ())),
        )
        for row in rows
    }


def _facts(row: Any) -> dict[str, Any]:
    version, adapter, artifact = row.VersionRow, row.AdapterRow, row.ArtifactRow
    recipe = None
    if version.recipe_digest is not None:
        recipe = RecipeInfo(
            expression=version.expression, resolved=version.resolved, digest=version.recipe_digest
        )
    return {
        "ref": f"{adapter.name}@{version.number}",
        "name": adapter.name,
        "version": version.number,
        "kind": artifact.kind,
        "task": version.task,
        "base_model": base_identity(row.BaseModelRow),
        "digest": artifact.digest,
        "rank": artifact.rank,
        "parameters": artifact.parameters,
        "dtype": artifact.dtype,
        "size": artifact.size,
        "modules": artifact.modules,
        "license": version.license,
        "note": version.note,
        "source": version.source,
        "recipe": recipe,
        "not_composable": tuple(artifact.not_composable),
        "created_at": version.created_at,
        "created_by": version.created_by,
        "deleted_at": version.deleted_at,
    }


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
            "created_at": row.created_at,
            "created_by": row.created_by,
        }
    )


def group(pairs: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    grouped: dict[int, list[T]] = defaultdict(list)
    for key, value in pairs:
        grouped[key].append(value)
    return grouped


def _evaluations(ids: Sequence[int]) -> Any:
    order = (EvaluationRow.dataset, EvaluationRow.split, EvaluationRow.metric)
    return select(EvaluationRow).where(EvaluationRow.version_id.in_(ids)).order_by(*order)


def _publications(ids: Sequence[int]) -> Any:
    return select(PublicationRow).where(PublicationRow.version_id.in_(ids)).order_by(PublicationRow.id)


def _aliases(session: Session, ids: Sequence[int]) -> dict[int, list[str]]:
    statement = (
        select(VersionRow.id, AliasRow.alias)
        .join(
            VersionRow,
            (AliasRow.adapter_id == VersionRow.adapter_id) & (AliasRow.number == VersionRow.number),
        )
        .where(VersionRow.id.in_(ids))
        .order_by(AliasRow.alias_key)
    )
    return group((row.id, row.alias) for row in session.execute(statement))


def _tags(session: Session, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for row in session.scalars(select(TagRow).where(TagRow.version_id.in_(ids)).order_by(TagRow.key)):
        tags[row.version_id][row.key] = row.value
    return tags


def _parents(session: Session, ids: Sequence[int]) -> dict[int, list[Parent]]:
    statement = (
        select(LineageRow, AdapterRow.name, VersionRow.number, VersionRow.artifact_digest)
        .join(VersionRow, LineageRow.parent_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(LineageRow.child_id.in_(ids))
        .order_by(LineageRow.child_id, LineageRow.position)
    )
    return group((row.LineageRow.child_id, _parent(row)) for row in session.execute(statement))


def _parent(row: Any) -> Parent:
    return Parent(
        ref=f"{row.name}@{row.number}",
        digest=row.artifact_digest,
        coefficient=row.LineageRow.coefficient,
        relation=row.LineageRow.relation,
    )
