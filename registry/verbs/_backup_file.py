"""The file that a backup is: the tar of a bundle, with the rows as they are instead of what is said by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from registry import digest
from registry.catalog.bundle_lines import Time
from registry.catalog.rows import Lines
from registry.errors import Refused
from registry.verbs import _container
from registry.verbs._container import Bundle, Manifest, Sort

FORMAT = 1
BACKUP = Sort("backup", "backup.json", "registry backup")
_TABLE = re.compile(r"[a-z][a-z_]{0,62}")
_MOST_TABLES = 200


class BackupManifest(Manifest):
    """What a backup says of itself: also when it was taken, which is no part of its digest."""

    schema_: str = Field(alias="schema", pattern=r"^[0-9]{4}$")
    taken: Time

    @property
    def digest(self) -> str:
        """Of all that the backup holds: equal for equal catalogs."""
        return digest.of_json(self.model_dump(by_alias=True, exclude={"taken"}, mode="json"))


@contextmanager
def open_backup(path: Path) -> Iterator[tuple[Bundle, BackupManifest]]:
    """Open a backup and see that its tables are where they should be. Raises ``Refused`` for anything else."""
    found: list[BackupManifest] = []

    def parse(path: Path, raw: bytes) -> Manifest:
        manifest = _container.sound(BackupManifest, BACKUP, path, raw, newest=FORMAT)
        names = manifest.tables
        if len(names) > _MOST_TABLES or "blobs" not in names or not all(map(_TABLE.fullmatch, names)):
            raise Refused(f"{path}: its manifest names tables that no catalog has", hint=BACKUP.again)
        found.append(manifest)
        return manifest

    with _container.opened(path, BACKUP, parse) as bundle:
        yield bundle, found[0]


def lines(bundle: Bundle, table: str) -> Lines:
    return Lines(str(bundle.path), table, bundle.lines(table))


def blobs(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """Digest and size of every blob that the rows tell of."""
    for row in lines(bundle, "blobs"):
        found, size = row.get("digest"), row.get("size")
        if not (isinstance(found, str) and digest.is_digest(found) and isinstance(size, int) and size >= 0):
            raise Refused(f"{bundle.path} tells of a blob that cannot be", hint=BACKUP.again)
        yield found, size
