"""Running what measures an adapter: a command of the user's, or a function. One place for sweeps and ``eval run``.

A command is run without a shell, in a process group of its own, which is ended with it. Its metrics are a JSON object of
finite numbers on the last line of what it prints.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from registry._secrets import redact
from registry.decimals import format_decimal
from registry.errors import RegistryError, UsageError
from registry.verbs._text import check_text

_TAIL = 1 << 20  # bytes kept of what a command prints: as many metrics as there may be
_READ = 1 << 16  # bytes at once, and characters that are looked through for what to say
_SAID = 500  # characters of it in a message
_METRICS = 1000
_GLANCE = 0.1  # seconds between looks whether all is to end
_LAST_WORDS = 5.0  # seconds for what was printed, once nobody is left who could print
_PLACE = re.compile(
    r"\{(\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*)\}"
)  # {name}, or {{name}} for the text

Fresh = Callable[[], Path]
Function = Callable[[Path, Mapping[str, Decimal]], Mapping[str, float]]


@dataclass(frozen=True)
class Measured:
    """What an evaluation gave; ``metrics`` is empty unless ``state`` is ``ok``. ``seconds`` is the last attempt's."""

    state: Literal["ok", "failed", "timeout"]
    metrics: Mapping[str, float]
    attempts: int
    seconds: float
    error: str | None = None


class Evaluator(Protocol):
    """Measures an adapter: ``fresh`` makes its folder, for each attempt. May be called in several threads at once."""

    def measure(self, fresh: Fresh, ref: str, values: Mapping[str, Decimal]) -> Measured: ...

    def stop(self) -> None: ...


class _Failed(Exception):
    """One attempt gave no metrics."""

    def __init__(self, message: str, state: Literal["failed", "timeout"] = "failed") -> None:
        super().__init__(message)
        self.state: Literal["failed", "timeout"] = state


class Stopped(RegistryError):
    """Everything is to end: what was being measured is not recorded."""


class Command:
    """A command line with ``places`` of the adapter and ``variables`` in braces; ``{{name}}`` is the text ``{name}``.

    Raises ``UsageError`` for one that cannot be split into words, names no place of the adapter or anything else in
    braces, or a ``timeout`` or number of ``retries`` that is none.
    """

    def __init__(
        self,
        text: str,
        *,
        places: tuple[str, ...],
        variables: Collection[str],
        timeout: float | None,
        retries: int,
    ) -> None:
        check_text("command", text)
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            raise UsageError(
                f"the command cannot be split into words: {error}", hint="close its quotes"
            ) from None
        found = named(text)
        known = [*places, *variables]
        if unknown := next((each for each in sorted(found) if each not in known), None):
            raise UsageError(
                f"the command names {{{unknown[:60]}}}, of which nothing is known",
                hint=f"there is {', '.join(f'{{{each}}}' for each in known)}; "
                f"the text itself is written {{{{{unknown[:60]}}}}}",
            )
        if not found & set(places):
            raise UsageError(
                f"the command does not say where the adapter comes in: {text[:200]}",
                hint="write {path} where its folder is to stand: --run 'python eval.py {path}'",
            )
        if timeout is not None and not 0 < timeout < threading.TIMEOUT_MAX:
            raise UsageError(
                f"a time limit is more than 0 s and less than {threading.TIMEOUT_MAX:.0f}, not {timeout:g}",
                hint="--timeout 600",
            )
        self._timeout, self._retries = timeout, _checked_retries(retries)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def measure(self, fresh: Fresh, ref: str, values: Mapping[str, Decimal]) -> Measured:
        """Run it until it succeeds or the retries are used up.

        Raises ``Stopped`` once it was told to :meth:`stop`, and ``UsageError`` where there is no such program.
        """
        numbers = {name: format_decimal(value) for name, value in values.items()}

        def once() -> dict[str, float]:
            put = {"path": str(fresh()), "ref": ref, **numbers}
            words = [_PLACE.sub(lambda place: put.get(place[1], place[1]), word) for word in self._words]
            return _metrics(self._once(words))

        return _attempts(once, self._retries, self._stopped)

    def stop(self) -> None:
        """End what is running, with all that it started, and begin nothing more."""
        self._stopped.set()
        with self._lock:
            for process in self._running:
                _end(process)

    def _once(self, words: list[str]) -> bytes:
        """What one run printed last."""
        with self._lock:
            if self._stopped.is_set():
                raise Stopped("stopped")
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except (FileNotFoundError, PermissionError, NotADirectoryError) as error:  # nor another time
                raise UsageError(
                    f"{words[0][:200]} cannot be run: {error.strerror}",
                    hint="the command is run without a shell, from this folder: write env NAME=value for a setting, "
                    "and sh -c '…' for what needs a shell",
                ) from None
            except (OSError, ValueError) as error:
                raise _Failed(f"{words[0][:200]} cannot be run: {error}") from None
            self._running.add(process)
        try:
            out, err = _Tail(process.stdout), _Tail(process.stderr)
            in_time = self._ended(process)
        finally:
            _end(process)
            process.wait()
            with self._lock:
                self._running.discard(process)
        until = time.monotonic() + _LAST_WORDS
        printed, complaint = out.text(until), err.text(until)
        if self._stopped.is_set():
            raise Stopped("stopped")
        if not in_time:
            raise _Failed(
                f"it took longer than {self._timeout:g} s and was ended{_told(complaint)}", "timeout"
            )
        if process.returncode:
            raise _Failed(f"{_code(process.returncode)}{_told(complaint) or _told(printed)}")
        return printed

    def _ended(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it ended within its time, or was stopped."""
        until = math.inf if self._timeout is None else time.monotonic() + self._timeout
        while not self._stopped.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return False
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(_GLANCE, left))
                return True
        return True


class Called:
    """A function that measures. It is not interrupted: a time limit needs a command.

    Raises ``UsageError`` for what cannot be called, or a number of ``retries`` that is none.
    """

    def __init__(self, function: Function, *, retries: int) -> None:
        if not callable(function):
            raise UsageError(
                f"what measures cannot be called: {plain(repr(function))}",
                hint="give a function of the adapter's folder and the values",
            )
        self._function, self._retries = function, _checked_retries(retries)
        self._stopped = threading.Event()

    def measure(self, fresh: Fresh, ref: str, values: Mapping[str, Decimal]) -> Measured:  # noqa: ARG002  (a function has no use for it)
        def once() -> dict[str, float]:
            path = fresh()
            try:
                return _checked(self._function(path, dict(values)))  # its own, to do with as it likes
            except _Failed:
                raise
            # Whatever it raises is recorded with the point: also an exit, which would end the sweep without a word.
            except (Exception, SystemExit) as error:
                raise _Failed(f"{type(error).__name__}: {plain(str(error))}") from error

        return _attempts(once, self._retries, self._stopped)

    def stop(self) -> None:
        self._stopped.set()


def plain(text: str) -> str:
    """The end of a text, as one line without control characters and secrets."""
    line = " ".join(redact(text[-_READ:]).split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line[-_SAID:])


def named(text: str) -> frozenset[str]:
    """The places of a command: ``path``, ``ref`` and the variables that it is given."""
    places = (place for word in shlex.split(text) for place in _PLACE.findall(word))
    return frozenset(place for place in places if not place.startswith("{"))


def _attempts(once: Callable[[], dict[str, float]], retries: int, stopped: threading.Event) -> Measured:
    for attempt in range(1, retries + 2):
        if stopped.is_set():
            raise Stopped("stopped")
        started = time.monotonic()
        try:
            metrics = once()
        except _Failed as error:
            failed = Measured(error.state, {}, attempt, time.monotonic() - started, str(error))
        else:
            return Measured("ok", metrics, attempt, time.monotonic() - started)
    return failed


def _metrics(printed: bytes) -> dict[str, float]:
    # Of bytes: text has more ends of lines than JSON.
    lines = [line for line in printed.splitlines() if line.strip()]
    if not lines:
        raise _Failed("it printed nothing; its last line has to be a JSON object of numbers")
    last = lines[-1].decode(errors="replace").strip()
    try:
        found = json.loads(last)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Failed(f"its last line is no JSON object of numbers{_almost(last)}: {plain(last)}")
    return _checked(found)


def _almost(line: str) -> str:
    """What is missing to make JSON of it, where that is a common mistake."""
    if line.startswith("{'"):
        return " (Python's print writes no JSON: print(json.dumps(…)))"
    return " (write it on one line)" if line == "}" else ""


def _checked(found: Any) -> dict[str, float]:
    """Metrics that can be recorded. Raises ``_Failed``, naming the one that cannot."""
    if not isinstance(found, Mapping):
        raise _Failed(f"it gave {plain(repr(found))}, not a mapping of names to numbers")
    if not 0 < len(found) <= _METRICS:
        raise _Failed(f"it gave {len(found)} metrics, not 1 to {_METRICS}")
    metrics: dict[str, float] = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise _Failed(f"the name of a metric is {plain(repr(name))}, not a text")
        try:
            check_text("metric", name)
        except UsageError as error:
            raise _Failed(f"a metric that it gave has no usable name: {error.message}") from None
        number = _number(value)
        if not math.isfinite(number):
            raise _Failed(f"its {plain(name)} is {plain(repr(value))}, not a finite number")
        metrics[name] = number
    return metrics


def _number(value: Any) -> float:
    """A number, also one that NumPy, PyTorch or ``decimal`` has wrapped; otherwise NaN."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.nan


def _checked_retries(retries: int) -> int:
    if retries < 0:
        raise UsageError(f"retries are 0 or more, not {retries}", hint="--retries 2")
    return retries


class _Tail:
    """The end of what is written to a pipe, read to the last so that nobody waits for room in it."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe, self._kept = pipe, bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError):
            while self._pipe is not None and (some := os.read(self._pipe.fileno(), _READ)):
                self._kept += some
                if len(self._kept) > 2 * _TAIL:  # not each time, or every byte is moved again and again
                    del self._kept[:-_TAIL]

    def text(self, until: float) -> bytes:
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._pipe is not None and not self._thread.is_alive():
            self._pipe.close()
        return bytes(self._kept[-_TAIL:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its whole group, whose number is its own, also where it ended and left others behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _code(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"it was ended by signal {-code}"


def _told(complaint: bytes) -> str:
    said = plain(complaint.decode(errors="replace"))
    return f": {said}" if said else ""
