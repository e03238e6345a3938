"""Noticing that the file of an SQLite catalog was removed or replaced while it is open.

SQLite goes on with the file that it opened, which nobody else finds any more, and with the log beside it, which is taken
for the new file's. So a connection is lent, and a transaction committed, only while the name still leads to that file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from registry.catalog import _frozen
from registry.errors import StorageFailure


def guard(engine: Engine) -> None:
    """Have the engine raise ``StorageFailure`` once its path does not lead to the file that it opened first.

    One that is read as a file that nobody changes may be replaced: it is opened again (:mod:`._frozen`).
    """
    path = Path(str(engine.url.database))
    opened: list[tuple[int, int]] = []

    def look(*_: Any) -> None:
        if opened and _identity(path) != opened[0]:
            what = "replaced" if path.exists() else "removed"
            raise StorageFailure(
                f"the database file {path} was {what} while it was open",
                hint="nothing was changed; stop what uses it, put it back or restore a backup, and try again",
            )

    def on_connect(_: Any, record: ConnectionPoolEntry) -> None:
        found = _identity(path)
        if not (opened or found is None or _frozen.is_frozen(record)):
            opened.append(found)

    def on_checkout(_: Any, record: ConnectionPoolEntry, __: Any) -> None:
        if not _frozen.is_frozen(record):
            look()

    event.listen(engine, "do_connect", look)  # which would make an empty file where there is none
    event.listen(engine, "connect", on_connect)
    event.listen(engine, "checkout", on_checkout)
    event.listen(engine, "commit", look)


def refuse_orphan(file: Path) -> None:
    """Raise ``StorageFailure`` where only the log of a database is left: SQLite would remove it, and begin anew."""
    log = Path(f"{file}-wal")
    try:
        lost = log.stat().st_size > 0 and not file.exists()
    except OSError:
        return
    if lost:
        raise StorageFailure(
            f"the database file {file} is gone, and its log {log.name} is still there",
            hint="put the file back, or move the log away and restore a backup",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
