"""What files were seen to hold: a file that has not changed since need not be read again to be identified."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry import _partial
from registry.digest import is_digest

FORMAT = 1
SETTLED_NS = 5 * 10**9
MOST_FILES = 10_000

Stamp = tuple[int, int, int, int, int]


def stamp(found: os.stat_result) -> Stamp:
    """What no change of a file leaves as it was: a write sets the last entry, the time of change, by itself."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Remembered:
    """Digests by path and stamp, in a JSON file; without one, nothing is remembered.

    A digest is kept only of a file that had not changed for some seconds when its reading began: a write after
    that cannot leave the same time of change, however coarse the file system's clock. The file is no more than a
    help: where it cannot be read or written, files are read again.
    """

    def __init__(self, path: Path | None) -> None:
        # Elsewhere than on POSIX systems, the time of change is the time of creation.
        self._path = path if os.name == "posix" else None
        self._files = self._read()

    def find(self, file: Path) -> str | None:
        """The digest of a file, where it was seen and has not changed."""
        entry = self._files.get(str(file.resolve()))
        try:
            match entry:
                case [*stamped, str(known)] if tuple(stamped) == stamp(file.stat()) and is_digest(known):
                    return known
        except OSError:
            pass
        return None

    def keep(self, digests: Mapping[Path, tuple[Stamp, int, str]]) -> None:
        """Remember digests, each of a file with this stamp whose reading began at this time (``time_ns``)."""
        settled = {
            str(file.resolve()): [*stamped, digest]
            for file, (stamped, began, digest) in digests.items()
            if max(stamped[-2:]) + SETTLED_NS < began
        }
        if self._path is None or not settled:
            return
        files = {**self._read(), **settled}  # others may have written meanwhile
        self._files = dict(list(files.items())[-MOST_FILES:])
        with suppress(OSError):
            self._write(self._path)

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        match content:
            case {"format": format_, "files": dict(files)} if format_ == FORMAT:
                return files
        return {}

    def _write(self, path: Path) -> None:
        with _partial.new(path.parent, path.name, folder=False) as written:
            written.write_text(json.dumps({"format": FORMAT, "files": self._files}))
            written.replace(path)
