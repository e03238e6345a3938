"""Fresh copies of one furnished catalog and its Hub, each in a folder and a database of its own."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from registry.catalog import migrate
from registry.catalog.database import make_engine
from registry.testing.hub import HubServer
from tests.reliability.furniture import spoil
from tests.reliability.nursery import FURNISH, Nursery
from tests.reliability.scenarios import Start


class Copies:
    """Makes copies; ``server`` is where their databases are, or None for SQLite files.

    ``revive`` starts it again where it was stopped.
    """

    def __init__(
        self,
        root: Path,
        server: URL | None,
        hub: HubServer,
        nursery: Nursery,
        revive: Callable[[], object] = lambda: None,
    ) -> None:
        self.sqlite = server is None
        self.hub = hub
        self.revive = revive
        self._root = root
        self._server = server
        self._made: dict[Start, tuple[Path, str | None]] = {}
        template = root / "furnished"
        (template / "tmp").mkdir(parents=True)
        hub.turn_to(template / "hub")
        url = self._database("furnished", template)
        done = nursery.run(FURNISH, template, url)
        if done.error is not None:
            raise RuntimeError(f"furnishing failed: {(template / 'error.json').read_text()}")
        shutil.rmtree(template / "tmp")  # libraries keep things there
        (template / "tmp").mkdir()
        self._nursery = nursery
        self._made["furnished"] = template, make_url(url).database

    @contextmanager
    def fresh(self, start: Start = "furnished") -> Iterator[tuple[Path, str]]:
        """A folder with a home in it, and the address of its database. The Hub turns to it too."""
        if start not in self._made:
            self._made[start] = self._prepared(start)
        folder, url = self._copy(*self._made[start])
        self.hub.turn_to(folder / "hub")
        try:
            yield folder, url
        finally:
            if self._server is not None:
                execute(self._server, f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')
            shutil.rmtree(folder, ignore_errors=True)

    def _prepared(self, start: Start) -> tuple[Path, str | None]:
        if start == "nothing":
            folder, url = self._copy(self._made["furnished"][0], None)
            shutil.rmtree(folder / "home")
            return folder, None
        folder, url = self._copy(*self._made["furnished"])
        self.hub.turn_to(folder / "hub")
        if start == "damaged":
            spoil(folder, url)
            return folder, make_url(url).database
        self._nursery.run("fetch", folder, url)  # versions that are known only came later than these schemas
        take_back(url, start)
        return folder, make_url(url).database

    def _copy(self, template: Path, database: str | None) -> tuple[Path, str]:
        folder = self._root / uuid.uuid4().hex[:8]
        shutil.copytree(template, folder)
        return folder, self._database(folder.name, folder, database)

    def _database(self, name: str, folder: Path, template: str | None = None) -> str:
        if self._server is None:
            return f"sqlite:///{folder}/home/registry.db"
        name = f"registry_{name}_{uuid.uuid4().hex[:6]}"
        # By files: a server that is stopped loses what sequences counted since a copy that it made by its log.
        copied = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
        execute(self._server, f'CREATE DATABASE "{name}"{copied}')
        return address(self._server, name)


def take_back(url: str, revision: str) -> None:
    """Take a catalog's schema back to what an earlier release made."""
    engine = make_engine(make_url(url)).execution_options(registry_write=True)
    with engine.connect() as connection:
        command.downgrade(migrate.configuration(connection), revision)
    engine.dispose()


def address(server: URL, database: str) -> str:
    return server.set(database=database).render_as_string(hide_password=False)


def execute(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
