"""Upgrading what earlier releases really wrote: row for row, whatever happens meanwhile."""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL

from registry import Registry
from registry.catalog import migrate
from registry.catalog.database import HEAD, open_database
from registry.errors import DatabaseDamaged, SchemaOutdated, StorageFailure
from registry.results import Schema
from tests.migrations.kept import RELEASES, Rows, rows, unpack
from tests.migrations.test_migrations import REVISIONS, execute, with_alembic

FILLED_IN = {
    ("aliases", "version_id"): "what an alias points at, which follows from its number",
    ("any", "seal"): "the row's checksum",
}
"""New columns of old tables that are neither NULL nor their default after an upgrade, and what is in them."""

OLDEST = RELEASES[0]


def without_revision(found: Rows) -> Rows:
    return {table: each for table, each in found.items() if table != "alembic_version"}


def narrowed(found: Rows, like: Rows) -> Rows:
    """The tables and columns that there were before."""
    return {
        table: sorted(({name: row[name] for name in like[table][0]} for row in found[table]), key=repr)
        for table in like
    }


def test_a_catalog_of_every_release_is_kept_with_a_row_in_every_table(tmp_path: Path) -> None:
    assert REVISIONS[:-1] == RELEASES[: len(REVISIONS) - 1]
    for revision in RELEASES:
        home = tmp_path / revision
        unpack(revision, f"sqlite:///{home}/registry.db", home)
        found = rows(f"sqlite:///{home}/registry.db")
        assert found["alembic_version"] == [{"version_num": revision}]
        assert [table for table, each in found.items() if not each] == []


@pytest.mark.parametrize("revision", RELEASES)
def test_nothing_is_lost_by_an_upgrade_and_all_of_it_can_be_used(
    revision: str, empty_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    unpack(revision, empty_url, home)
    before = without_revision(rows(empty_url))
    assert Registry.upgrade(home, database_url=empty_url).ok
    after = rows(empty_url)
    assert narrowed(after, before) == before
    for table, old in before.items():
        for row in after[table]:
            new = {name: row[name] for name in row.keys() - old[0].keys()}
            assert {name for name, value in new.items() if value} <= {
                name for where, name in FILLED_IN if where in {table, "any"}
            }, table
    with_alembic(empty_url, command.check)
    with Registry.open(home, database_url=empty_url) as catalog:
        assert all(each.ok for each in catalog.verify()), "a version is not whole"
        assert catalog.verify_database().ok
        assert catalog.show("mix@prod").recipe is not None
        assert [each.ok for each in catalog.verify(["mix", "far"], rebuild=True)] == [True, True]
        assert {each.ref for each in catalog.list("ärzte").versions} == {"team/QA-lora@1"}
        assert catalog.compose("new", "a@1 - 0.4*team/QA-lora", device="cpu").ref == "new@1"
        catalog.set_alias("mix", "prod", 1, expect=1)
        catalog.export(tmp_path / "all.tar")
        names = {each.ref for each in catalog.list(latest=False, limit=100).versions}
    with Registry.open(tmp_path / "elsewhere") as other:
        assert other.import_bundle(tmp_path / "all.tar").complete
        assert {each.ref for each in other.list(latest=False, limit=100).versions} == names


@pytest.mark.parametrize("revision", RELEASES)
def test_going_back_gives_what_there_was_and_going_on_again_the_same(
    revision: str, empty_url: str, tmp_path: Path
) -> None:
    unpack(revision, empty_url, tmp_path / "home")
    before = rows(empty_url)
    migrate.upgrade(empty_url)
    upgraded = rows(empty_url)
    with_alembic(empty_url, command.downgrade, revision)
    assert rows(empty_url) == before
    migrate.upgrade(empty_url)
    assert rows(empty_url) == upgraded


@pytest.mark.parametrize("revision", [each for each in RELEASES if each > "0001"])
def test_a_bundle_of_every_release_is_imported_whole(revision: str, tmp_path: Path) -> None:
    bundle = Path(__file__).parent / "data" / revision / "bundle.tar"
    with Registry.open(tmp_path / "home") as catalog:
        done = catalog.import_bundle(bundle)
        assert done.complete
        assert done.missing == 0
        assert all(each.ok for each in catalog.verify(rebuild=True))
        assert catalog.show("mix@prod").note == "half and half"
        assert catalog.import_bundle(bundle).changed is False


class _Stopped(BaseException):
    """Raised where the process would have been killed: nobody handles it, and nothing is committed after it."""


def stop(connection: Any, how: str) -> None:
    driver = connection.connection.driver_connection
    if how == "connection lost" and connection.dialect.name == "postgresql":
        import socket

        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    elif how == "no space" and connection.dialect.name == "sqlite":
        import sqlite3

        raise sqlite3.OperationalError("database or disk is full")
    else:
        raise _Stopped


@pytest.mark.parametrize("how", ["stopped", "no space", "connection lost"])
def test_an_upgrade_that_ends_early_left_a_whole_revision_and_is_ended_by_another(
    how: str, empty_url: str, tmp_path: Path
) -> None:
    """At some statements here; ``python -m tests.reliability`` tries all, by killing processes as well."""
    from tests.migrations.stopping import states, stopped_at

    if how == "no space" and not empty_url.startswith("sqlite"):
        return
    if how == "connection lost" and empty_url.startswith("sqlite"):
        return
    expected, count = states(OLDEST, tmp_path)
    for at in range(1, count, count // 5 + 1):  # all at once take fewer than one revision after another
        emptied(empty_url)
        unpack(OLDEST, empty_url, tmp_path / "home")
        clean = rows(empty_url)
        with (
            stopped_at(at, lambda connection: stop(connection, how)),
            pytest.raises((_Stopped, StorageFailure)),
        ):
            migrate.upgrade(empty_url)
        revision = str(execute(empty_url, "SELECT version_num FROM alembic_version"))
        assert shape(rows(empty_url)) == shape(expected[revision]), f"after statement {at}"
        if revision == OLDEST:
            assert rows(empty_url) == clean
    migrate.upgrade(empty_url)
    assert narrowed(rows(empty_url), without_revision(clean)) == without_revision(clean)
    with_alembic(empty_url, command.check)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET detail = '{'",
        "UPDATE realisations SET report = '[1,'",
        "UPDATE events SET at = '2024-13-45'",
    ],
)
def test_a_catalog_that_is_damaged_is_not_upgraded_and_told_so_in_one_line(
    change: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/home/registry.db"
    unpack("0003", url, tmp_path / "home")
    execute_alone(url, change)
    before = rows_as_text(tmp_path / "home" / "registry.db")
    with pytest.raises(DatabaseDamaged, match="where nobody wrote it"):
        Registry.upgrade(tmp_path / "home")
    assert rows_as_text(tmp_path / "home" / "registry.db") == before


def test_an_event_of_another_shape_is_no_hindrance(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/home/registry.db"
    unpack("0003", url, tmp_path / "home")
    execute_alone(url, "UPDATE events SET detail = '[]'")
    assert Registry.upgrade(tmp_path / "home").ok


def rows_as_text(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


def emptied(url: str) -> None:
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        for file in Path(str(where.database)).parent.glob(f"{Path(str(where.database)).name}*"):
            file.unlink()
    else:
        execute(url, "DROP SCHEMA public CASCADE")
        execute(url, "CREATE SCHEMA public")


def shape(found: Rows) -> dict[str, tuple[int, list[str]]]:
    return {table: (len(each), sorted(each[0]) if each else []) for table, each in found.items()}


def test_of_two_upgrades_at_once_one_does_it_and_the_other_finds_it_done(
    empty_url: str, tmp_path: Path
) -> None:
    unpack(OLDEST, empty_url, tmp_path / "home")
    start, said = threading.Barrier(2), list[Schema]()

    def one() -> None:
        start.wait()
        said.append(migrate.upgrade(empty_url))

    both = [threading.Thread(target=one) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [(each.current, each.ok) for each in said] == [(HEAD, True)] * 2
    with_alembic(empty_url, command.check)


def test_who_has_a_catalog_open_that_is_upgraded_is_told_so_and_changes_nothing(
    database_url: str, tmp_path: Path
) -> None:
    with Registry.open(tmp_path / "home", database_url=database_url) as catalog:
        execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
        before = rows(database_url)
        for attempt in (
            lambda: catalog.set_base_alias("b", "tiny/base"),
            lambda: catalog.add_rule("a", "team/a"),
            lambda: catalog.lineage("a"),
            lambda: catalog.export(tmp_path / "all.tar"),
        ):
            with pytest.raises(SchemaOutdated, match=f"revision 9999, this release needs {HEAD}") as caught:
                attempt()
            assert caught.value.hint == "upgrade adapter-registry"
        assert rows(database_url) == before
    assert not (tmp_path / "all.tar").exists()


def test_a_statement_that_no_longer_fits_is_told_as_another_schema(database_url: str) -> None:
    database = open_database(database_url)
    execute(database_url, "ALTER TABLE rules RENAME TO rules_of_tomorrow")
    try:
        with pytest.raises(StorageFailure, match="rules"), database.glance() as session:
            session.execute(text("SELECT * FROM rules"))
        execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaOutdated, match="9999"), database.glance() as session:
            session.execute(text("SELECT * FROM rules"))
    finally:
        database.close()


def test_an_upgrade_waits_for_those_who_write_and_they_for_it(database_url: str) -> None:
    """A write that began before belongs to the old schema whole; one that begins after is refused."""
    database, done = open_database(database_url), threading.Event()

    def upgrade() -> None:
        execute_alone(database_url, "UPDATE alembic_version SET version_num = '9999'")
        done.set()

    later = threading.Thread(target=upgrade)
    with database.write() as session:
        session.execute(text("SELECT 1"))
        later.start()
        assert not done.wait(0.3)
        session.execute(text("DELETE FROM rules"))
    later.join()
    with pytest.raises(SchemaOutdated), database.write() as session:
        session.execute(text("DELETE FROM rules"))
    database.close()


def execute_alone(url: str, statement: str) -> None:
    """As a revision does: after :func:`alone` of ``migrations/env.py``."""
    from registry.catalog.database import make_engine

    engine = make_engine(make_url(url)).execution_options(registry_write=True)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        connection.execute(text(statement))
    engine.dispose()


def test_an_upgrade_gives_up_on_a_long_reader_and_says_who_it_is(
    postgres: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "PATIENCE", 0.2)
    name = f"kept_{uuid.uuid4().hex[:12]}"
    server = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    url = postgres.set(database=name).render_as_string(hide_password=False)
    unpack(OLDEST, url, tmp_path / "home")
    reader = create_engine(url, connect_args={"application_name": "a long report"})
    with reader.connect() as connection:
        connection.execute(text("SELECT * FROM alembic_version"))
        with pytest.raises(StorageFailure, match=r"while others use it: process \d+ \(.*a long report\)"):
            migrate.upgrade(url)
        assert Registry.schema(tmp_path, database_url=url).current == OLDEST
        connection.rollback()
        assert migrate.upgrade(url).ok
    reader.dispose()
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    server.dispose()


def test_nobody_fails_who_was_reading_when_an_upgrade_began(empty_url: str, tmp_path: Path) -> None:
    """Nor does the upgrade, where who reads holds one table and comes to others that the upgrade was given first."""
    unpack(RELEASES[-1], empty_url, tmp_path / "home")
    there = rows(empty_url)
    reader, said = create_engine(empty_url), list[Schema]()
    upgrader = threading.Thread(target=lambda: said.append(migrate.upgrade(empty_url)))
    with reader.connect() as connection:
        connection.execute(text("SELECT * FROM events")).all()
        upgrader.start()
        while reader.dialect.name == "postgresql" and not connection.scalar(
            text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass")
        ):
            assert upgrader.is_alive()
        for name in sorted(there.keys() - {"alembic_version"}):
            assert connection.scalar(text(f"SELECT count(*) FROM {name}")) == len(there[name])  # noqa: S608
    upgrader.join()
    assert [each.ok for each in said] == [True]
    reader.dispose()


def test_who_opens_the_catalog_during_an_upgrade_gets_an_answer_or_one_line(
    empty_url: str, tmp_path: Path
) -> None:
    unpack(OLDEST, empty_url, tmp_path / "home")
    ended, answers = threading.Event(), list[int | str]()

    def read() -> None:
        while True:
            last = ended.is_set()
            try:
                with Registry.open(tmp_path / "home", database_url=empty_url) as catalog:
                    answers.append(len(catalog.list(latest=False, limit=100).versions))
            except SchemaOutdated as error:
                answers.append(str(error.hint))
            if last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    migrate.upgrade(empty_url)
    ended.set()
    reader.join()
    assert set(answers) <= {6, "make a backup, then run: registry db upgrade"}
    assert answers[-1] == 6
