"""What differs between the tables that a database has and those that this release makes: found, and named.

The tables that the models describe are made once more, empty, where they are in nobody's way and soon gone: in memory,
or in PostgreSQL's temporary schema. Then the database says of both what they are, in its own words.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, Inspector, MetaData, create_engine, inspect, text
from sqlalchemy.exc import SAWarning

from registry.catalog._rights import TRIGGERS
from registry.catalog.tables import Base

Facts = dict[str, str]
_ALEMBIC = "alembic_version"


def differences(engine: Engine) -> tuple[str, ...]:
    """One line for each table, column, index, constraint, default, type or trigger that is another, lacks, or is too many.

    Of a database at this release's revision. Changes nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of what reflection passes over
        with engine.connect() as connection:
            found = _facts(connection, None)
            wanted = _made_anew(connection)
            connection.rollback()
    told = []
    for what in sorted(wanted.keys() | found.keys()):
        if what not in found:
            told.append(f"{what} is missing")
        elif what not in wanted:
            told.append(f"{what} is not this release's")
        elif found[what] != wanted[what]:
            told.append(f"{what} is {found[what]}, and should be {wanted[what]}")
    # What a table that is missing or too many holds, need not be told.
    whole = {line.split()[1] for line in told if line.startswith("table ")}
    return tuple(
        line for line in told if line.startswith("table ") or line.split()[1].split(".")[0] not in whole
    )


def _made_anew(connection: Connection) -> Facts:
    if connection.dialect.name == "sqlite":
        memory = create_engine("sqlite://")
        try:
            with memory.connect() as other:
                Base.metadata.create_all(other)
                return _facts(other, None)
        finally:
            memory.dispose()
    temporary = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        table.to_metadata(temporary, schema="pg_temp")
    temporary.create_all(connection, checkfirst=False)
    schema = connection.scalar(text("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"))
    return _facts(connection, str(schema))


def _facts(connection: Connection, schema: str | None) -> Facts:
    inspector = inspect(connection)
    facts: Facts = {}
    for table in inspector.get_table_names(schema) if schema is None else inspector.get_temp_table_names():
        if table != _ALEMBIC:
            facts[f"table {table}"] = "there"
            facts |= dict(_of_table(inspector, table, schema))
    facts |= dict(
        _of_server(connection, schema) if connection.dialect.name == "postgresql" else _of_file(connection)
    )
    return {what: _plain(value, schema) for what, value in facts.items()}


def _of_table(inspector: Inspector, table: str, schema: str | None) -> Iterator[tuple[str, str]]:
    dialect = inspector.dialect
    for column in inspector.get_columns(table, schema):
        said: list[Any] = [column["type"].compile(dialect), "NULL" if column["nullable"] else "NOT NULL"]
        if column["default"] is not None:
            said.append(f"DEFAULT {column['default']}")
        yield f"column {table}.{column['name']}", " ".join(said)
    key = inspector.get_pk_constraint(table, schema)
    yield f"constraint {table}.{key['name']}", f"PRIMARY KEY {', '.join(key['constrained_columns'])}"
    for foreign in inspector.get_foreign_keys(table, schema):
        refers = f"{foreign['referred_table']} ({', '.join(foreign['referred_columns'])})"
        options = " ".join(
            f"{name} {value}" for name, value in sorted((foreign.get("options") or {}).items())
        )
        yield (
            f"constraint {table}.{foreign['name']}",
            f"FOREIGN KEY {', '.join(foreign['constrained_columns'])} REFERENCES {refers} {options}".strip(),
        )
    for unique in inspector.get_unique_constraints(table, schema):
        yield f"constraint {table}.{unique['name']}", f"UNIQUE {', '.join(unique['column_names'])}"
    for check in inspector.get_check_constraints(table, schema):
        yield f"constraint {table}.{check['name']}", f"CHECK {check['sqltext']}"


def _of_server(connection: Connection, schema: str | None) -> Iterator[tuple[str, str]]:
    where = {"schema": schema or connection.scalar(text("SELECT current_schema()"))}
    indexes = text("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = :schema")
    triggers = text(
        "SELECT r.relname, t.tgname, pg_get_triggerdef(t.oid) || ' ' || CAST(t.tgenabled AS text) FROM pg_trigger t "
        "JOIN pg_class r ON r.oid = t.tgrelid JOIN pg_namespace n ON n.oid = r.relnamespace "
        "WHERE n.nspname = :schema AND NOT t.tgisinternal"
    )
    rules = text("SELECT tablename, rulename, definition FROM pg_rules WHERE schemaname = :schema")
    for sort, query in (("index", indexes), ("trigger", triggers), ("rule", rules)):
        for table, name, said in connection.execute(query, where):
            if table != _ALEMBIC and name not in TRIGGERS:  # which "db roles" looks after
                yield f"{sort} {table}.{name}", said.replace(f"{where['schema']}.", "")
    weak = text(
        "SELECT r.relname, c.conname, CASE WHEN c.convalidated THEN 'switched off' ELSE 'not valid' END "
        "FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace "
        "WHERE n.nspname = :schema AND (NOT c.convalidated OR EXISTS "
        "(SELECT FROM pg_trigger t WHERE t.tgconstraint = c.oid AND t.tgenabled = 'D'))"
    )
    for table, name, how in connection.execute(weak, where):
        yield f"constraint {table}.{name} being {how}", how


def _of_file(connection: Connection) -> Iterator[tuple[str, str]]:
    query = text(
        "SELECT type, tbl_name, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger', 'view') AND sql <> ''"
    )
    for sort, table, name, said in connection.execute(query):
        yield f"{sort} {table}.{name}", said


def _plain(said: str, schema: str | None) -> str:
    """Without what has no meaning: quotes, spaces, where the tables were made, and the casts of constants.

    A dump that is read again has them in other places.
    """
    said = said.replace('"', "")
    if schema is not None:
        said = said.replace(f"{schema}.", "").replace("pg_temp.", "")
    said = re.sub(r"::(character varying|text)(\[\])?", "", said)
    for _ in range(2):
        said = re.sub(r"\((ARRAY\[[^\]]*\])\)", r"\1", said)
    return re.sub(r"\s+", " ", said).replace("( ", "(").replace(" )", ")").strip()
