"""The steps of a running command: every change of a file below a folder, every statement and commit, every request.

They are seen from outside: by Python's audit events, SQLAlchemy's events, ``os.fsync`` and the Hub client's transport.
Nothing of this is in the program itself.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import httpx2
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Fault = Literal[
    "kill", "no space", "bad disk", "read only", "interrupt", "terminate", "connection lost", "server stopped", "hub lost"
]  # fmt: skip
FAULTS: tuple[Fault, ...] = get_args(Fault)
TERMINATED = 128 + signal.SIGTERM
"""What the command line exits with when it is told to end."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1,
    "os.chmod": 1, "os.utime": 1,
}  # fmt: skip
_SIGNALS: dict[Fault, signal.Signals] = {
    "kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM,
}  # fmt: skip
_ERRNO = {"no space": errno.ENOSPC, "bad disk": errno.EIO, "read only": errno.EROFS}
_SAID = {
    "no space": "database or disk is full", "bad disk": "disk I/O error", "read only": "attempt to write a readonly database",
}  # fmt: skip


def meets(fault: Fault, step: str, *, sqlite: bool) -> bool:
    """Whether a fault can happen at a step, of which the log has this line."""
    what = step.split(" ", 2)[1]
    if fault in _SIGNALS:
        return True
    if fault == "hub lost":
        return what in {"request", "answer"}
    if what in {"SQL", "commit"}:
        reading = step.split(" ", 3)[2:3] in (["SELECT"], ["PRAGMA"], ["BEGIN"])
        if fault in _OF_SERVER:
            return not sqlite
        return sqlite and (fault == "bad disk" or not reading)
    return fault in _ERRNO and what not in {"request", "answer"}


class Steps:
    """Counts the steps of this process, writes each into ``log``, and lets ``fault`` happen at the step ``at``."""

    def __init__(self, root: Path, log: Path, at: int | None, fault: Fault) -> None:
        self._root = str(root)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._at = at
        self._fault = fault
        self._count = 0
        self._one = threading.Lock()

    def install(self) -> None:
        sys.addaudithook(self._audit)
        event.listen(Engine, "do_execute", self._execute)
        event.listen(Engine, "do_executemany", self._execute)
        event.listen(Engine, "commit", self._commit)
        real = os.fsync

        def fsync(fd: FileDescriptorLike) -> None:
            self._step("fsync", file=True)
            real(fd)

        os.fsync = fsync
        send = httpx2.HTTPTransport.handle_request

        def handle(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
            what = f"{request.method} {request.url.path}"
            self._step(f"request {what}", request=request)
            response = send(transport, request)
            self._step(f"answer {what}", request=request)
            return response

        vars(httpx2)["HTTPTransport"].handle_request = handle

    def rest(self) -> None:
        """What follows is nobody's step."""
        self._at = None
        self._root = "\0"

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            paths = [path] if isinstance(flags, int) and flags & _WRITING else []
        else:
            paths = list(arguments[: _CHANGES.get(name, 0)])
        inside = [path for path in map(_text, paths) if path.startswith(self._root)]
        if inside:
            self._step(f"{name} {inside[-1].removeprefix(self._root)}", file=True)

    def _execute(self, cursor: Any, statement: str, *_: Any) -> None:
        self._step(f"SQL {' '.join(statement.split())[:100]}", connection=cursor.connection)

    def _commit(self, connection: Any) -> None:
        try:
            self._step("commit", connection=connection.connection.dbapi_connection)
        except sqlite3.OperationalError as error:
            # Where this is called from, SQLAlchemy does not wrap errors as it does those of the commit itself.
            raise OperationalError("COMMIT", None, error) from error

    def _step(
        self, name: str, *, file: bool = False, connection: Any = None, request: httpx2.Request | None = None
    ) -> None:
        with self._one:
            self._count += 1
            strikes = self._count == self._at
            os.write(self._log, f"{self._count} {name}\n".encode())
        if strikes:
            self._strike(file, connection, request)

    def _strike(self, file: bool, connection: Any, request: httpx2.Request | None) -> None:
        if self._fault in _SIGNALS:
            signal.raise_signal(_SIGNALS[self._fault])
        elif self._fault == "hub lost":
            if request is not None:
                raise httpx2.ReadError("the connection was reset", request=request)
        elif self._fault in _OF_SERVER:
            if connection is not None and not isinstance(connection, sqlite3.Connection):
                _OF_SERVER[self._fault](connection)
        elif file:
            raise OSError(_ERRNO[self._fault], os.strerror(_ERRNO[self._fault]))
        elif isinstance(connection, sqlite3.Connection):
            raise sqlite3.OperationalError(_SAID[self._fault])


def _cut(connection: Any) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _stop(connection: Any) -> None:
    """Stop the server at once, as ``pg_ctl stop -m immediate`` does, and wait until it is gone."""
    lock = Path(connection.info.host) / f".s.PGSQL.{connection.info.port}.lock"
    os.kill(int(lock.read_text().split()[0]), signal.SIGQUIT)
    until = time.monotonic() + 30
    while lock.exists() and time.monotonic() < until:
        time.sleep(0.01)


_OF_SERVER: dict[Fault, Callable[[Any], None]] = {"connection lost": _cut, "server stopped": _stop}


def _text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
