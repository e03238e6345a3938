"""To whom files and folders say no: also where the tests run as root, which otherwise may write anywhere."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_VERSION = 0x20080522
_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def ordinary() -> Iterator[None]:
    """This thread, and those it starts, may do in the block what modes of files allow, and no more."""
    if os.geteuid() != 0:
        yield
        return
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    _call(_libc.capget, header, sets)
    before = sets[0].effective
    sets[0].effective = before & ~_OVERRIDES
    _call(_libc.capset, header, sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _call(_libc.capset, header, sets)


def _call(function: object, header: _Header, sets: ctypes.Array[_Sets]) -> None:
    if not callable(function) or function(ctypes.byref(header), sets) != 0:
        pytest.skip("this system lets nobody give up rights")


@contextmanager
def read_only(*places: Path) -> Iterator[None]:
    """These files and folders, with all that is in them, cannot be written to in the block by an :func:`ordinary` one."""
    modes: dict[Path, int] = {}
    for place in places:
        for path in (place, *place.rglob("*")):
            if not path.is_symlink():
                modes[path] = path.stat().st_mode & 0o7777
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with ordinary():
            yield
    finally:
        for path in sorted(modes):
            if path.exists():
                path.chmod(modes[path])
