"""Schema revisions: what a database has, and bringing it to what this release needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

from registry.catalog.database import HEAD, Database, _translated, make_engine, outdated, shown
from registry.errors import SchemaOutdated, StorageFailure
from registry.results import Schema

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x61646170  # one number for every process that upgrades this kind of catalog


def status(url: str) -> Schema:
    """The revision the database is at. Changes nothing: not even an empty database file is made."""
    database = Database(url)
    try:
        sqlite_file = database.url.database if database.url.get_backend_name() == "sqlite" else None
        missing = sqlite_file is not None and not Path(sqlite_file).exists()
        current = None if missing else database.revision()
    finally:
        database.close()
    return Schema(url=shown(database.url), current=current, head=HEAD, ok=current == HEAD)


def upgrade(url: str) -> Schema:
    """Run the missing revisions, each in its own transaction; two upgraders wait for one another."""
    from alembic import command
    from alembic.util import CommandError

    database = Database(url)
    engine = make_engine(database.url)
    try:
        with _translated(database.url), _exclusive(engine):
            current = database.revision()
            if current is not None and current > HEAD:
                raise outdated(database.url, current)
            if current != HEAD:
                writer = engine.execution_options(registry_write=True)
                with writer.connect() as connection:
                    try:
                        command.upgrade(configuration(connection), HEAD)
                    except CommandError as error:
                        raise SchemaOutdated(
                            f"{shown(database.url)} cannot be upgraded: {error}",
                            hint="its revision is of no release of this package; restore it from a copy",
                        ) from error
    finally:
        engine.dispose()
        database.close()
    return status(url)


def settled(database: Database) -> str | None:
    """The revision once nobody is upgrading: between two revisions a catalog that is being made looks like an old one."""
    engine = make_engine(database.url)
    try:
        with _exclusive(engine):
            return database.revision()
    finally:
        engine.dispose()


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, working from a checkout and from an installed package alike."""
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def scripts() -> Path:
    """The migrations folder: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@contextmanager
def _exclusive(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as holder:
            holder.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            try:
                yield
            finally:
                holder.rollback()
                holder.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        return
    from filelock import FileLock

    file = Path(str(engine.url.database))
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            yield
    except OSError as error:
        raise StorageFailure(
            f"cannot write beside {file}: {error.strerror}", hint="set REGISTRY_HOME"
        ) from error
