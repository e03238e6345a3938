"""The engine and its transactions: SQLite by default, PostgreSQL for teams, the same code for both."""

from __future__ import annotations

import logging
import os
import re
import selectors
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from pydantic import ValidationError
from sqlalchemy import (
    Connection,
    Engine,
    Insert,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from registry.catalog import _frozen, _same_file, seals
from registry.catalog._rights import needed
from registry.errors import (
    DatabaseDamaged,
    Denied,
    RegistryError,
    SchemaOutdated,
    StorageFailure,
    UsageError,
)

HEAD = "0005"
"""The schema revision this release works with."""

T = TypeVar("T")
_BUSY_TIMEOUT_MS = 30_000
_CHUNK = 500  # bound parameters in one statement
_NOT_ALLOWED = "42501"
_REFUSED_TABLE = re.compile(r"permission denied for (?:table|sequence) (\w+?)(?:_id_seq)?$")
_CONTENTION = {"40P01", "40001"}  # PostgreSQL's deadlock, and its failure to serialize
_CACHE_KIB = 65_536  # SQLite's own 2 MB hold the upper levels of no large index
_LONG_REST = 60.0  # seconds
# Of SQLite, whose schema has been compared when it was opened.
_SIGNS_OF_DAMAGE = (
    "malformed",
    "decode to UTF-8",
    "no such column:",
    "no such table:",
    "unsupported file format",
)
_REVISION = "SELECT version_num FROM alembic_version"
_ATTEMPTS = 5  # locks are taken in one order, so that losing even one of them is rare


class Contended(StorageFailure):
    """The database ended this transaction in favour of another; doing all of it again mends it."""


class Database:
    """Transactions on one catalog. ``read()`` sees one consistent state; ``write()`` is all or nothing.

    Both raise ``SchemaOutdated`` where the catalog was upgraded since it was opened.
    """

    def __init__(self, url: str) -> None:
        self.url = _normalize(url)
        self._engine = make_engine(self.url)
        self._writer = self._engine.execution_options(registry_write=True, registry_revision=HEAD)
        self._allowed: dict[str, bool] = {}
        self._reader = self._engine.execution_options(registry_revision=HEAD)
        self._glancer = self._engine.execution_options(registry_glance=True)
        self._apart = self._glancer
        if self._engine.dialect.name == "postgresql":
            self._reader = self._reader.execution_options(isolation_level="REPEATABLE READ")
            self._glancer = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._apart = self._engine.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def read(self) -> Iterator[Session]:
        with (
            self._translated(),
            Session(self._reader, autoflush=False) as session,
            _frozen.checked(session),
        ):
            yield session

    @contextmanager
    def glance(self) -> Iterator[Session]:
        """For what single statements answer: each sees its own state, and none begins or ends a transaction."""
        with (
            self._translated(),
            Session(self._glancer, autoflush=False) as session,
            _frozen.checked(session),
        ):
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed at the end of the block and rolled back if it raises."""
        with self._translated(), Session(self._writer) as session, session.begin():
            yield session

    def transact(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns from one transaction; all of it again where the database is ``Contended``."""
        for attempt in range(1, _ATTEMPTS):
            try:
                with self.write() as session:
                    return work(session)
            except Contended:
                time.sleep(0.02 * attempt)
        with self.write() as session:
            return work(session)

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """A connection of one's own, ended with the block: one that is held for long is not to be missed elsewhere.

        On PostgreSQL a transaction may stay open on it: it keeps no snapshot, which would keep every dead row.
        """
        with translated(self.url), self._apart.connect() as connection:
            driver: Any = connection.connection.driver_connection
            connection.detach()
            try:
                yield connection
            finally:
                driver.close()  # nothing more is asked of it, whatever became of it meanwhile
                connection.invalidate()

    def allows(self, table: str) -> bool:
        """Whether rows may be added to this table, as far as grants tell; asked once."""
        if self._engine.dialect.name == "postgresql" and table not in self._allowed:
            with self.glance() as session:
                asked = text("SELECT has_table_privilege(:name, 'INSERT')")
                self._allowed[table] = bool(session.scalar(asked, {"name": table}))
        return self._allowed.get(table, True)

    def require(self, table: str) -> None:
        """Before any work whose result goes there: raise ``Denied`` unless rows may be added to this table."""
        if not self.allows(table):
            raise denied(self.url, f"permission denied for table {table}", f"INSERT INTO {table}")

    def revision(self) -> str | None:
        """The schema revision the database is at; None for a database without tables.

        Raises ``SchemaOutdated`` for a database that holds something else.
        """
        current, tables = None, set()
        with translated(self.url):
            try:
                with self._engine.connect() as connection:
                    current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            except (OperationalError, ProgrammingError):
                tables = self._tables()
                if "alembic_version" in tables:
                    raise
            else:
                tables = self._tables() if current is None else set()
        if tables - {"alembic_version"}:
            raise SchemaOutdated(
                f"{shown(self.url)} holds tables, but not a registry's", hint="point to a database of its own"
            )
        return current

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Also where a statement of this release does not fit a catalog that was upgraded since."""
        try:
            with translated(self.url):
                yield
        except StorageFailure as error:
            if isinstance(error.__cause__, DBAPIError) and _misfits(error.__cause__):
                revision = self.revision()
                if revision is not None and revision != HEAD:
                    raise outdated(self.url, revision) from error
            raise

    def _tables(self) -> set[str]:
        with self._engine.connect() as connection:
            return set(inspect(connection).get_table_names())

    def close(self) -> None:
        self._engine.dispose()


def make_engine(url: URL) -> Engine:
    """An engine with the settings that the catalog's guarantees rest on."""
    try:
        if url.get_backend_name() == "postgresql":
            engine = create_engine(url)
            # It says a second time, to stderr, that a connection was lost.
            logging.getLogger("psycopg").addHandler(logging.NullHandler())
            event.listen(engine, "checkin", _on_checkin)
            event.listen(engine, "checkout", _on_checkout)
            event.listen(engine, "begin", _on_begin_of_server)
            return engine
        engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise UsageError(
            f"no driver for {shown(url)}", hint="for PostgreSQL: pip install 'adapter-registry[postgres]'"
        ) from error
    _frozen.readable(engine)
    _same_file.guard(engine)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def open_database(url: str) -> Database:
    """Open the catalog; an empty database is given its tables, an old one is refused with the command to run."""
    database = Database(url)
    make_private(database.url)
    try:
        _settle_schema(database, url)
    except BaseException:
        database.close()
        raise
    return database


def _settle_schema(database: Database, url: str) -> None:
    revision = database.revision()
    if revision == HEAD:
        return
    from registry.catalog import migrate

    if revision is None:
        migrate.upgrade(url)
    elif (revision := migrate.settled(database)) != HEAD:
        raise outdated(database.url, revision or "none")


def outdated(url: URL, revision: str) -> SchemaOutdated:
    newer = revision > HEAD
    return SchemaOutdated(
        f"{shown(url)} has schema revision {revision}, this release needs {HEAD}",
        hint="upgrade adapter-registry" if newer else "make a backup, then run: registry db upgrade",
    )


@contextmanager
def batched(session: Session) -> Iterator[None]:
    """Statements without results in the block are sent together: PostgreSQL is waited for once, at its end."""
    if session.get_bind().dialect.name != "postgresql":
        yield
        return
    import psycopg

    connection: Any = session.connection().connection.driver_connection
    try:
        with connection.pipeline():
            yield
    except psycopg.Error as error:  # what a statement is answered at the end is not SQLAlchemy's to wrap
        raise DBAPIError.instance(None, None, error, psycopg.Error) from error


def core(table: Any) -> Table:
    """The table behind a model, for statements that are built once and sent past the unit of work."""
    target: Table = table.__table__
    return target


def insert(session: Session, table: Any, *rows: Mapping[str, Any]) -> None:
    """Insert rows at once, past the unit of work: writing a version is mostly what happens around the statements."""
    if rows:
        statement = _insert(table, session.get_bind().dialect.name, ignoring=False)
        session.connection().execute(statement, [seals.sealed(core(table), row) for row in rows])


def insert_or_ignore(session: Session, table: Any, **values: Any) -> None:
    """Insert a row unless a constraint says it is there: the loser of a race re-reads what the winner wrote."""
    statement = _insert(table, session.get_bind().dialect.name, ignoring=True)
    session.connection().execute(statement, seals.sealed(core(table), values))


def inserted(session: Session, table: Any, **values: Any) -> bool:
    """The same, and whether it was new; not inside of :func:`batched`, where nothing is answered."""
    statement = _insert(table, session.get_bind().dialect.name, ignoring=True)
    values = seals.sealed(core(table), values)
    # The count is closed with the cursor otherwise.
    done = session.connection().execute(statement, values, execution_options={"preserve_rowcount": True})
    return done.rowcount == 1


@cache
def _insert(table: Any, dialect: str, *, ignoring: bool) -> Insert:
    """The statement, built once; ``ignoring`` rows that are there."""
    target = core(table)
    if not ignoring:
        return seals.inserting(sqlalchemy.insert(target), target, dialect).inline()
    new: Insert
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        new = postgresql.insert(target).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects import sqlite

        new = sqlite.insert(target).on_conflict_do_nothing()
    return seals.inserting(new, target, dialect).inline()


def chunked(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in pieces that fit into one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def shown(url: URL) -> str:
    """The URL without its passwords, which libpq also takes from the query."""
    secrets = [key for key in url.query if "password" in key.lower()]
    return url.difference_update_query(secrets).render_as_string(hide_password=True)


def _normalize(text_url: str) -> URL:
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError):  # a port that is no number; the message would show the password
        raise UsageError(
            "REGISTRY_DATABASE_URL is not a database URL", hint="for example postgresql://user@host/registry"
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise UsageError(f"{shown(url)}: only SQLite and PostgreSQL are supported")
    if url.get_backend_name() == "postgresql":
        return url
    if url.database in {None, "", ":memory:"} or str(url.database).startswith("file:"):
        raise UsageError(f"{shown(url)} names no file", hint="for example sqlite:////home/me/registry.db")
    return url.set(database=str(Path(str(url.database)).absolute()))  # wherever this process goes later


def _on_connect(connection: Any, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    if not _frozen.is_frozen(record):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    cursor.close()


def _on_checkin(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["since"] = time.monotonic()


def _on_checkout(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Have a connection that the server closed meanwhile replaced, mostly without asking the server.

    An idle connection is silent: where there is something to read, it is mostly the end. Only then, and after a long
    rest, when a network may have dropped the connection in silence, is the server asked.
    """
    rested = time.monotonic() - record.info.get("since", time.monotonic())
    if rested > _LONG_REST or _says_something(connection.pgconn.socket):
        try:
            connection.execute("")
            connection.rollback()
        except connection.Error as error:
            raise DisconnectionError from error


def _says_something(socket: int) -> bool:
    """Whether there is something to read, the end included; an idle connection is silent."""
    with selectors.DefaultSelector() as selector:
        selector.register(socket, selectors.EVENT_READ)
        return bool(selector.select(0))


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: upgrading a read lock later could fail where waiting would not.
    options = connection.get_execution_options()
    if options.get("registry_glance", False):
        return
    write = options.get("registry_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
    if "registry_revision" in options:
        driver: Any = connection.connection.driver_connection
        try:
            row = driver.execute(_REVISION).fetchone()
        except sqlite3.Error as error:  # the first look at the file is where most of what can be wrong is met
            raise wrapped(connection, _REVISION, error, sqlite3.Error) from error
        _refuse_another(connection, row)


def _on_begin_of_server(connection: Connection) -> None:
    """Hold the revision for the length of the transaction, in the round trip that begins it anyway.

    An upgrade waits for those who hold it, and they see all of an upgrade or nothing: a table that is made anew is
    empty to whoever looks with a snapshot of before, and LOCK takes none.
    """
    if "registry_revision" not in connection.get_execution_options():
        return
    import psycopg

    driver: Any = connection.connection.driver_connection
    try:
        with driver.pipeline():
            driver.execute("LOCK TABLE alembic_version IN ACCESS SHARE MODE")
            cursor = driver.execute(_REVISION)
        row = cursor.fetchone()
    except psycopg.Error as error:
        raise wrapped(connection, _REVISION, error, psycopg.Error, lost=driver.broken) from error
    _refuse_another(connection, row)


def wrapped(
    connection: Connection, statement: str, error: Exception, kind: type[Exception], *, lost: bool = False
) -> BaseException:
    """What is asked past SQLAlchemy is not SQLAlchemy's to wrap."""
    return DBAPIError.instance(
        statement, None, error, kind, dialect=connection.dialect, connection_invalidated=lost
    )


def _refuse_another(connection: Connection, row: Any) -> None:
    if (revision := row[0] if row else "none") != HEAD:
        raise outdated(connection.engine.url, revision)


def make_private(url: URL) -> None:
    """The file of an SQLite database and its folder, for this user alone, where they are not there yet.

    What SQLite keeps beside the file gets the file's mode. Raises ``StorageFailure`` where it cannot be made.
    """
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    folder = Path(url.database).parent
    file = Path(os.path.realpath(url.database))  # beside which SQLite keeps its log, where this is a link
    _same_file.refuse_orphan(file)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailure(f"cannot create {folder}: {error.strerror}", hint="set REGISTRY_HOME") from error
    with suppress(OSError):  # there already, or it will fail where SQLite says why
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Errors of the database as what a user can meet."""
    try:
        yield
    except RegistryError:
        raise
    except (UnicodeDecodeError, ValidationError) as error:  # of a result: rows that no catalog writes
        raise not_written(url, error) from error
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in _CONTENTION:
            raise Contended(
                f"the database {shown(url)} was busy with others: {_first_line(error)}", hint="try again"
            ) from error
        if any(sign in str(error.orig) for sign in _SIGNS_OF_DAMAGE):
            raise DatabaseDamaged(f"the database {shown(url)} is damaged: {_first_line(error)}") from error
        raise StorageFailure(
            f"the database {shown(url)} failed: {_first_line(error)}", hint=_advice(_first_line(error))
        ) from error
    except DBAPIError as error:
        if type(error) is DatabaseError:  # and none of its kinds: SQLite's word for a file that is damaged
            raise DatabaseDamaged(
                f"the database {shown(url)} cannot be read: {_first_line(error)}"
            ) from error
        if getattr(error.orig, "sqlstate", None) == _NOT_ALLOWED:
            raise denied(url, _first_line(error), error.statement or "") from error
        if _first_line(error).startswith("timestamp too "):  # psycopg's word for one that no datetime holds
            raise DatabaseDamaged(f"the database {shown(url)} is damaged: {_first_line(error)}") from error
        what = "went away" if error.connection_invalidated else "refused this"
        raise StorageFailure(f"the database {shown(url)} {what}: {_first_line(error)}") from error


def not_written(url: URL, error: Exception) -> DatabaseDamaged:
    """What is said where values were read that cannot be shown as what they are."""
    said = str(error)
    if isinstance(error, UnicodeDecodeError):  # what SQLite calls its columns
        said = "it holds no text where there was"
    elif isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = f"{where} is {first['input']!a:.40}, which it cannot be"
    return DatabaseDamaged(f"the database {shown(url)} is damaged: {' '.join(said.split())[:200]}")


def denied(url: URL, reason: str, statement: str) -> Denied:
    """What a login may not do, and which role may."""
    table = _REFUSED_TABLE.search(reason)
    role = "publisher" if "is protected" in reason else needed(table[1] if table else "", statement)
    return Denied(
        f"you may not do this in {shown(url)}: {reason}",
        hint=f"it takes at least the role {role}; an administrator of the database grants it: see 'registry db roles'",
    )


def _misfits(error: DBAPIError) -> bool:
    """Whether a statement speaks of tables or columns that are not there, or leaves out one that has to be said."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in {"23", "42"} or state == "0A000"
    return (
        isinstance(error, IntegrityError)
        or "no such" in str(error.orig)
        or "has no column" in str(error.orig)
    )


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["no reason given"])[0]


def _advice(reason: str) -> str:
    if "full" in reason or "disk I/O" in reason:
        return "the disk is full or failing: free some space; nothing was changed"
    if "readonly" in reason or "read-only" in reason:
        return (
            "the file or its folder is read-only for you: it can be read, and changed by who may write there"
        )
    if "unable to open" in reason:
        return "the file or its folder cannot be opened by you; if a writer was killed there, open it once as its owner"
    if "locked" in reason:
        return f"another process kept it locked for {_BUSY_TIMEOUT_MS // 1000} s; try again"
    return "check that it is reachable and that you may use it; nothing was changed"
