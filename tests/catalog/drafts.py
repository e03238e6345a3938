"""Versions without tensors: the catalog alone, at the speed of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, text

from registry.catalog import references, versions, views
from registry.catalog.artifacts import Content, File
from registry.catalog.database import Database
from registry.catalog.versions import Draft, Edge
from registry.digest import of_bytes
from registry.reference import parse
from registry.results import BaseModelIdentity, Version


def content(label: str, *, kind: str = "lora", size: int = 10, blockers: Sequence[str] = ()) -> Content:
    """Content that only its label decides."""
    return Content(
        digest=of_bytes(f"content {label}".encode()),
        target="adapter",
        kind=kind,
        rank=4 if kind == "lora" else None,
        parameters=100,
        modules=2,
        dtype="float32",
        size=size,
        files={
            "adapter_config.json": File(of_bytes(b"config"), 5),
            "adapter_model.safetensors": File(of_bytes(f"file {label}".encode()), size),
        },
        not_composable=tuple(blockers),
    )


def add(
    database: Database,
    name: str,
    label: str,
    *,
    base: str = "tiny/base",
    revision: str | None = None,
    parents: Sequence[str] = (),
    kind: str = "lora",
    size: int = 10,
    **fields: Any,
) -> Version:
    """Write the next version of ``name`` in a transaction of its own."""
    with database.write() as session:
        edges = [Edge(references.resolve(session, parse(ref)).id, "declared") for ref in parents]
        identity = BaseModelIdentity(repo=base, revision=revision)
        made = content(label, kind=kind, size=size)
        draft = Draft(name=name, content=made, base_model=identity, actor="tester", parents=edges, **fields)
        row, _ = versions.write(session, draft)
        session.flush()
        return views.version(session, row)


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every statement sent to the database while the block runs, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if connection.engine.url == database.url and statement.lstrip().upper().startswith(
            ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
        ):
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def rows(database: Database, table: str) -> int:
    with database.read() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def counts(database: Database) -> Mapping[str, int]:
    """How many rows each table has."""
    from registry.catalog.tables import Base

    return {table: rows(database, table) for table in Base.metadata.tables}


def events(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Actor, action, subject and detail of every event, oldest first."""
    from sqlalchemy import select

    from registry.catalog.tables import EventRow

    with database.read() as session:
        found = session.scalars(select(EventRow).order_by(EventRow.id)).all()
        return [(row.actor, row.action, row.subject, row.detail) for row in found]
