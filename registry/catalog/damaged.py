"""Who needs a blob, and where else its bytes are said to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.catalog import references
from registry.catalog.references import Pin
from registry.catalog.tables import (
    AdapterRow,
    ArtifactFileRow,
    BlobRow,
    PublicationRow,
    RealisationRow,
    VersionRow,
)
from registry.reference import Reference

_HUB = "hf://"


@dataclass(frozen=True)
class Holder:
    """A live version with a file of these bytes; ``places`` are repos, commits and paths on the Hub that had them."""

    pin: Pin
    places: tuple[tuple[str, str, str], ...]


def holders(session: Session, digest: str) -> list[Holder]:
    """The live versions whose own files, or whose published ones, have these bytes, oldest first."""
    files = select(ArtifactFileRow.artifact_digest, ArtifactFileRow.path)
    paths = dict(session.execute(files.where(ArtifactFileRow.blob_digest == digest)).all())
    merged = select(RealisationRow.recipe_digest).where(RealisationRow.output_digest.in_(paths))
    wanted = (
        select(
            VersionRow.id, VersionRow.number, VersionRow.source, VersionRow.artifact_digest, AdapterRow.name
        )
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(
            VersionRow.artifact_digest.in_(paths) | VersionRow.recipe_digest.in_(merged),
            VersionRow.deleted_at.is_(None),
        )
        .order_by(VersionRow.id)
    )
    found = []
    for row in session.execute(wanted).all():
        pin = references.resolve(session, Reference(name=row.name, version=row.number))
        places = [
            (each.repo, each.commit, path)
            for each in session.scalars(
                select(PublicationRow).where(
                    PublicationRow.version_id == row.id, PublicationRow.state == "done"
                )
            )
            for path, held in each.files.items()
            if held == digest and each.commit is not None
        ]
        path = paths.get(row.artifact_digest)
        if path is not None and (row.source or "").startswith(_HUB):
            repo, _, commit = row.source.removeprefix(_HUB).partition("@")
            if commit:
                places.append((repo, commit, path))
        found.append(Holder(pin, tuple(places)))
    return found


def unclaimed(session: Session) -> list[str]:
    """The blobs that the catalog knows of, and that no live version consists of, nor what was merged by its recipe."""
    live = VersionRow.deleted_at.is_(None)
    own = select(VersionRow.artifact_digest).where(live)
    merged = select(RealisationRow.output_digest).where(
        RealisationRow.recipe_digest.in_(select(VersionRow.recipe_digest).where(live))
    )
    files = select(ArtifactFileRow.blob_digest).where(
        ArtifactFileRow.artifact_digest.in_(own) | ArtifactFileRow.artifact_digest.in_(merged)
    )
    query = select(BlobRow.digest).where(BlobRow.digest.not_in(files))
    found: Iterable[object] = session.scalars(query.order_by(BlobRow.digest))
    return [
        each for each in found if isinstance(each, str)
    ]  # SQLite gives bytes for a row that says it has bytes
