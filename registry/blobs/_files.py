"""Private folders on this machine's disk: made durable, locked by processes, and one line where that fails."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.errors import StorageFailure


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """The file, made and locked until the block ends or the process does, whichever way."""
    descriptor = lock(path, shared=shared)
    try:
        yield
    finally:
        os.close(descriptor)


def lock(path: Path, *, shared: bool = False) -> int:
    """The same until the descriptor that this returns is closed."""
    with storage(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # a file system without locks: age alone tells leftovers there
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    return descriptor


def in_use(path: Path) -> bool:
    """Whether a living process has the file locked."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:  # killed before it made the file, or somebody else's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def make(folder: Path) -> None:
    """Make a private folder whose entry in the one above is durable."""
    if not folder.is_dir():
        for above in reversed([each for each in folder.parents if not each.is_dir()]):
            above.mkdir(mode=0o700, exist_ok=True)  # the home is among them where the database is elsewhere
        folder.mkdir(mode=0o700, exist_ok=True)
        fsync(folder.parent)
        fsync(folder.parent.parent)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage(path: Path) -> Iterator[None]:
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
