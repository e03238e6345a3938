"""Every row of a catalog as it is, of whatever revision: what a backup holds, and either database takes again.

The tables are those that the database has, not those of the models, so that a catalog can be saved before it is upgraded.
A table is one line that names its columns with their types, and a line of values for each row, in the order of the
primary key: equal catalogs give equal lines on both databases.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, Table, literal, select, text, types
from sqlalchemy.exc import SAWarning

from registry import digest, reference
from registry.catalog._rights import TRIGGERS
from registry.catalog.bundle_lines import inside
from registry.catalog.loading import load_into
from registry.catalog.tables import in_utc
from registry.errors import DatabaseDamaged, Refused, RegistryError

_PAGE = 2000  # rows read or written at a time
_KINDS: tuple[tuple[type[Any], str], ...] = (
    (types.Boolean, "boolean"),
    (types.DateTime, "time"),
    (types.JSON, "json"),
    (types.Integer, "integer"),
    (types.Float, "number"),
    (types.LargeBinary, "bytes"),
    (types.String, "text"),
)
# Sorted, as PostgreSQL's JSONB keeps no order of keys.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def tables(connection: Connection) -> dict[str, Table]:
    """The tables that the database has, each after those that it refers to."""
    import warnings

    found = MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of expressions in indexes, which are not looked at
        found.reflect(connection)
    return {table.name: table for table in found.sorted_tables if table.name != "alembic_version"}


def is_empty(connection: Connection) -> bool:
    """Whether nothing was ever written to this catalog, of whatever revision."""
    return not any(
        connection.execute(select(literal(1)).select_from(table).limit(1)).first()
        for table in tables(connection).values()
    )


def lines(connection: Connection, table: Table) -> Iterator[bytes]:
    """The lines of a table, read a few thousand rows at a time.

    Raises ``DatabaseDamaged`` for a row that :class:`Lines` would refuse: what cannot be restored is no backup.
    """
    columns = sorted(table.columns, key=lambda column: column.name)
    kinds = {column.name: _kind(column) for column in columns}
    yield _line(kinds)
    query = select(*columns).order_by(*table.primary_key.columns)
    try:
        for row in connection.execution_options(yield_per=_PAGE).execute(query):
            values = [_plain(value) for value in row]
            _row(table.name, kinds, values)
            yield _line(values)
    except DatabaseDamaged:
        raise
    except (ValueError, TypeError, LookupError, RegistryError) as error:
        raise DatabaseDamaged(
            f"the table {table.name} has a row that no catalog holds: {str(error)[:200]}"
        ) from error


class Lines:
    """The lines of a table, checked one by one. Raises ``Refused``, naming the line, for what no catalog holds."""

    def __init__(self, file: str, table: str, lines: Iterable[bytes]) -> None:
        self._name, self._table = f"{file}: {table}", table
        self._lines = enumerate(lines, 1)
        first = next(self._lines, (1, b""))[1]
        said = self._parsed(1, first, dict)
        known = {kind for _, kind in _KINDS}
        if not said or not all(isinstance(kind, str) and kind in known for kind in said.values()):
            raise Refused(
                f"{self._name} line 1 does not say what its columns are", hint="make the backup again"
            )
        self.columns: Mapping[str, str] = said

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, line in self._lines:
            values = self._parsed(number, line, list)
            try:
                row = _row(self._table, self.columns, values)
            except (ValueError, TypeError, LookupError, RegistryError) as error:
                raise Refused(
                    f"{self._name} line {number} is not sound: {str(error)[:200]}",
                    hint="make the backup again",
                ) from None
            yield row

    def _parsed(self, number: int, line: bytes, shape: type[Any]) -> Any:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, shape):
            raise Refused(f"{self._name} line {number} cannot be read", hint="make the backup again")
        return said


def _row(table: str, kinds: Mapping[str, str], values: Sequence[Any]) -> dict[str, Any]:
    """What a line says, by column; raises what :class:`Lines` tells of."""
    if len(values) != len(kinds):
        raise ValueError(f"{len(values)} values for {len(kinds)} columns")
    row = {
        column: None if value is None else _READ[kind](value)
        for (column, kind), value in zip(kinds.items(), values, strict=True)
    }
    if table in _CHECKS:
        _CHECKS[table](row)
    return row


def fill(connection: Connection, table: Table, lines: Lines) -> int:
    """Write the rows of a table; returns how many. Raises ``Refused`` where its columns are others."""
    if lines.columns != {column.name: _kind(column) for column in table.columns}:
        raise Refused(
            f"{table.name} has other columns than its schema revision says", hint="make the backup again"
        )
    rows, done = iter(lines), 0
    while some := list(islice(rows, _PAGE)):
        load_into(connection, table, some)
        done += len(some)
    return done


def go_on(connection: Connection, found: Iterable[Table]) -> None:
    """Have new rows numbered after those that were written with their numbers."""
    if connection.dialect.name != "postgresql":  # there it is the largest that counts
        return
    for table in found:
        if "id" in table.columns:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name} "  # noqa: S608  (our own names)
                    "HAVING max(id) IS NOT NULL"
                )
            )


def exclude(connection: Connection, found: Iterable[Table]) -> None:
    """Nobody else writes until this transaction ends. SQLite's write lock does that by itself."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in found)
        connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))


@contextmanager
def as_told(connection: Connection) -> Iterator[None]:
    """Events are written as they are: nothing is added of who writes them. Whoever restores owns the tables."""
    found: Sequence[Any] = ()
    if connection.dialect.name == "postgresql":
        there = (
            "SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = to_regclass('events') "
            "AND t.tgname = ANY(:names) AND t.tgenabled = 'O'"
        )
        found = connection.scalars(text(there), {"names": list(TRIGGERS)}).all()
    for name in found:
        connection.execute(text(f"ALTER TABLE events DISABLE TRIGGER {name}"))
    yield
    for name in found:
        connection.execute(text(f"ALTER TABLE events ENABLE TRIGGER {name}"))


def snapshot(engine: Engine) -> Engine:
    """An engine whose transactions each see one state, of whatever revision."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine


def _kind(column: Column[Any]) -> str:
    for kind, name in _KINDS:
        if isinstance(column.type, kind):
            return name
    raise TypeError(f"{column.table.name}.{column.name} has the type {column.type}, which no backup holds")


def _line(value: object) -> bytes:
    return _encode(value).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _of(*allowed: type[Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in allowed:
            raise ValueError(f"a {type(value).__name__} where there can be none")
        return value

    return read


def _integer(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("not a number that a database holds")
    return value


def _text(value: Any) -> str:
    if type(value) is not str or "\x00" in value:
        raise ValueError("not a text that a database holds")
    value.encode()  # lone surrogates are no text
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise ValueError("not a number")
    return float(value) if not (isinstance(value, float) and math.isnan(value)) else math.nan


def _bytes(value: Any) -> bytes:
    return b64decode(_text(value), validate=True)


def _time(value: Any) -> datetime:
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found.astimezone(UTC)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "boolean": _of(bool),
    "time": _time,
    "json": _of(dict, list, str, int, float, bool),
    "integer": _integer,
    "number": _number,
    "bytes": _bytes,
    "text": _text,
}


def _check_recipe(row: Mapping[str, Any]) -> None:
    digest.check("a recipe", expected=row["digest"], found=digest.of_bytes(row["canonical"].encode()))


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "adapters": lambda row: reference.check_name(row["name"]),
    "aliases": lambda row: reference.check_alias(row["alias"]),
    "artifact_files": lambda row: inside(row["path"]),
    "recipes": _check_recipe,
}
"""What other code relies on, and a database cannot check: names, paths inside of a folder, digests."""
