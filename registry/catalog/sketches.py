"""Sketches of contents: short vectors by which many adapters are compared in one statement; see ``registry.sketch``.

They can be made again at any time, so that nothing depends on their being there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, select, true
from sqlalchemy.orm import Session

from registry.catalog._filtering import VERSION, Filtering
from registry.catalog.database import insert_or_ignore
from registry.catalog.lineage import closure
from registry.catalog.references import Pin, base_identity
from registry.catalog.tables import AdapterRow, ArtifactFileRow, ArtifactRow, BaseModelRow, SketchRow
from registry.filters import Node, conjuncts
from registry.results import BaseModelIdentity
from registry.sketch import ALGORITHM, Sketch, from_bytes

_AT_ONCE = 1000  # rows that are read together

_ADAPTER, _ARTIFACT = AdapterRow.__table__.c, ArtifactRow.__table__.c
_SKETCH = SketchRow.__table__.c
_HELD = exists().where(ArtifactFileRow.__table__.c.artifact_digest == VERSION.c.artifact_digest)


@dataclass(frozen=True)
class Candidate:
    """A live version that may be compared; ``blocked`` says why it cannot be."""

    id: int
    ref: str
    task: str | None
    digest: str
    kind: str
    base_model_id: int
    blocked: str | None


def bases(session: Session) -> dict[int, BaseModelIdentity]:
    """All base models by row id."""
    rows = session.scalars(select(BaseModelRow).order_by(BaseModelRow.id))
    return {row.id: base_identity(row) for row in rows}


def candidates(
    session: Session,
    base_ids: Sequence[int] | None,
    *,
    versions: bool,
    where: Node | None = None,
) -> Iterator[tuple[Candidate, Sketch | None]]:
    """The live versions on these base models, or on all, oldest first, each with its sketch where one is stored.

    The latest of each adapter, or with ``versions`` all. One statement, read some rows at a time.
    """
    filtering = Filtering(session)
    version = VERSION.c
    statement = (
        select(
            version.id, _ADAPTER.name, version.number, version.task, version.artifact_digest, _ARTIFACT.kind,
            version.base_model_id, _ARTIFACT.not_composable, _HELD.label("held"), _SKETCH.vector,
        )
        .select_from(
            VERSION.join(AdapterRow, _ADAPTER.id == version.adapter_id)
            .join(ArtifactRow, _ARTIFACT.digest == version.artifact_digest)
            .outerjoin(
                SketchRow,
                (_SKETCH.artifact_digest == version.artifact_digest) & (_SKETCH.version == ALGORITHM),
            )
        )
        .where(version.deleted_at.is_(None) if versions else version.latest_of.is_not(None))
        .where(true() if base_ids is None else version.base_model_id.in_(base_ids))
        .where(*map(filtering.condition, () if where is None else conjuncts(where)))
        .order_by(version.id)
        .execution_options(yield_per=_AT_ONCE)
    )  # fmt: skip
    for row in session.connection().execute(statement):
        blocked = row.not_composable[0] if row.not_composable else None
        found = Candidate(
            id=row.id,
            ref=f"{row.name}@{row.number}",
            task=row.task,
            digest=row.artifact_digest,
            kind=row.kind,
            base_model_id=row.base_model_id,
            blocked=blocked or (None if row.held else "its bytes are not here"),
        )
        yield found, None if row.vector is None else from_bytes(row.vector)


def find(session: Session, digest: str) -> Sketch | None:
    """The stored sketch of a content."""
    stored = session.scalar(select(SketchRow.vector).where(*_is(digest)))
    return None if stored is None else from_bytes(stored)


def save(session: Session, found: Mapping[str, Sketch]) -> None:
    """Keep the sketches of these contents, in place of what was damaged, for as long as their bytes are held."""
    for digest, each in sorted(found.items()):
        held = exists().where(ArtifactFileRow.artifact_digest == digest)
        if not session.scalar(select(held)):
            continue
        stored = session.scalar(select(SketchRow.vector).where(*_is(digest)))
        if stored is not None and from_bytes(stored) is None:
            session.execute(delete(SketchRow).where(*_is(digest)))
        insert_or_ignore(
            session, SketchRow, artifact_digest=digest, version=ALGORITHM, vector=each.to_bytes()
        )


def kin(session: Session, pin: Pin) -> tuple[set[int], set[int]]:
    """The row ids of what a version was derived from, and of what was derived from it, at any depth."""
    up, down = (
        set(session.scalars(select(closure(session, pin.id, direction).c.id))) - {pin.id}
        for direction in ("up", "down")
    )
    return up, down


def _is(digest: str) -> tuple[ColumnElement[bool], ...]:
    return SketchRow.artifact_digest == digest, SketchRow.version == ALGORITHM
