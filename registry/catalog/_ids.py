"""Many row ids as one parameter: a statement's text, and so its plan, is the same for any number of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Dialect, Text, TypeDecorator, any_, bindparam, func, select
from sqlalchemy.types import TypeEngine

_EXPECTED = 10  # elements that PostgreSQL supposes an array has


class IdList(TypeDecorator[Sequence[int]]):
    """Row ids: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(Text())
        from sqlalchemy.dialects.postgresql import ARRAY

        return dialect.type_descriptor(ARRAY(BigInteger))

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> Any:
        ids = [*value] if value else []
        if dialect.name != "postgresql":
            return json.dumps(ids)
        # A plan for few would look cheaper than the one that is kept for any number, and be made anew each time.
        return ids + ids[-1:] * (_EXPECTED - len(ids))


def among(column: Any, dialect: str) -> ColumnElement[bool]:
    """Whether ``column`` is one of the ids in the parameter ``ids``."""
    ids = bindparam("ids", type_=IdList())
    if dialect == "postgresql":
        return column == any_(ids)  # type: ignore[no-any-return]
    return column.in_(select(func.json_each(ids).table_valued("value").c.value))  # type: ignore[no-any-return]
