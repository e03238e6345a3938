"""Many rows at once, as fast as each database takes them: COPY on PostgreSQL, one prepared statement on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Dialect, Table, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from registry.catalog import seals

_PENDING = 10_000  # rows kept until they are written together

Rows = list[dict[str, Any]]


class Loader:
    """Rows of several tables, written behind in batches, table by table, in the order that was given.

    While one batch is on its way to the database the next is made. Use it in a ``with`` block, at whose end all is
    written, and the database only through :attr:`session`, which waits for what is on its way.
    """

    def __init__(self, session: Session, order: Iterable[Any]) -> None:
        self._session = session
        self._connection = session.connection()
        self._order = list(order)
        self._rows: dict[Any, Rows] = {row: [] for row in self._order}
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

    def add(self, row: Any, values: dict[str, Any]) -> None:
        self._rows[row].append(values)
        self._waiting += 1
        if self._waiting >= _PENDING:
            self._send()

    def flush(self) -> None:
        """Everything that was added is in the database when this returns."""
        self._send()
        self._settle()

    def _send(self) -> None:
        self._settle()
        batch, self._rows = self._rows, {row: [] for row in self._order}
        self._waiting = 0
        self._underway = self._thread.submit(self._write, batch)

    def _write(self, batch: Mapping[Any, Rows]) -> None:
        for row in self._order:
            load(self._connection, row, batch[row])

    def _settle(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()


def next_ids(session: Session, row: Any, count: int) -> Sequence[int]:
    """As many new ids of a table, ascending, above all that were given out before."""
    if count == 0:
        return ()
    return _next_ids(session.connection(), row.__table__, count)


def _next_ids(connection: Connection, table: Table, count: int) -> Sequence[int]:
    if connection.dialect.name != "postgresql":  # its one writer is this one
        first = (connection.scalar(select(func.max(table.c.id))) or 0) + 1
        return range(first, first + count)
    sequence = func.pg_get_serial_sequence(table.name, "id")
    numbers = func.generate_series(1, count).table_valued("number")
    return sorted(connection.scalars(select(func.nextval(sequence)).select_from(numbers)))


def load(connection: Connection, row: Any, rows: Sequence[dict[str, Any]], *, ignore: bool = False) -> None:
    """Insert rows of a model: see :func:`load_into`."""
    load_into(connection, row.__table__, rows, ignore=ignore)


def load_into(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, ignore: bool = False
) -> None:
    """Insert rows that all have the same columns.

    What a constraint forbids is an error, as with any insert; with ``ignore``, a row that is there stays as it is, and
    those that come here do so in their order, so that two who write the same do not wait for one another.
    """
    if not rows:
        return
    dialect = connection.dialect
    if seals.is_sealed(table):
        if "id" in table.c and "id" not in rows[0]:  # which the seal needs
            ids = _next_ids(connection, table, len(rows))
            rows = [{"id": row_id, **values} for row_id, values in zip(ids, rows, strict=True)]
        rows = [seals.sealed(table, values) for values in rows]
    kinds = {name: table.c[name].type.dialect_impl(dialect) for name in rows[0]}
    names = ", ".join(f'"{name}"' for name in kinds)
    into = f'"{table.name}" ({names})'
    values = _processed(rows, {name: kind.bind_processor(dialect) for name, kind in kinds.items()})
    if dialect.name == "postgresql" and ignore:
        types = ", ".join(f"%s::{_plain_type(kind, dialect)}[]" for kind in kinds.values())
        arrays = tuple(list(column) for column in zip(*values, strict=True))
        statement = f"INSERT INTO {into} SELECT * FROM unnest({types}) ON CONFLICT DO NOTHING"  # noqa: S608  (our own names)
        connection.exec_driver_sql(statement, arrays)
    elif dialect.name == "postgresql":
        _copy(connection, f"COPY {into} FROM STDIN", values)
    else:
        places, tail = ", ".join("?" * len(kinds)), " ON CONFLICT DO NOTHING" * ignore
        statement = f"INSERT INTO {into} VALUES ({places}){tail}"  # noqa: S608  (our own names)
        connection.exec_driver_sql(statement, values)


def _processed(rows: Sequence[dict[str, Any]], processors: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows' values as the driver takes them, in the order of the columns. Most columns need no processing."""
    values: list[tuple[Any, ...]] = list(map(itemgetter(*processors), rows))
    if not any(processors.values()):
        return values
    columns = zip(zip(*values, strict=True), processors.values(), strict=True)
    return list(
        zip(*[map(process, column) if process else column for column, process in columns], strict=True)
    )


def _plain_type(kind: TypeEngine[Any], dialect: Dialect) -> str:
    """The type's name, without the collation that a value needs none of."""
    return kind.compile(dialect).partition(" COLLATE ")[0]


def _copy(connection: Connection, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for each in values:
                copy.write_row(each)
    except errors as error:  # as SQLAlchemy would have raised it, had it gone through there
        raise DBAPIError.instance(statement, None, error, errors, dialect=connection.dialect) from error
