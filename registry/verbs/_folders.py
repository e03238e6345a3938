"""Output folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from registry import _partial
from registry._paths import expanded
from registry.errors import Conflict, StorageFailure


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A staging folder beside ``target`` that becomes ``target`` when the block ends well, and else disappears.

    Raises ``Conflict`` where ``target`` exists, at the start or by then.
    """
    target = expanded(target).absolute()
    refuse_existing(target)
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = stack.enter_context(_partial.new(target.parent, target.name, folder=True))
        except OSError as error:
            raise StorageFailure(f"cannot write to {target.parent}: {error.strerror}") from error
        yield staging
        refuse_existing(target)
        _publish(staging, target)


NEW_PATH = "give a path that does not exist yet, or remove this one first"


def refuse_existing(target: Path, hint: str = NEW_PATH) -> None:
    if os.path.lexists(target):
        raise Conflict(f"{target} exists", hint=hint)


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
