"""Catalogs of earlier releases, as ``keep`` kept them, opened in a database of either sort."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import MetaData, create_engine, make_url
from sqlalchemy.engine import URL

from registry.catalog.database import make_engine

DATA = Path(__file__).parent / "data"
RELEASES = sorted(folder.name for folder in DATA.iterdir())
Rows = dict[str, list[dict[str, Any]]]


def unpack(revision: str, url: str, home: Path) -> None:
    """Fill an empty database, and the blobs of a home, with what that release had."""
    where = make_url(url)
    shutil.copytree(DATA / revision / "blobs", home / "blobs", dirs_exist_ok=True)
    if where.get_backend_name() == "sqlite":
        home.mkdir(exist_ok=True)
        connection = sqlite3.connect(str(where.database))
        connection.executescript((DATA / revision / "sqlite.sql").read_text())
        connection.close()
        return
    with psycopg.connect(libpq(where), autocommit=True) as server:
        server.execute((DATA / revision / "postgresql.sql").read_bytes())


def libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def rows(url: str) -> Rows:
    """Every row of every table, in an order that depends on nothing but the rows."""
    engine = make_engine(make_url(url)) if url.startswith("sqlite") else create_engine(url)
    found = MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        read = {
            name: sorted((dict(row) for row in connection.execute(table.select()).mappings()), key=repr)
            for name, table in found.tables.items()
        }
    engine.dispose()
    return read
