"""Upgrades that end at a statement of ours to choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from registry.catalog import migrate
from registry.catalog.database import Database, make_engine
from tests.migrations.kept import Rows, rows, unpack


@contextmanager
def stopped_at(at: int, strike: Callable[[Connection], None]) -> Iterator[list[str]]:
    """Strike before the statement ``at`` of the block, counting from 1; gives the statements so far."""
    sent: list[str] = []

    def note(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not connection.get_execution_options().get("registry_write"):  # what upgrades nothing
            return
        sent.append(statement)
        if len(sent) == at:
            strike(connection)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def states(revision: str, folder: Path) -> tuple[dict[str, Rows], int]:
    """What there is after each revision from this one on, and how many statements it takes to come to the last."""
    from tests.migrations.test_migrations import REVISIONS

    url = f"sqlite:///{folder}/states/registry.db"
    unpack(revision, url, folder / "states")
    found = {revision: rows(url)}
    database = Database(url)
    engine = make_engine(database.url)
    with stopped_at(0, lambda _: None) as sent:
        for each in REVISIONS[REVISIONS.index(revision) + 1 :]:
            migrate.bring_to(engine, each)
            with engine.connect() as connection:
                assert connection.scalar(text("SELECT version_num FROM alembic_version")) == each
            found[each] = rows(url)
    engine.dispose()
    database.close()
    return found, len(sent)
