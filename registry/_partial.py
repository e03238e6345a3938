"""What is still being written: beside its place, under a name of its own, and locked for as long as its writer lives.

So what a killed process left is told from what another one is at work on, at once, and the next who writes into that
folder removes it. On a file system without locks only age tells them apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".registry-partial"
_ABANDONED_S = 3600


@contextmanager
def new(parent: Path, name: str, *, folder: bool) -> Iterator[Path]:
    """A private, empty folder or file in ``parent``, removed at the end of the block unless it was renamed.

    What others left there is removed first. Raises ``OSError``.
    """
    sweep(parent)
    path, descriptor = _claimed(parent, f".{os.fsdecode(os.fsencode(name)[:100])}.", folder=folder)
    try:
        yield path
    finally:
        try:
            remove(path)
        finally:
            os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove what is :func:`abandoned` in ``parent``; what cannot be removed stays."""
    for path in abandoned(parent):
        remove(path)


def abandoned(parent: Path) -> Iterator[Path]:
    """What dead processes of this user left in ``parent``; nobody else takes it while it is looked at."""
    for path in sorted(parent.glob(f".*{SUFFIX}")):
        with suppress(OSError), _opened(path) as descriptor:
            mine = os.fstat(descriptor).st_uid == os.geteuid()
            if mine and _is_abandoned(path, descriptor):
                yield path


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what cannot be removed stays.

    It is what ends every way out, so a Ctrl-C meanwhile waits for it: what is half removed would stay.
    """
    try:
        _remove(path)
    except KeyboardInterrupt:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _claimed(parent: Path, prefix: str, *, folder: bool) -> tuple[Path, int]:
    while True:
        path = _made(parent, prefix, folder=folder)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # swept before it was locked
            continue
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return path, descriptor
        os.close(descriptor)


def _made(parent: Path, prefix: str, *, folder: bool) -> Path:
    if folder:
        return Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=SUFFIX))
    descriptor, name = tempfile.mkstemp(dir=parent, prefix=prefix, suffix=SUFFIX)
    os.close(descriptor)
    return Path(name)


def _is_abandoned(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        newest = max(each.stat().st_mtime for each in [path, *path.rglob("*")])
        return time.time() - newest > _ABANDONED_S
    return True
