"""A migrated catalog on both databases, and nothing that reaches beyond this machine."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from registry import Registry
from registry.catalog import migrate

if TYPE_CHECKING:
    from tests.buckets import Bucket, S3Server

# Set before the first import of the Hub client: no test may ask anything of the real Hub or of PyPI.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
REAL_TOKEN = os.environ.pop("HF_TOKEN", None)
"""For the one test that asks the real Hub, if it is told to."""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's registry, tokens or caches."""
    for name in list(os.environ):
        if name.startswith(("REGISTRY_", "AWS_")) and not name.startswith("REGISTRY_TEST_"):
            monkeypatch.delenv(name)
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGISTRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_ACTOR", "tester")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database built by the migrations, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """A real PostgreSQL server: ``REGISTRY_TEST_DATABASE_URL``, or one from a pip package, started here."""
    given = os.environ.get("REGISTRY_TEST_DATABASE_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg")
        return
    from tests import postgres as servers

    with servers.started() as server:
        yield servers.address(server)


@pytest.fixture(scope="session")
def postgres_template(postgres: URL) -> Iterator[str]:
    """The name of a database built by the migrations, to be used as a template."""
    name = f"registry_template_{uuid.uuid4().hex[:8]}"
    _execute(postgres, f'CREATE DATABASE "{name}"')
    migrate.upgrade(_url(postgres.set(database=name)))
    yield name
    _execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    (tmp_path / "home").mkdir(exist_ok=True)
    file = tmp_path / "home" / "registry.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgres_url(postgres: URL, postgres_template: str) -> Iterator[str]:
    name = f"registry_{uuid.uuid4().hex[:12]}"
    _execute(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    yield _url(postgres.set(database=name))
    _execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh, migrated database of each sort; also what ``REGISTRY_DATABASE_URL`` says."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    monkeypatch.setenv("REGISTRY_DATABASE_URL", url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each sort without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: URL = request.getfixturevalue("postgres")
    name = f"empty_{uuid.uuid4().hex[:12]}"
    _execute(server, f'CREATE DATABASE "{name}"')
    yield _url(server.set(database=name))
    _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def catalog(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """An open, empty registry on each database."""
    with Registry.open(tmp_path / "home", database_url=database_url) as opened:
        yield opened


@pytest.fixture
def local(sqlite_url: str, tmp_path: Path) -> Iterator[Registry]:
    """An open, empty registry on SQLite, for what does not depend on the database."""
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server from a pip package, in a thread of this process."""
    from tests.buckets import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket on it, to which the environment leads."""
    from tests import buckets

    with buckets.bucket(s3_server, monkeypatch) as opened:
        yield opened


def _url(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _execute(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
