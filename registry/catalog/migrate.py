"""Schema revisions: what a database has, and bringing it to what this release needs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from registry.catalog.database import (
    HEAD,
    Database,
    make_engine,
    make_private,
    outdated,
    shown,
    translated,
    wrapped,
)
from registry.errors import SchemaOutdated, StorageFailure
from registry.results import Schema

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x61646170  # one number for every process that upgrades this kind of catalog
PATIENCE = 10.0
"""Seconds that a revision waits for a lock on PostgreSQL: everybody else waits behind it."""

_NOT_AVAILABLE = "55P03"  # PostgreSQL's word for a lock that was not to be had in time
_BREATH = 0.1  # seconds in which those who waited go on
_TIMES = text(  # in milliseconds: what a statement may take, and what somebody waits before a deadlock is looked for
    "SELECT CAST(allowed.setting AS integer), CAST(noticed.setting AS integer) "
    "FROM pg_settings AS allowed, pg_settings AS noticed "
    "WHERE allowed.name = 'statement_timeout' AND noticed.name = 'deadlock_timeout'"
)
_LOOKS = text(
    "SELECT relname, seq_scan + coalesce(idx_scan, 0) AS looks FROM pg_stat_user_tables "
    "WHERE schemaname = current_schema()"
)


def status(url: str) -> Schema:
    """The revision the database is at. Changes nothing: not even an empty database file is made."""
    database = Database(url)
    try:
        sqlite_file = database.url.database if database.url.get_backend_name() == "sqlite" else None
        missing = sqlite_file is not None and not Path(sqlite_file).exists()
        current = None if missing else database.revision()
    finally:
        database.close()
    return Schema(url=shown(database.url), current=current, head=HEAD, ok=current == HEAD)


def check(url: str) -> Schema:
    """The same, and whether the tables are what this release makes, to the last index. Changes nothing."""
    from registry.catalog import drift

    found = status(url)
    if not found.ok:
        return found
    database = Database(url)
    engine = make_engine(database.url)
    try:
        with translated(database.url):
            problems = drift.differences(engine)
    finally:
        engine.dispose()
        database.close()
    return found.model_copy(update={"ok": not problems, "problems": problems})


def upgrade(url: str) -> Schema:
    """Run the missing revisions, each in its own transaction; two upgraders wait for one another."""
    database = Database(url)
    make_private(database.url)
    engine = make_engine(database.url)
    try:
        with translated(database.url), exclusive(engine):
            current = database.revision()
            if current is not None and current > HEAD:
                raise outdated(database.url, current)
            if current != HEAD:
                bring_to(engine, HEAD)
    finally:
        engine.dispose()
        database.close()
    return status(url)


def bring_to(engine: Engine, revision: str) -> None:
    """Run the revisions up to this one; whoever calls this is the only one to (:func:`exclusive`).

    Raises ``StorageFailure`` where others keep what it needs locked: it waits for seconds only, as all others would
    wait behind it.
    """
    from alembic import command
    from alembic.util import CommandError

    from registry.catalog import roles

    with engine.execution_options(registry_write=True).connect() as connection:
        server = connection.dialect.name == "postgresql"
        try:
            if server:
                roles.become_owner(connection)
            command.upgrade(configuration(connection), revision)
        except CommandError as error:
            raise SchemaOutdated(
                f"{shown(engine.url)} cannot be upgraded: {error}",
                hint="its revision is of no release of this package; restore it from a copy",
            ) from error
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _NOT_AVAILABLE:
                raise
            connection.rollback()
            raise StorageFailure(
                f"{shown(engine.url)} cannot be upgraded while others use it: {_others(connection)}",
                hint="wait until they are done, or stop them; nothing was changed",
            ) from error
        if server:
            with connection.begin():
                roles.again(connection)


def _others(connection: Connection) -> str:
    """Who has had a transaction open on tables of this database for longest."""
    found = connection.execute(
        text(
            "SELECT pid, usename, application_name, "
            "CAST(extract(epoch FROM clock_timestamp() - xact_start) AS integer) AS seconds FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL "
            "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'relation' AND granted) "
            "ORDER BY xact_start LIMIT 3"
        )
    ).all()
    said = [
        f"process {row.pid} ({' '.join(filter(None, (row.usename, row.application_name)))}) for {row.seconds} s"
        for row in found
    ]
    return ", ".join(said) or "they are done by now"


def everything(connection: Connection, tables: Collection[str]) -> None:
    """Lock these tables of PostgreSQL against all others, and let nobody fail for it who looks at them meanwhile.

    Who waits for one of them may hold another. The server ends somebody for that after a while: so all of them are
    had in less, or none, and tried again; first those that are looked at most, as who waits there holds the least.
    Fails as a lock does that is not to be had in time.
    """
    import psycopg
    from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

    looked_at: dict[str, int] = {row.relname: row.looks for row in connection.execute(_LOOKS)}
    order = sorted(tables, key=lambda table: (-looked_at.get(table, 0), table))
    wanted = f"LOCK TABLE {', '.join(order)} IN ACCESS EXCLUSIVE MODE"
    allowed, noticed = connection.execute(_TIMES).one()
    driver: Any = connection.connection.driver_connection
    until = time.monotonic() + 3 * PATIENCE  # with breaks
    while time.monotonic() < until:
        try:
            with driver.transaction():  # in the one that there is: a savepoint
                driver.execute(f"SET LOCAL statement_timeout = {max(1, noticed // 2)}")
                driver.execute(wanted)
                driver.execute(f"SET LOCAL statement_timeout = {allowed}")
        except (QueryCanceled, LockNotAvailable, DeadlockDetected):
            time.sleep(_BREATH)
        except psycopg.Error as error:
            raise wrapped(connection, wanted, error, psycopg.Error, lost=driver.broken) from error
        else:
            return
    connection.exec_driver_sql(f"{wanted} NOWAIT")


def settled(database: Database) -> str | None:
    """The revision once nobody is upgrading: between two revisions a catalog that is being made looks like an old one."""
    engine = make_engine(database.url)
    try:
        with exclusive(engine):
            return database.revision()
    finally:
        engine.dispose()


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, working from a checkout and from an installed package alike."""
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def scripts() -> Path:
    """The migrations folder: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@contextmanager
def exclusive(engine: Engine) -> Iterator[None]:
    """Nobody else changes the schema meanwhile, nor makes one."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as holder:
            # Of a transaction: a pooler could keep a session, and its lock, when nobody uses them any more.
            holder.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield
        return
    from filelock import FileLock

    file = Path(str(engine.url.database))
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(f"{file}.lock", mode=0o600)
        lock.acquire()
    except OSError as error:
        raise StorageFailure(
            f"cannot write beside {file}: {error.strerror}",
            hint="it takes somebody who may write to that folder; or set REGISTRY_HOME to another",
        ) from error
    try:
        yield
    finally:
        lock.release()
