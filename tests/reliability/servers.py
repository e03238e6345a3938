"""An empty, migrated database for a full run: a SQLite file, or one in a PostgreSQL server that is started here."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.catalog import migrate
from tests.reliability.places import address, execute


@contextmanager
def emptied(database: str) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a database of this sort ("sqlite" or "postgresql"); both go with the block."""
    with tempfile.TemporaryDirectory(prefix="registry-", dir="/tmp") as root:
        folder = Path(root)
        if database == "sqlite":
            url = f"sqlite:///{folder}/home/registry.db"
            (folder / "home").mkdir()
            migrate.upgrade(url)
            yield folder, url
            return
        from tests import postgres

        with postgres.started() as started:
            server = postgres.address(started)
            name = f"registry_{uuid.uuid4().hex[:8]}"
            execute(server, f'CREATE DATABASE "{name}"')
            migrate.upgrade(address(server, name))
            yield folder, address(server, name)
