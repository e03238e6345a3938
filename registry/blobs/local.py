"""Blobs in a local folder: ``sha256/ab/cdef…``, written under a temporary name, fsynced, renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from registry._partial import remove
from registry._paths import expanded
from registry._remembered import stamp
from registry.blobs import BlobStore, Missing, Room
from registry.blobs._files import fsync, in_use, locked, make, storage
from registry.digest import PREFIX, is_digest

_LOCK = "lock"
"""Beside a stage's files: an empty file that its process keeps locked, which ends with the process."""

_TOGETHER = 16  # files that are made durable at a time
_LARGE = 1 << 20  # smaller ones are read faster than looked up
_TICK_NS = 10_000_000  # what the times of files are exact to, at least: a later change has a later time


class LocalBlobStore(BlobStore):
    """A folder that this user owns; its files are read-only once they are in place."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "sha256"
        self._seen = folder / "seen"
        self._staging = folder / "staging"
        self._aside = folder / "quarantine"

    @classmethod
    def open(cls, url: str, room: Room | None = None) -> Self:  # noqa: ARG003 (nothing is copied)
        store = cls(expanded(url).absolute())
        with storage(store._blobs):
            make(store._blobs)
            make(store._seen)
            make(store._staging)
        return store

    @contextmanager
    def stage(self) -> Iterator[Path]:
        with storage(self._staging):
            folder = Path(tempfile.mkdtemp(dir=self._staging))
        try:
            with locked(folder / _LOCK):
                with storage(folder):
                    (folder / "files").mkdir(mode=0o700)
                yield folder / "files"
        finally:
            remove(folder)

    def put(self, file: Path, digest: str) -> None:
        target = self._path(digest)
        with storage(target):
            if not _refreshed(target, digest):
                target.parent.mkdir(mode=0o700, exist_ok=True)
                _settle(file)
                file.replace(target)
            # Even where nothing was made here: who made it may not have come this far.
            fsync(target.parent)
            fsync(self._blobs)
        with suppress(OSError):
            self._see(digest, target.stat())

    def put_many(self, files: Mapping[str, Path]) -> None:
        """A disk makes many files durable in hardly more time than one, if it is asked for all at once."""
        with storage(self._blobs), ThreadPoolExecutor(_TOGETHER) as threads:
            known = threads.map(lambda digest: _refreshed(self._path(digest), digest), files)
            new = [digest for digest, there in zip(files, known, strict=True) if not there]
            list(threads.map(_settle, [files[digest] for digest in new]))
            for digest in new:
                self._path(digest).parent.mkdir(mode=0o700, exist_ok=True)
                files[digest].replace(self._path(digest))
            list(threads.map(fsync, {self._path(digest).parent for digest in files}))
            fsync(self._blobs)
        for digest in files:
            with suppress(OSError):
                self._see(digest, self._path(digest).stat())

    def path(self, digest: str) -> Path:
        path = self._path(digest)
        if not path.is_file():
            raise Missing(f"the blob {digest} is missing from {self._blobs}", hint="restore it from a copy")
        return path

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def intact(self, digest: str) -> bool:
        path = self._path(digest)
        try:
            found = path.stat()
            if found.st_size >= _LARGE and _noted(self._note(digest)) == str(stamp(found)):
                return True
            if not _is_whole(path, digest):
                return False
            self._see(digest, found)
        except OSError:  # not there, or no longer readable
            return False
        return True

    def delete(self, digest: str) -> None:
        with storage(self._path(digest)):
            self._path(digest).unlink(missing_ok=True)
            self._note(digest).unlink(missing_ok=True)

    def quarantine(self, digest: str) -> bool:
        path = self._path(digest)
        with storage(path):
            try:
                if _is_whole(path, digest):
                    return False
            except FileNotFoundError:
                return False
            except OSError:  # the disk does not give it back: its name can still be moved
                pass
            make(self._aside)
            # Never over what was put aside before.
            path.replace(self._aside / f"{digest.removeprefix(PREFIX)}.{time.time_ns():x}")
            fsync(self._aside)
            fsync(path.parent)
            self._note(digest).unlink(missing_ok=True)
        return True

    def quarantined(self) -> Iterator[tuple[str, str, int]]:
        for file in sorted(self._aside.glob("*")):
            digest = PREFIX + file.stem
            if is_digest(digest):
                with suppress(FileNotFoundError):
                    yield str(file), digest, file.stat().st_size

    def copy_of_quarantined(self, name: str, into: Path) -> None:
        with storage(into):
            shutil.copyfile(name, into)

    def digests(self) -> Iterator[tuple[str, int]]:
        for file in sorted(self._blobs.glob("*/*")):
            digest = f"{PREFIX}{file.parent.name}{file.name}"
            if not is_digest(digest):  # what a desktop or an editor left here is not ours
                continue
            with suppress(FileNotFoundError):  # collected by another process meanwhile
                yield digest, file.stat().st_size

    def unused_for(self, digest: str, age: timedelta) -> bool:
        return _age(self._path(digest)) >= age.total_seconds()

    def leftovers(self, age: timedelta) -> list[str]:
        return [
            str(folder)
            for folder in sorted(self._staging.iterdir())
            if folder.is_dir() and min(_ages(folder)) >= age.total_seconds() and not in_use(folder / _LOCK)
        ]

    def discard(self, leftover: str) -> None:
        path = Path(leftover)  # what cannot be removed is reported again next time
        if path.parent == self._aside:
            with storage(path):
                path.unlink(missing_ok=True)
        else:
            remove(path)

    def _see(self, digest: str, found: os.stat_result) -> None:
        """Note what a whole blob looked like before it was read: as long as it does, it need not be read again.

        A note that is lost or wrong costs no more than another reading.
        """
        if found.st_size < _LARGE or found.st_ctime_ns % 1000 == 0:  # a clock too coarse to tell changes
            return
        time.sleep(max(0, min(_TICK_NS, found.st_ctime_ns + _TICK_NS - time.time_ns())) / 1e9)
        note = self._note(digest)
        if stamp(self._path(digest).stat()) == stamp(found):
            with suppress(OSError):
                note.parent.mkdir(mode=0o700, exist_ok=True)
                note.touch(mode=0o600)
                note.write_text(str(stamp(found)))

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix(PREFIX)
        return self._blobs / name[:2] / name[2:]

    def _note(self, digest: str) -> Path:
        name = digest.removeprefix(PREFIX)
        return self._seen / name[:2] / name[2:]


def _refreshed(target: Path, digest: str) -> bool:
    """Whether the blob is there, whole; it counts as just used then."""
    try:
        whole = _is_whole(target, digest)
    except OSError:  # not there, or no longer readable
        return False
    with suppress(FileNotFoundError):  # just now collected as garbage
        if whole:
            os.utime(target)
            return True
    return False


def _settle(file: Path) -> None:
    """Make a staged file what a blob is: read-only, durable, and just used."""
    file.chmod(0o400)
    fsync(file)
    os.utime(file)


def _is_whole(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest() == digest


def _noted(note: Path) -> str:
    """What a note says; nothing where there is none."""
    try:
        return note.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


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
