"""Fresh copies of one furnished catalog, each in a folder and a database of its own."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from tests.reliability.furniture import furnish


class Copies:
    """Makes copies; ``server`` is where their databases are, or None for SQLite files."""

    def __init__(self, root: Path, template: Path, server: URL | None, database: str) -> None:
        self._root = root
        self._template = template
        self._server = server
        self._database = database

    @contextmanager
    def fresh(self) -> Iterator[tuple[Path, str]]:
        """A folder with a home in it, and the address of its database."""
        folder = self._root / uuid.uuid4().hex[:8]
        shutil.copytree(self._template, folder)
        try:
            if self._server is None:
                yield folder, f"sqlite:///{folder}/home/registry.db"
            else:
                name = f"registry_{uuid.uuid4().hex[:12]}"
                execute(self._server, f'CREATE DATABASE "{name}" TEMPLATE "{self._database}"')
                yield folder, address(self._server, name)
                execute(self._server, f'DROP DATABASE "{name}" WITH (FORCE)')
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def copies(root: Path, server: URL | None, url: str | None) -> Copies:
    """Copies of a catalog that is furnished once: in ``url`` on ``server``, or in a SQLite file."""
    template = root / "template"
    template.mkdir()
    furnish(template, url or f"sqlite:///{template}/home/registry.db")
    return Copies(root, template, server, "" if url is None else make_url(url).database or "")


def address(server: URL, database: str) -> str:
    return server.set(database=database).render_as_string(hide_password=False)


def execute(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
