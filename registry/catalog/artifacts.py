"""Content and the bytes it is made of: artifacts, their files, blobs, and what recipes gave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Insert, delete, exists, literal_column, select, text
from sqlalchemy.orm import Session, aliased

from registry import recipe as recipes
from registry.catalog import seals
from registry.catalog.database import batched, chunked, core, insert_or_ignore
from registry.catalog.events import now
from registry.catalog.tables import (
    ArtifactFileRow,
    ArtifactRow,
    BlobRow,
    LineageRow,
    RealisationRow,
    RecipeRow,
    SketchRow,
    VersionRow,
)
from registry.digest import canonical_json, of_bytes
from registry.errors import IntegrityFailure
from registry.recipe import Recipe


@dataclass(frozen=True)
class File:
    """A stored file: the digest of its bytes and their number."""

    digest: str
    size: int


@dataclass(frozen=True)
class Content:
    """What is recorded of an artifact. ``files`` maps relative paths to stored bytes."""

    digest: str
    target: str
    kind: str
    rank: int | None
    parameters: int
    modules: int
    dtype: str
    size: int
    files: Mapping[str, File]
    not_composable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Realisation:
    """What computing a recipe gave, how, and with which libraries. ``variant`` is '' for adapters."""

    recipe_digest: str
    target: str
    variant: str
    output_digest: str
    device: str
    dtype: str
    seed: int
    seconds: float
    libraries: Mapping[str, str] = field(default_factory=dict)
    report: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    created_at: datetime | None = None


_HELD = exists().where(ArtifactFileRow.artifact_digest == ArtifactRow.digest)
_FACTS = ("kind", "rank", "parameters", "modules", "dtype", "size", "not_composable")


@cache
def _recording(dialect: str) -> Insert:
    """Records content that is seen, and corrects what was told of content that was only known: in one statement."""
    table = core(ArtifactRow)
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        new: Any = postgresql.insert(table)
    else:
        from sqlalchemy.dialects import sqlite

        new = sqlite.insert(table)
    # By name: in this place nothing is correlated, and the table itself would be read again.
    held = exists().where(ArtifactFileRow.artifact_digest == literal_column(f"{table.name}.digest"))
    facts = {name: new.excluded[name] for name in (*_FACTS, "created_at", "seal")}
    statement: Insert = new.on_conflict_do_update(
        index_elements=[table.c.digest], set_=facts, where=~held
    ).inline()
    return statement


def save(session: Session, content: Content) -> None:
    """Record content; its bytes, where it has ``files``, are in the blob store already. What is held stays as it is."""
    # In one order, so that two who share several do not wait for one another.
    for file in sorted(content.files.values(), key=lambda file: file.digest):
        insert_or_ignore(session, BlobRow, digest=file.digest, size=file.size, created_at=now())
    values = {
        "digest": content.digest,
        "target": content.target,
        **{name: getattr(content, name) for name in _FACTS},
        "not_composable": list(content.not_composable),
        "created_at": now(),
    }
    if content.files:
        statement = _recording(session.get_bind().dialect.name)
        session.connection().execute(statement, seals.sealed(core(ArtifactRow), values))
    else:
        insert_or_ignore(session, ArtifactRow, **values)
    for path, file in content.files.items():
        insert_or_ignore(
            session, ArtifactFileRow, artifact_digest=content.digest, path=path, blob_digest=file.digest
        )


def hold(session: Session, content: Content) -> bool:
    """Record the bytes of content that was only known; whether it was. They are in the blob store already."""
    row = session.get(ArtifactRow, content.digest)
    if row is None or files(session, content.digest):
        return False
    save(session, content)
    session.refresh(row)
    return True


def unheld(session: Session, digests: Iterable[str]) -> set[str]:
    """Those of these contents that are recorded without their bytes."""
    found: set[str] = set()
    for some in chunked(sorted(set(digests))):
        found.update(session.scalars(select(ArtifactRow.digest).where(ArtifactRow.digest.in_(some), ~_HELD)))
    return found


def load(session: Session, artifact_digest: str) -> Content | None:
    """What is recorded of an artifact, with the files that are held."""
    row = session.get(ArtifactRow, artifact_digest)
    if row is None:
        return None
    return Content(
        digest=row.digest,
        target=row.target,
        kind=row.kind,
        rank=row.rank,
        parameters=row.parameters,
        modules=row.modules,
        dtype=row.dtype,
        size=row.size,
        files=files(session, artifact_digest),
        not_composable=tuple(row.not_composable),
    )


def files(session: Session, artifact_digest: str) -> dict[str, File]:
    """The files of an artifact by relative path; empty where its bytes are not held."""
    statement = (
        select(ArtifactFileRow.path, BlobRow.digest, BlobRow.size)
        .join(BlobRow, ArtifactFileRow.blob_digest == BlobRow.digest)
        .where(ArtifactFileRow.artifact_digest == artifact_digest)
        .order_by(ArtifactFileRow.path)
    )
    return {row.path: File(row.digest, row.size) for row in session.execute(statement)}


def save_recipe(session: Session, recipe: Recipe) -> None:
    canonical = canonical_json(recipe.canonical()).decode()
    insert_or_ignore(session, RecipeRow, digest=recipe.digest, canonical=canonical, created_at=now())


def save_recipes(session: Session, found: Iterable[Recipe]) -> None:
    """Many of them, sent together."""
    with batched(session):
        for each in {recipe.digest: recipe for recipe in found}.values():
            save_recipe(session, each)


def load_recipe(session: Session, recipe_digest: str) -> Recipe:
    """Raises ``IntegrityFailure`` where the stored text no longer has its digest."""
    canonical = session.execute(
        select(RecipeRow.canonical).where(RecipeRow.digest == recipe_digest)
    ).scalar_one()
    if of_bytes(canonical.encode()) != recipe_digest:
        raise IntegrityFailure(f"the stored recipe {recipe_digest} is damaged", hint="restore the database")
    return recipes.parse(json.loads(canonical))


def realisations(session: Session, recipe_digest: str, target: str, variant: str) -> list[Realisation]:
    """Everything the recipe gave for this target, newest first."""
    statement = (
        select(RealisationRow)
        .where(
            RealisationRow.recipe_digest == recipe_digest,
            RealisationRow.target == target,
            RealisationRow.variant == variant,
        )
        .order_by(RealisationRow.id.desc())
    )
    return [_realisation(row) for row in session.scalars(statement)]


def models(session: Session, recipe_digest: str) -> list[Content]:
    """The merged models that are held of a recipe, on whatever base."""
    statement = (
        select(RealisationRow.output_digest)
        .where(RealisationRow.recipe_digest == recipe_digest, RealisationRow.target == "model")
        .distinct()
        .order_by(RealisationRow.output_digest)
    )
    loaded = [load(session, digest) for digest in session.scalars(statement).all()]
    return [content for content in loaded if content is not None and content.files]


def first_realisation(session: Session, output_digest: str, target: str) -> Realisation | None:
    """How this output was computed, the first time it was."""
    statement = (
        select(RealisationRow)
        .where(RealisationRow.output_digest == output_digest, RealisationRow.target == target)
        .order_by(RealisationRow.id)
        .limit(1)
    )
    row = session.scalars(statement).first()
    return None if row is None else _realisation(row)


def save_realisation(session: Session, realisation: Realisation) -> None:
    """Record an output. The same output again changes nothing; another one is kept beside it."""
    insert_or_ignore(
        session,
        RealisationRow,
        recipe_digest=realisation.recipe_digest,
        target=realisation.target,
        variant=realisation.variant,
        output_digest=realisation.output_digest,
        device=realisation.device,
        dtype=realisation.dtype,
        seed=realisation.seed,
        libraries=dict(realisation.libraries),
        seconds=realisation.seconds,
        report=[dict(item) for item in realisation.report],
        files={path: dict(value) for path, value in realisation.files.items()},
        created_at=now(),
    )


def unneeded(session: Session) -> list[str]:
    """Artifacts with files that nothing live needs.

    A live version needs its own content and, so that it can be rebuilt, the content of its inputs; a merged
    model stays as long as a live version has its recipe, or is the one adapter that was merged.
    """
    held = set(session.scalars(select(ArtifactFileRow.artifact_digest).distinct()))
    live = VersionRow.deleted_at.is_(None)
    needed = set(session.scalars(select(VersionRow.artifact_digest).where(live).distinct()))
    recipes_alive = set(session.scalars(select(VersionRow.recipe_digest).where(live).distinct()))
    child, parent = aliased(VersionRow), aliased(VersionRow)
    inputs = (
        select(parent.artifact_digest)
        .join(LineageRow, LineageRow.parent_id == parent.id)
        .join(child, LineageRow.child_id == child.id)
        .where(LineageRow.relation == "input", child.deleted_at.is_(None))
        .distinct()
    )
    kept = needed | set(session.scalars(inputs))
    models = select(RealisationRow.output_digest, RealisationRow.recipe_digest).where(
        RealisationRow.target == "model"
    )
    for output, recipe_digest in session.execute(models):
        merged = [] if output not in held else load_recipe(session, recipe_digest).inputs
        if recipe_digest in recipes_alive or (len(merged) == 1 and merged[0] in needed):
            kept.add(output)
    return sorted(held - kept)


def forget_files(session: Session, artifact_digests: Iterable[str]) -> list[str]:
    """Drop these artifacts' files and sketches from the records; returns the blobs that nothing needs any more."""
    for digests in chunked(list(artifact_digests)):
        session.execute(delete(ArtifactFileRow).where(ArtifactFileRow.artifact_digest.in_(digests)))
    held = exists().where(ArtifactFileRow.artifact_digest == SketchRow.artifact_digest)
    session.execute(delete(SketchRow).where(~held), execution_options={"synchronize_session": False})
    used = exists().where(ArtifactFileRow.blob_digest == BlobRow.digest)
    free = list(session.scalars(select(BlobRow.digest).where(~used).order_by(BlobRow.digest)))
    for digests in chunked(free):
        session.execute(delete(BlobRow).where(BlobRow.digest.in_(digests)))
    return free


def only_in(session: Session, artifact_digests: Iterable[str]) -> list[str]:
    """Blobs that only these artifacts have, and blobs that no artifact has."""
    gone = set(artifact_digests)
    files = session.execute(select(ArtifactFileRow.artifact_digest, ArtifactFileRow.blob_digest))
    kept = {row.blob_digest for row in files if row.artifact_digest not in gone}
    return sorted(recorded(session) - kept)


def exclude_writers(session: Session) -> None:
    """Until this transaction ends, nobody records blobs. SQLite's write lock does that by itself."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE blobs IN SHARE ROW EXCLUSIVE MODE"))


def recorded(session: Session) -> set[str]:
    """Every blob that the catalog knows of."""
    return set(session.scalars(select(BlobRow.digest)))


def unrecorded(session: Session, digests: Iterable[str]) -> list[str]:
    """Those of the digests that no blob row has."""
    asked = list(digests)
    known: set[str] = set()
    for some in chunked(asked):
        known.update(session.scalars(select(BlobRow.digest).where(BlobRow.digest.in_(some))))
    return [digest for digest in asked if digest not in known]


def _realisation(row: RealisationRow) -> Realisation:
    return Realisation(
        recipe_digest=row.recipe_digest,
        target=row.target,
        variant=row.variant,
        output_digest=row.output_digest,
        device=row.device,
        dtype=row.dtype,
        seed=row.seed,
        seconds=row.seconds,
        libraries=row.libraries,
        report=tuple(row.report),
        files=row.files,
        created_at=row.created_at,
    )
