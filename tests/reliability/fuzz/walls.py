"""What a case may not pass: a time, an amount of memory, and its own folder; each reported by its name."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS, WAITED = 10.0, 120.0
"""Of computing, and altogether on a machine that does other things too."""
MEMORY = 1 << 29
"""Bytes of address space that a case may add."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2, "os.link": 2, "os.truncate": 1, "os.chmod": 1,
    "os.utime": 1, "shutil.rmtree": 1,
}  # fmt: skip
_NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect"}


class Hung(BaseException):
    """A case took too long. Nothing that is tried may catch it."""


class _Watch:
    """What is done outside of a folder while it is watched. Hooks stay for ever, so there is one."""

    def __init__(self) -> None:
        self.inside: str | None = None
        self.seen: list[str] = []
        self._hooked = False

    def hook(self) -> None:
        if not self._hooked:
            sys.addaudithook(self._see)
            self._hooked = True

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open" and len(arguments) > 2 and (arguments[2] or 0) & _WRITING:
            self._place(event, arguments[0])
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                if not (event == "os.symlink" and path is arguments[0]):  # what a link says is no place
                    self._place(event, path)

    def _place(self, event: str, path: Any) -> None:
        if isinstance(path, int) or self.inside is None:
            return
        place = os.fsdecode(path)
        if not place.startswith("/") and event in {"os.remove", "os.rmdir"}:
            return  # of shutil.rmtree, which holds the folder open and is told itself
        if not f"{os.path.normpath(Path.cwd() / place)}/".startswith((f"{self.inside}/", "/dev/null/")):
            self.seen.append(f"{event} {place!r:.200}")


_watch = _Watch()


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Tell what the block wrote outside of a folder, ran, unpickled or connected to."""
    _watch.hook()
    _watch.seen = []
    _watch.inside = str(folder)
    try:
        yield _watch.seen
    finally:
        _watch.inside = None


@contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """An alarm for what hangs, an end to memory, and a place for temporary files."""

    def hung(*_: object) -> None:
        raise Hung

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = {each: signal.signal(each, hung) for each in (signal.SIGALRM, signal.SIGPROF)}
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for each, handler in previous.items():
            signal.signal(each, handler)
        tempfile.tempdir = temporary
        sys.dont_write_bytecode = compiled


@contextmanager
def alarmed() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
