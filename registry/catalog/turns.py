"""Turns: what processes that share a catalog do one after another, although no transaction spans it."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from sqlalchemy import text

from registry.catalog.database import Contended, Database
from registry.errors import StorageFailure

LONGEST = 60.0
"""Seconds that a turn is waited for, where nobody is patient."""
_GLANCE = 0.1
_DOZE = 1.0  # seconds between looks, in a long wait
_TAKE = text("SELECT pg_try_advisory_xact_lock(:key)")
# For as long as it takes, whatever the server allows others. It is also the statement after, which has no parameters:
# one that has them keeps its snapshot until another comes, and with that every row that is deleted meanwhile.
_FOR_LONG = text(
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_NAME = re.compile(r"\.turn-([0-9a-f]{16})$")


@contextmanager
def turn(
    database: Database, what: str, *, patient: bool = False, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Nobody else's block for ``what`` runs at the same time. A turn ends with its process, however that ends.

    ``waiting`` is called once where it is somebody else's turn. Raises ``Contended`` where it stays so for long, unless
    one is ``patient``.
    """
    until = float("inf") if patient else time.monotonic() + LONGEST
    name = sha256(what.encode()).digest()[:8]
    one = _of_server if database.url.get_backend_name() == "postgresql" else _of_file
    with one(database, name) as taken:
        rest = _GLANCE
        while not taken():
            if waiting is not None:
                waiting()
                waiting = None
            if time.monotonic() > until:
                raise Contended(f"somebody else is at {what}", hint="try again in a while")
            time.sleep(rest)
            rest = min(_DOZE, rest * 1.2)
        yield


@contextmanager
def _of_server(database: Database, name: bytes) -> Iterator[Callable[[], bool]]:
    """The lock of a transaction, which ends with the connection also where a pooler keeps that for others."""
    number = int.from_bytes(name, "big", signed=True)
    with database.apart() as connection:

        def taken() -> bool:
            connection.rollback()
            if connection.scalar(_TAKE, {"key": number}):
                connection.execute(_FOR_LONG)
                return True
            return False

        yield taken


@contextmanager
def _of_file(database: Database, name: bytes) -> Iterator[Callable[[], bool]]:
    """A lock on a file beside the database, which is there only as long as it is somebody's turn."""
    path = Path(f"{database.url.database}.turn-{name.hex()}")
    held: list[int] = []

    def taken() -> bool:
        descriptor = _locked(path)
        if descriptor is not None:
            held.append(descriptor)
        return descriptor is not None

    try:
        yield taken
    finally:
        for descriptor in held:
            with suppress(OSError):
                path.unlink()  # while it is locked, so that it is nobody else's
            os.close(descriptor)


def sweep(database: Database) -> None:
    """Remove the files that killed processes left."""
    if database.url.get_backend_name() == "postgresql":
        return
    file = Path(str(database.url.database))
    for path in file.parent.glob(f"{glob.escape(file.name)}.turn-*"):
        if name := _NAME.search(path.name):
            with _of_file(database, bytes.fromhex(name[1])) as taken:
                taken()


def _locked(path: Path) -> int | None:
    """The file, made where it has to be and locked; None where somebody else has it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFailure(
                f"cannot write {path}: {error.strerror}",
                hint="it takes somebody who may write to that folder; or set REGISTRY_HOME to another",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks, where things may be done twice
            return descriptor
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # who had it removed it meanwhile
