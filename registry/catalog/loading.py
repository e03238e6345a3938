"""Many rows at once, as fast as each database takes them: COPY on PostgreSQL, one prepared statement on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

_PENDING = 10_000  # rows kept until they are written together

Rows = list[dict[str, Any]]


class Loader:
    """Rows for several tables, written behind in batches, table by table, in the order that was given.

    While one batch is on its way to the database the next is made. Use it in a ``with`` block, at whose end all is
    written, and the database only through :attr:`session`, which waits for what is on its way.
    """

    def __init__(self, session: Session, tables: Iterable[Table]) -> None:
        self._session = session
        self._connection = session.connection()
        self._tables = list(tables)
        self._rows: dict[str, Rows] = {table.name: [] for table in self._tables}
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._underway: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._thread.shutdown()  # nothing is on its way when the transaction is rolled back

    @property
    def session(self) -> Session:
        self._settle()
        return self._session

    def add(self, table: str, values: dict[str, Any]) -> None:
        self._rows[table].append(values)
        self._waiting += 1
        if self._waiting >= _PENDING:
            self._send()

    def flush(self) -> None:
        """Everything that was added is in the database when this returns."""
        self._send()
        self._settle()

    def _send(self) -> None:
        self._settle()
        batch, self._rows = self._rows, {table.name: [] for table in self._tables}
        self._waiting = 0
        self._underway = self._thread.submit(self._write, batch)

    def _write(self, batch: Mapping[str, Rows]) -> None:
        for table in self._tables:
            load(self._connection, table, batch[table.name])

    def _settle(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()


def load(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns. What a constraint forbids is an error, as with any insert."""
    if not rows:
        return
    names = list(rows[0])
    dialect = connection.dialect
    processors = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    columns = list(zip(names, processors, strict=True))
    values = [
        tuple([row[name] if process is None else process(row[name]) for name, process in columns])
        for row in rows
    ]
    quoted = ", ".join(f'"{name}"' for name in names)
    if dialect.name == "postgresql":
        _copy(connection, f'COPY "{table.name}" ({quoted}) FROM STDIN', values)
    else:
        places = ", ".join("?" * len(names))
        statement = f'INSERT INTO "{table.name}" ({quoted}) VALUES ({places})'  # noqa: S608  (names of our own)
        connection.exec_driver_sql(statement, values)


def _copy(connection: Connection, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in values:
                copy.write_row(row)
    except errors as error:  # as SQLAlchemy would have raised it, had it gone through there
        raise DBAPIError.instance(statement, None, error, errors, dialect=connection.dialect) from error
