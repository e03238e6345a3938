"""Where a test may put a blob store of each kind, and what befalls stores from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry import blobs
from registry.blobs import BlobStore, Room
from registry.digest import of_bytes
from tests.buckets import Bucket

NO_TIME, AN_HOUR = timedelta(0), timedelta(hours=1)
ROOM = 1 << 30
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """One place for a blob store; each ``open`` is another user of it on the same machine."""

    folder: Path
    bucket: Bucket | None = None

    @property
    def url(self) -> str:
        return self.bucket.url if self.bucket else str(self.folder / "blobs")

    def open(self) -> BlobStore:
        return blobs.open_store(self.url, Room(self.folder / "cache", ROOM))

    def damage(self, store: BlobStore, digest: str, data: bytes) -> None:
        if self.bucket:
            self.bucket.damage(digest, data)
        else:
            store.path(digest).chmod(0o600)
            store.path(digest).write_bytes(data)

    def age(self) -> None:
        """Two hours go by."""
        age_all(self.folder)
        if self.bucket:
            self.bucket.age(timedelta(hours=2))


def put(store: BlobStore, data: bytes) -> str:
    digest = of_bytes(data)
    with store.stage() as folder:
        (folder / "file").write_bytes(data)
        store.put(folder / "file", digest)
    return digest


def age(path: Path, *, hours: int) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def age_all(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        age(path, hours=2)


STAGING = """
import os, sys
from pathlib import Path
from registry import blobs
with blobs.open_store(sys.argv[1], blobs.Room(Path(sys.argv[2]), 1 << 30)).stage() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
    os._exit(1)
"""


@contextmanager
def staging(url: str, cache: Path | None = None) -> Iterator[Path]:
    """The folder that another process stages in, which lives through the block and then dies."""
    other: Any = subprocess.Popen(
        [sys.executable, "-c", STAGING, url, str(cache or "nowhere")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        yield Path(other.stdout.readline().strip())
        other.kill()
