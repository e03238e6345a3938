"""Reading a SQLite catalog in a folder that cannot be written to.

A catalog in WAL mode needs a file for its locks beside it, unless it is read as one that nobody changes. Nobody says so,
so it is seen: what was read counts only if the file is what it was before, and no writer left or keeps a log beside it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from registry.errors import StorageFailure

_SETTLED_NS = 20_000_000  # what the times of files are exact to, at least
_FROZEN = "frozen"


def readable(engine: Engine) -> None:
    """Let the engine read, and only read, its file also where the folder cannot be written to."""
    event.listen(engine, "do_connect", _on_do_connect)
    event.listen(engine, "checkout", _on_checkout)


def is_frozen(record: ConnectionPoolEntry) -> bool:
    return _FROZEN in record.info


@contextmanager
def checked(session: Session) -> Iterator[None]:
    """Raise ``StorageFailure`` where what was read in this session may have changed meanwhile.

    Also in place of what seemed wrong: of a file that somebody is writing to, a reader sees a part.
    """
    try:
        yield
    except Exception:
        _check(session)
        raise
    _check(session)


def _check(session: Session) -> None:
    if session.get_bind().dialect.name != "sqlite" or not session.in_transaction():  # or nothing was asked
        return
    connection = session.connection()
    if connection.invalidated or _FROZEN not in connection.info:
        return
    path, before = connection.info[_FROZEN]
    if _stamp(path) != before:
        connection.invalidate()
        raise StorageFailure(f"{path} was changed while it was read", hint="try again")


def _on_do_connect(_dialect: Any, record: ConnectionPoolEntry, words: Any, options: Any) -> Any:
    path = Path(os.path.realpath(words[0]))  # beside which a log would be
    if os.access(path.parent, os.W_OK, effective_ids=True) or not path.is_file():
        return None  # as usual
    if (stamp := _stamp(path)) is None:
        return None  # a writer's log is there, and with its locks it can be read
    record.info[_FROZEN] = path, stamp
    return sqlite3.connect(f"file:{quote(str(path))}?immutable=1", uri=True, **options)


def _on_checkout(_connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    if _FROZEN in record.info:
        path, before = record.info[_FROZEN]
        if _stamp(path) != before:
            raise DisconnectionError  # and connect again


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells that the file was changed; None where somebody may be at it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # which also asks a file server again
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if (
            abs(time.time_ns() - found.st_mtime_ns) < _SETTLED_NS
        ):  # a change right now could leave the same time
            time.sleep(_SETTLED_NS / 1e9)
            found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if any(os.path.lexists(f"{path}{suffix}") for suffix in ("-wal", "-journal")):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
