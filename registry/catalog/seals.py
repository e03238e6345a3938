"""Seals: a checksum in every row of content, by which a value that changed by itself is found.

A seal is taken over what a row holds when the catalog writes it, and is the same on every database. It tells of rot and
of a hand in the tables, not of forgery: who can write rows can write seals. Columns that other rows determine
(:data:`DERIVED`) are left out and computed again instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Insert,
    Table,
    bindparam,
    event,
    func,
    inspect,
    literal,
    select,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.base import NEVER_SET, NO_VALUE

from registry.catalog.tables import EventRow, Sealed
from registry.errors import DatabaseDamaged

DERIVED = frozenset({"latest_of", "last_version"})
"""Changed by statements that do not have the whole row in hand, and determined by the versions that there are."""

LOGIN = "login"
"""In the detail of an event: what a server adds that knows roles, after the catalog has sealed the row."""

_LEFT_OUT = DERIVED | {"id", "seal"}


def of(table: str, values: Mapping[str, Any]) -> int:
    """The seal of a row but for its ``id``: 62 bits over the table's name and what is not NULL.

    NULLs are left out, so that a column that a later schema adds changes no seal.
    """
    if table == EventRow.__tablename__ and isinstance(values["detail"], Mapping):
        values = {**values, "detail": {key: each for key, each in values["detail"].items() if key != LOGIN}}
    told = {
        name: value if value.__class__ in _SIMPLE else _plain(value)
        for name, value in values.items()
        if value is not None and name not in _LEFT_OUT
    }
    canonical = _encoded([table, told])
    return int.from_bytes(blake2b(canonical.encode(), digest_size=8).digest(), "big") >> 2


def sealed(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its seal, as :func:`inserting` takes it. One that comes with its seal keeps it."""
    if not is_sealed(table) or "seal" in values:
        return dict(values)
    name = "seal" if "id" not in table.c or "id" in values else "unnumbered"
    return {**values, name: of(table.name, values) + values.get("id", 0)}


def inserting(statement: Insert, table: Table, dialect: str) -> Insert:
    """The insertion of rows that are :func:`sealed`: the id that the database gives one is added to its seal."""
    if not is_sealed(table) or "id" not in table.c:
        return statement
    return statement.values(seal=bindparam("unnumbered", type_=BigInteger) + next_id(table, dialect))


@cache
def is_sealed(table: Table) -> bool:
    return "seal" in table.c


def next_id(table: Table, dialect: str) -> ColumnElement[int]:
    """The id that the database gives the row that is being inserted."""
    if dialect == "postgresql":  # the column is the first one, so that its number is drawn by then
        return func.currval(func.pg_get_serial_sequence(table.name, "id"))
    there = table.alias("there")
    return select(func.coalesce(func.max(there.c.id), 0) + 1).scalar_subquery()


def _plain(value: Any) -> Any:
    """A value as JSON; numbers so that 1.0 is 1 and 1e22 is its digits, as one or the other database has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, float):  # by its digits: JSONB keeps those of 2.0**60, which are not its value
        return int(Decimal(float.__repr__(value))) if value.is_integer() else value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _before_insert(_mapper: Mapper[Any], connection: Connection, row: Any) -> None:
    table = row.__table__
    seal = of(table.name, _values(row))
    if "id" in table.c and row.id is None:
        row.seal = literal(seal, BigInteger) + next_id(table, connection.dialect.name)
    else:
        row.seal = seal + (row.id if "id" in table.c else 0)


def _before_update(_mapper: Mapper[Any], _connection: Connection, row: Any) -> None:
    """A changed row is sealed anew, unless it was damaged before: that would be sealed with it."""
    table = row.__table__
    now = _values(row)
    before = inspect(row).committed_state
    was = {name: before.get(name, value) for name, value in now.items()}
    row_id = now.get("id", 0)
    unknown = any(value is NO_VALUE or value is NEVER_SET for value in was.values())
    if not unknown and was["seal"] is not None and was["seal"] != of(table.name, was) + row_id:
        raise DatabaseDamaged(f"the row of {table.name} that was to change is not what was written there")
    row.seal = of(table.name, now) + row_id


def _values(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__table__.c.keys()}  # noqa: SIM118 (not a mapping)


_SIMPLE = {str, int, bool}
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

event.listen(Sealed, "before_insert", _before_insert, propagate=True)
event.listen(Sealed, "before_update", _before_update, propagate=True)
