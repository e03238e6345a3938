"""Turns: what processes that share a catalog do one after another, although no transaction spans it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from sqlalchemy import text

from registry.catalog.database import Contended, Database, make_engine
from registry.errors import StorageFailure

LONGEST = 60.0
"""Seconds that a turn is waited for."""
_GLANCE = 0.1
_FILES = 64  # beside an SQLite database; what shares one waits for no good reason, and seldom


@contextmanager
def turn(database: Database, what: str) -> Iterator[None]:
    """Nobody else's block for ``what`` runs at the same time. A turn ends with its process, however that ends.

    Raises ``Contended`` where it is somebody else's for long.
    """
    until = time.monotonic() + LONGEST
    number = int.from_bytes(sha256(what.encode()).digest()[:8], "big", signed=True)
    if database.url.get_backend_name() == "postgresql":
        yield from _of_server(database, number, what, until)
    else:
        yield from _of_file(database, number % _FILES, what, until)


def _of_server(database: Database, number: int, what: str, until: float) -> Iterator[None]:
    engine = make_engine(database.url)  # its own, as the others' connections may be few
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as holder:
            while not holder.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": number}):
                if time.monotonic() > until:
                    raise _busy(what)
                time.sleep(_GLANCE)
            yield  # and the lock ends with the connection
    finally:
        engine.dispose()


def _of_file(database: Database, number: int, what: str, until: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if not database.url.database:  # in memory, which nobody shares
        yield
        return
    lock = FileLock(f"{database.url.database}.turn-{number}.lock", mode=0o600)
    try:
        lock.acquire(timeout=max(0.0, until - time.monotonic()), poll_interval=_GLANCE)
    except Timeout:
        raise _busy(what) from None
    except OSError as error:
        raise StorageFailure(
            f"cannot write beside {database.url.database}: {error.strerror}", hint="set REGISTRY_HOME"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _busy(what: str) -> Contended:
    return Contended(f"somebody else is at {what}", hint="try again in a while")
