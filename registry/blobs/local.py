"""Blobs in a local folder: ``sha256/ab/cdef…``, written under a temporary name, fsynced, renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from registry.blobs import BlobStore
from registry.digest import PREFIX, is_digest
from registry.errors import IntegrityFailure, StorageFailure


class LocalBlobStore(BlobStore):
    """A folder that this user owns; its files are read-only once they are in place."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "sha256"
        self._staging = folder / "staging"

    @classmethod
    def open(cls, url: str) -> LocalBlobStore:
        store = cls(Path(url).expanduser().absolute())
        with _storage(store._blobs):
            store._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            store._staging.mkdir(mode=0o700, exist_ok=True)
        return store

    @contextmanager
    def stage(self) -> Iterator[Path]:
        with _storage(self._staging):
            folder = Path(tempfile.mkdtemp(dir=self._staging))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed now is left to gc

    def put(self, file: Path, digest: str) -> None:
        target = self._path(digest)
        with _storage(target):
            with suppress(FileNotFoundError):  # not there, or just now collected as garbage
                os.utime(target)
                return
            target.parent.mkdir(mode=0o700, exist_ok=True)
            file.chmod(0o400)
            _fsync(file)
            os.utime(file)
            file.replace(target)
            _fsync(target.parent)

    def path(self, digest: str) -> Path:
        path = self._path(digest)
        if not path.is_file():
            raise IntegrityFailure(
                f"the blob {digest} is missing from {self._blobs}", hint="restore it from a copy"
            )
        return path

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def delete(self, digest: str) -> None:
        with _storage(self._path(digest)):
            self._path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[tuple[str, int]]:
        for file in sorted(self._blobs.glob("*/*")):
            digest = f"{PREFIX}{file.parent.name}{file.name}"
            if not is_digest(digest):  # what a desktop or an editor left here is not ours
                continue
            with suppress(FileNotFoundError):  # collected by another process meanwhile
                yield digest, file.stat().st_size

    def unused_for(self, digest: str, age: timedelta) -> bool:
        return _age(self._path(digest)) >= age.total_seconds()

    def leftovers(self, age: timedelta) -> list[Path]:
        return [
            folder
            for folder in sorted(self._staging.iterdir())
            if folder.is_dir() and min(_ages(folder)) >= age.total_seconds()
        ]

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix(PREFIX)
        return self._blobs / name[:2] / name[2:]


def _age(path: Path) -> float:
    """Seconds since the last change; a file that is gone was never in anybody's way."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _ages(folder: Path) -> Iterator[float]:
    """The age of a folder and of everything in it; what its owner removes meanwhile is passed over."""
    yield _age(folder)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield _age(Path(parent, name))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StorageFailure(
            f"cannot write {path}: {error.strerror}",
            hint="free some disk space; nothing was changed"
            if full
            else "check the folder and its permissions",
        ) from error
