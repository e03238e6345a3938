"""Which content a folder was seen to hold: one that has not changed since need not be read again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry import _partial
from registry._remembered import SETTLED_NS, Stamp, stamp
from registry.digest import is_digest
from registry.peft_format import CONFIG, TENSORS

Stamps = tuple[Stamp, Stamp]


def stamps(folder: Path) -> Stamps | None:
    """What no change of an adapter's two files leaves as it was; None where they cannot be looked at."""
    try:
        return stamp((folder / CONFIG).stat()), stamp((folder / TENSORS).stat())
    except OSError:
        return None


class Seen:
    """Content digests by folder and stamps, in a file of JSON lines that grows; without one, nothing is remembered.

    As with ``Remembered``, a folder is kept only if it had not changed for some seconds before it was read. The file
    is no more than a help, and is written anew once most of it is out of date.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path if os.name == "posix" else None
        self._known: dict[str, list[Any]] = {}
        lines = 0
        for lines, line in enumerate(self._lines(), 1):  # noqa: B007  (counted)
            with suppress(ValueError, RecursionError):  # torn by a crash, or written by somebody else
                match json.loads(line):
                    case [str(folder), list(stamped), str(known)] if is_digest(known):
                        self._known[folder] = [stamped, known]
        if lines > 2 * len(self._known) + 1000:
            self._compact()

    def find(self, folder: Path, found: Stamps | None) -> str | None:
        """The content digest of a folder with these stamps, where it was seen."""
        match self._known.get(str(folder)):
            case [stamped, str(known)] if found is not None and stamped == [list(each) for each in found]:
                return known
        return None

    def keep(self, digests: Mapping[Path, tuple[Stamps, int, str]]) -> None:
        """Remember contents, each of a folder with these stamps whose reading began at this time (``time_ns``)."""
        lines = [
            json.dumps([str(folder), stamped, digest])
            for folder, (stamped, began, digest) in digests.items()
            if max(when for each in stamped for when in each[-2:]) + SETTLED_NS < began
        ]
        if self._path is None or not lines:
            return
        with suppress(OSError, UnicodeEncodeError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._path.open("ab") as file:
                file.write("".join(f"\n{line}" for line in lines).encode())

    def _lines(self) -> Iterable[bytes]:
        try:
            return self._path.read_bytes().splitlines() if self._path is not None else ()
        except OSError:
            return ()

    def _compact(self) -> None:
        if self._path is None:
            return
        with (
            suppress(OSError, UnicodeEncodeError),
            _partial.new(self._path.parent, self._path.name, folder=False) as written,
        ):
            with written.open("wb") as file:
                for folder, (stamped, known) in self._known.items():
                    file.write(json.dumps([folder, stamped, known]).encode() + b"\n")
            written.replace(self._path)
