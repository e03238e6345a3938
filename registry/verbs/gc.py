"""Collect garbage: bytes that nothing live needs, and what interrupted work left behind."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from registry.blobs import BlobStore
from registry.catalog import artifacts
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.results import Garbage

GRACE = timedelta(hours=1)
"""Unrecorded bytes younger than this may belong to work in progress and are left alone."""


def gc(database: Database, blobs: BlobStore, *, apply: bool, actor: str, grace: timedelta = GRACE) -> Garbage:
    """Rows go first, in one transaction; then, while no writer can record a blob, the bytes without a row.

    A crash in between leaves bytes without rows, which the next run takes.
    """
    sizes = dict(blobs.digests())
    leftovers = blobs.leftovers(grace)
    if not apply:
        with database.read() as session:
            return _report(sizes, _would_free(session, blobs, sizes, grace), leftovers, applied=False)
    with database.write() as session:
        artifacts.exclude_writers(session)
        freed = artifacts.forget_files(session, artifacts.unneeded(session))
    with database.write() as session:
        artifacts.exclude_writers(session)
        strays = artifacts.unrecorded(
            session, (d for d in sizes if d not in freed and blobs.unused_for(d, grace))
        )
        taken = sorted({*artifacts.unrecorded(session, freed), *strays})
        for digest in taken:
            blobs.delete(digest)
        if taken:
            record(session, actor, "gc", "blobs", removed=len(taken))
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed is reported again next time
    return _report(sizes, taken, leftovers, applied=True)


def _would_free(session: Session, blobs: BlobStore, sizes: dict[str, int], grace: timedelta) -> list[str]:
    gone = set(artifacts.unneeded(session))
    free = artifacts.only_in(session, gone)
    strays = artifacts.unrecorded(session, (d for d in sizes if blobs.unused_for(d, grace)))
    return sorted({*free, *strays})


def _report(sizes: dict[str, int], digests: list[str], leftovers: list[Path], *, applied: bool) -> Garbage:
    return Garbage(
        applied=applied,
        blobs=tuple(digests),
        leftovers=tuple(str(folder) for folder in leftovers),
        size=sum(sizes.get(digest, 0) for digest in digests),
    )
