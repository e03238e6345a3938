"""Output folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry._paths import expanded
from registry.blobs._files import remove
from registry.errors import Conflict, StorageFailure

_ABANDONED_S = 3600


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A staging folder beside ``target`` that becomes ``target`` when the block ends well, and else disappears.

    Raises ``Conflict`` where ``target`` exists, at the start or by then.
    """
    target = expanded(target).absolute()
    refuse_existing(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    except OSError as error:
        raise StorageFailure(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield staging
        refuse_existing(target)
        _publish(staging, target)
    finally:
        remove(staging)  # gone already after the rename


def _sweep(target: Path) -> None:
    """Remove what a killed process left of this very folder: partial, and not touched for an hour."""
    for left in target.parent.glob(f".{target.name}.*.partial"):
        newest = max(path.stat().st_mtime for path in [left, *left.rglob("*")])
        if time.time() - newest > _ABANDONED_S:
            remove(left)


def refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise Conflict(
            f"{target} exists", hint="give a path that does not exist yet, or remove this one first"
        )


def _publish(staging: Path, target: Path) -> None:
    try:
        # A folder made with mkdtemp is private; what a user asked for has the usual permissions.
        mask = os.umask(0o077)  # until it is put back, other threads make nothing that is open to others
        os.umask(mask)
        staging.chmod(0o777 & ~mask)
        for folder, _, files in os.walk(staging, topdown=False):
            for name in files:
                _fsync(Path(folder, name))
            _fsync(Path(folder))
        staging.rename(target)
        _fsync(target.parent)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise Conflict(
                f"{target} exists", hint="somebody made it meanwhile; choose another folder"
            ) from error
        raise StorageFailure(f"cannot write {target}: {error.strerror}") from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
