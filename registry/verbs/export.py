"""Write a whole catalog, with its bytes or without, as one file."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from registry.blobs import BlobStore, Missing
from registry.catalog import artifacts
from registry.catalog.bundle_check import Digests
from registry.catalog.bundle_export import SCHEMA, Exporter
from registry.catalog.bundle_lines import FORMAT, TABLES
from registry.catalog.database import Database
from registry.results import Exported
from registry.verbs import _container, _content

Progress = Callable[[str, int, int], None]
_STEP = 1000


class _Blobs:
    """The blobs that went by, in few bytes each."""

    def __init__(self) -> None:
        self.digests = Digests()
        self.sizes = array("q")


@_content.unless_swept
def export(
    database: Database,
    blobs: BlobStore,
    file: str | Path,
    *,
    with_blobs: bool,
    progress: Progress | None,
) -> Exported:
    target = Path(file)
    counts: dict[str, int] = {}
    with _container.new_file(target) as opened:
        writer = _container.Writer(opened)
        # One transaction reads all tables, and is over before bytes are copied: nobody waits for it.
        seen = _Blobs()
        with database.read() as session:
            exporter = Exporter(session)
            for table in TABLES:
                counts[table] = writer.table(table, _told(progress, table, exporter.lines(table), seen)).rows
        if with_blobs:
            total, done = sum(seen.sizes), 0
            for blob, size in zip(seen.digests, seen.sizes, strict=True):
                writer.blob(blob, size, _held(database, blobs, blob))
                done += size
                if progress is not None:
                    progress("copying blobs", done, total)
        manifest = _container.Manifest(format=FORMAT, schema=SCHEMA, blobs=with_blobs, tables=writer.tables)
        writer.finish(manifest)
        size = opened.tell()
    return Exported(path=str(target), size=size, digest=manifest.digest, blobs=with_blobs, counts=counts)


def _held(database: Database, blobs: BlobStore, blob: str) -> Path:
    try:
        return blobs.path(blob)
    except Missing as error:
        with database.read() as session:
            if artifacts.unrecorded(session, [blob]):
                raise _content.Swept(error.message, hint="export again") from None
        raise


def _told(progress: Progress | None, table: str, lines: Iterator[bytes], seen: _Blobs) -> Iterator[bytes]:
    """The lines, reported now and then; those of blobs are looked at in passing."""
    done = 0
    for done, line in enumerate(lines, 1):
        if table == "blobs":
            said = json.loads(line)
            seen.digests.append(said["digest"])
            seen.sizes.append(said["size"])
        if progress is not None and done % _STEP == 0:
            progress(f"writing {table}", done, done)
        yield line
    if progress is not None and done:
        progress(f"writing {table}", done, done)
