"""Paths as users give them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from registry.errors import UsageError


class NotRegular(OSError):
    """A pipe, a device, a socket or a folder in place of a file."""


def expanded(path: str | Path) -> Path:
    """The path, with ``~`` and ``~somebody`` at its start replaced. Raises ``UsageError`` where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{str(path)!r:.200} begins with the home folder of nobody who is known here",
            hint="give the whole path, from the root on",
        ) from None


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. A pipe is not waited for: raises ``NotRegular``, an ``OSError``, for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")
