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
    with database.read() as session:
        free = [] if apply else artifacts.only_in(session, artifacts.unneeded(session))
        known = artifacts.recorded(session)
    strays = [digest for digest in sizes if digest not in known and blobs.unused_for(digest, grace)]
    if not apply:
        return _report(sizes, sorted({*free, *strays}), leftovers, applied=False)
    freed = database.transact(_forget)
    with database.write() as session:
        artifacts.exclude_writers(session)
        # Looked for before anybody had to wait; only what was found then is looked at again.
        strays = [digest for digest in strays if blobs.unused_for(digest, grace)]
        taken = artifacts.unrecorded(session, sorted({*freed, *strays}))
        for digest in taken:
            blobs.delete(digest)
        if taken:
            record(session, actor, "gc", "blobs", removed=len(taken))
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed is reported again next time
    return _report(sizes, taken, leftovers, applied=True)


def _forget(session: Session) -> list[str]:
    artifacts.exclude_writers(session)
    return artifacts.forget_files(session, artifacts.unneeded(session))


def _report(sizes: dict[str, int], digests: list[str], leftovers: list[Path], *, applied: bool) -> Garbage:
    return Garbage(
        applied=applied,
        blobs=tuple(digests),
        leftovers=tuple(str(folder) for folder in leftovers),
        size=sum(sizes.get(digest, 0) for digest in digests),
    )
