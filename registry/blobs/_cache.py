"""Copies of blobs that are kept elsewhere: a bounded folder that any number of processes share.

What a user was given stays until it is done: its *lease* is a folder that names those blobs, locked for as long as the
user's ``Cache`` and process live. What nobody holds goes, least recently used first, once the copies take more than their room. The folder may be
removed at any time, at the price of fetching again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from registry._paths import expanded
from registry.blobs import Room
from registry.blobs._files import in_use, lock, locked, make, storage
from registry.blobs.local import LocalBlobStore
from registry.digest import PREFIX
from registry.errors import IntegrityFailure, StorageFailure

_LOCK = "lock"
_FORGOTTEN = timedelta(hours=1)  # a download whose process was killed


class _Copies(LocalBlobStore):
    """The copies, which know when they were last used.

    The times of a large blob are how it is known to be unchanged, so it is its note that is touched.
    """

    def touch(self, digest: str) -> None:
        note = self._note(digest)
        with suppress(OSError):
            os.utime(note if note.exists() else self._path(digest))

    def last_use(self, digest: str) -> int:
        times = [0]  # of one that is just going
        for path in (self._note(digest), self._path(digest)):
            with suppress(OSError):
                times.append(path.stat().st_mtime_ns)
        return max(times)


class Cache:
    """A local store of copies, each whole or not there; ``room.size`` bounds them in bytes."""

    def __init__(self, room: Room) -> None:
        self._folder = expanded(room.folder).absolute()
        self._size = room.size
        self._left = -1  # bytes that may come before the copies are counted again
        self._guard = threading.Lock()
        self._lease: Path | None = None
        self._took = threading.Event()

    def find(self, digest: str) -> Path | None:
        """The copy, where there is one that shows no sign of damage; it stays while this object lives."""
        self._hold(digest)
        copies = self._copies()
        if not copies.intact(digest):
            return None
        copies.touch(digest)
        with suppress(IntegrityFailure):  # removed by hand just now
            return copies.path(digest)
        return None

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A private folder that ``take`` takes files from."""
        with self._copies().stage() as folder:
            yield folder

    def take(self, file: Path, digest: str) -> None:
        """Take over a staged file as a copy."""
        size = file.stat().st_size
        self._copies().put(file, digest)
        self._took.set()
        with self._guard:
            self._left -= size
            full = self._left < 0
        if full:
            left = self._size - _trim(self._folder, self._size)
            with self._guard:
                self._left = left

    def drop(self, digest: str) -> None:
        """Remove a copy; a missing one is a success."""
        self._copies().delete(digest)

    @contextmanager
    def fetching(self, digest: str) -> Iterator[None]:
        """One at a time fetches a blob, here and in other processes: who waited finds the copy."""
        folder = self._folder / "fetching"
        with storage(folder):
            make(folder)
        few = digest.removeprefix(PREFIX)[:3]  # blobs share a lock, so that there are not ever more of them
        with locked(folder / few):
            yield

    def suspect(self, digest: str) -> bool:
        """Whether the blob was seen to be damaged where it is kept."""
        return self._suspicion(digest).exists()

    def accuse(self, digest: str, *, damaged: bool) -> None:
        """Note that a blob was seen to be damaged where it is kept, or that it was replaced."""
        note = self._suspicion(digest)
        with suppress(OSError):
            if damaged:
                note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                note.touch()
            else:
                note.unlink(missing_ok=True)

    def leftovers(self, age: timedelta) -> list[str]:
        return self._copies().leftovers(age)

    def discard(self, leftover: str) -> None:
        self._copies().discard(leftover)

    def _copies(self) -> _Copies:
        """The store of the copies, whose folders are made again where somebody removed them."""
        return _copies(self._folder)

    def _hold(self, digest: str) -> None:
        """Name the blob in the lease, which nobody overlooks who makes room after that."""
        name = digest.removeprefix(PREFIX)
        with self._guard:
            if self._lease is not None and (self._lease / name).exists():
                return
            leases = self._folder / "leases"
            with storage(leases):
                make(leases)
                with locked(self._folder / _LOCK, shared=True):
                    if self._lease is None or not self._lease.is_dir():
                        self._lease = Path(tempfile.mkdtemp(dir=leases))
                        descriptor = lock(self._lease / _LOCK)
                        trim = partial(_trim, self._folder, self._size)
                        weakref.finalize(self, _end, os.getpid(), self._lease, descriptor, self._took, trim)
                    (self._lease / name).touch(mode=0o600)

    def _suspicion(self, digest: str) -> Path:
        return self._folder / "suspects" / digest.removeprefix(PREFIX)


def _end(owner: int, lease: Path, descriptor: int, took: threading.Event, trim: Callable[[], object]) -> None:
    """What was held is free to go, and does where there is no room for it."""
    if os.getpid() != owner:  # a fork's copy of it
        return
    shutil.rmtree(lease, ignore_errors=True)
    os.close(descriptor)
    if took.is_set():
        with suppress(StorageFailure, OSError):
            trim()


def _trim(folder: Path, size: int) -> int:
    """Make room if there is none, down to nine tenths of it; returns the bytes that the copies take then."""
    if not folder.is_dir():
        return 0
    copies = _copies(folder)
    with locked(folder / _LOCK):
        for leftover in copies.leftovers(_FORGOTTEN):
            copies.discard(leftover)
        found = sorted((copies.last_use(digest), digest, taken) for digest, taken in copies.digests())
        total = sum(taken for _, _, taken in found)
        if total <= size:
            return total
        held = set(_held(folder / "leases"))
        for _, digest, taken in found:
            if total <= size * 9 // 10:
                break
            if digest not in held:
                copies.delete(digest)
                total -= taken
    return total


def _held(leases: Path) -> Iterator[str]:
    """The blobs that living processes were given; the leases of dead ones are removed."""
    for lease in leases.iterdir() if leases.is_dir() else ():
        if in_use(lease / _LOCK):
            yield from (PREFIX + file.name for file in lease.iterdir())
        else:
            shutil.rmtree(lease, ignore_errors=True)


def _copies(folder: Path) -> _Copies:
    return _Copies.open(str(folder))
