"""The schema and its history: up, down, never by itself, and never different from the models."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url

from registry import Registry
from registry.catalog import migrate
from registry.catalog.database import HEAD, make_engine
from registry.catalog.tables import Base
from registry.errors import SchemaOutdated, StorageFailure, UsageError
from tests.adapters import make_lora

SCRIPTS = ScriptDirectory.from_config(migrate.configuration())
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


def with_alembic(url: str, verb: Any, *arguments: Any) -> None:
    engine = make_engine(make_url(url)).execution_options(registry_write=True)
    try:
        with engine.connect() as connection:
            verb(migrate.configuration(connection), *arguments)
    finally:
        engine.dispose()


def execute(url: str, statement: str) -> Any:
    engine = make_engine(make_url(url)).execution_options(registry_write=True)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        found = result.scalar() if result.returns_rows else None
    engine.dispose()
    return found


def rewritten(url: str, table: str, before: str, after: str) -> None:
    """Change what SQLite thinks that a table is."""
    engine = make_engine(make_url(url))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA writable_schema = on")
        done = connection.execute(
            text(
                "UPDATE sqlite_master SET sql = replace(sql, :before, :after) WHERE name = :table AND sql <> replace(sql, :before, :after)"
            ),
            {"table": table, "before": before, "after": after},
        )
        assert done.rowcount == 1
        connection.commit()
    engine.dispose()


def populate(url: str, tmp_path: Path) -> None:
    """At least one row in every table that the verbs of this release write."""
    with Registry.open(tmp_path / "home", database_url=url) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(tmp_path / f"{name}{uuid.uuid4().hex}", seed=seed), name, tags={"k": "v"})
        catalog.compose("c", "a - 0.4*b", device="cpu")
        catalog.set_alias("c", "prod", 1)
        catalog.add_evaluation("c", "acc", 0.5, dataset="d")
        catalog.delete("b")


def tables(url: str) -> set[str]:
    engine = make_engine(make_url(url))
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_there_is_one_head_and_the_code_knows_it() -> None:
    assert SCRIPTS.get_heads() == [HEAD]
    assert SCRIPTS.get_bases() == REVISIONS[:1]


def test_revisions_are_numbered_in_their_order() -> None:
    assert [f"{number:04d}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS
    files = sorted(file.name[:4] for file in Path(SCRIPTS.versions).glob("[0-9]*.py"))
    assert files == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_goes_up_down_and_up_again_with_rows_in_the_tables(
    revision: str, database_url: str, tmp_path: Path
) -> None:
    populate(database_url, tmp_path)
    below = SCRIPTS.get_revision(revision).down_revision or "base"
    with_alembic(database_url, command.downgrade, str(below))
    if below == "base":
        assert tables(database_url) == {"alembic_version"}
    with_alembic(database_url, command.upgrade, revision)
    with_alembic(database_url, command.upgrade, "head")
    with_alembic(database_url, command.check)
    populate(database_url, tmp_path)


def test_upgrading_from_the_first_schema_fills_in_what_the_second_knows(
    database_url: str, tmp_path: Path
) -> None:
    """What expressions follow, what aliases point at, and the words to search by: as if written by this release."""
    populate(database_url, tmp_path)
    with Registry.open(tmp_path / "home", database_url=database_url) as catalog:
        catalog.add(make_lora(tmp_path / "team", seed=9), "team/QA-lora", note="the First, für Ärzte")
        catalog.compose("d", "0.5*c@PROD + team/QA-lora - a@1", device="cpu")
    filled = ("followed", "words", "name_words", "aliases")
    before = {table: contents(database_url, table) for table in filled}
    assert all(before.values())
    assert len(before["followed"]) == 4  # c: a and b; d: c@prod and team/QA-lora, but not a@1
    with_alembic(database_url, command.downgrade, "0001")
    with_alembic(database_url, command.upgrade, "head")
    assert {table: contents(database_url, table) for table in filled} == before


def contents(url: str, table: str) -> list[Any]:
    engine = make_engine(make_url(url))
    with engine.connect() as connection:
        found = connection.execute(Base.metadata.tables[table].select()).all()
    engine.dispose()
    return sorted(map(tuple, found))


def test_the_models_and_the_migrations_say_the_same(database_url: str) -> None:
    with_alembic(database_url, command.check)


def test_the_comparison_sees_a_check_constraint_that_only_one_side_has(database_url: str) -> None:
    """Alembic passes over CHECKs unless told otherwise; without this the test above would prove less."""
    statement = "ALTER TABLE versions DROP CONSTRAINT ck_versions_number"
    if database_url.startswith("sqlite"):
        schema = "sql = replace(sql, 'CONSTRAINT ck_versions_number CHECK (number >= 1), ', '')"
        execute(database_url, "PRAGMA writable_schema = on")
        statement = f"UPDATE sqlite_master SET {schema} WHERE name = 'versions'"  # noqa: S608
        engine = make_engine(make_url(database_url))
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA writable_schema = on")
            assert "ck_versions_number" in sql_of_versions(connection)
            connection.exec_driver_sql(statement)
            assert "ck_versions_number" not in sql_of_versions(connection)
            connection.commit()
        engine.dispose()
    else:
        execute(database_url, statement)
    with pytest.raises(Exception, match=r"ck_versions_number|New upgrade operations"):
        with_alembic(database_url, command.check)


def sql_of_versions(connection: Connection) -> str:
    found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'versions'")
    return " ".join(str(found.scalar_one()).split())


def test_every_constraint_and_index_has_a_name_by_the_convention(database_url: str) -> None:
    engine = make_engine(make_url(database_url))
    found = inspect(engine)
    named: list[tuple[str, str | None]] = []
    for table in Base.metadata.tables:
        named.append(("pk_", found.get_pk_constraint(table)["name"]))
        named += [("fk_", key["name"]) for key in found.get_foreign_keys(table)]
        named += [("uq_", key["name"]) for key in found.get_unique_constraints(table)]
        named += [("ck_", key["name"]) for key in found.get_check_constraints(table)]
        unique = {key["name"] for key in found.get_unique_constraints(table)}
        named += [("ix_", key["name"]) for key in found.get_indexes(table) if key["name"] not in unique]
    engine.dispose()
    assert len(named) > 50
    assert [pair for pair in named if not (pair[1] or "").startswith(pair[0])] == []
    assert all(len(name or "") <= 63 for _, name in named)


def test_an_empty_database_is_given_its_tables_when_it_is_opened(empty_url: str, tmp_path: Path) -> None:
    with Registry.open(tmp_path / "home", database_url=empty_url) as catalog:
        assert catalog.list().versions == ()
    assert tables(empty_url) == {"alembic_version", *Base.metadata.tables}


def test_an_empty_database_can_be_upgraded_twice(empty_url: str, tmp_path: Path) -> None:
    assert Registry.schema(tmp_path, database_url=empty_url).current is None
    for _ in range(2):
        made = Registry.upgrade(tmp_path, database_url=empty_url)
        assert (made.current, made.head, made.ok) == (HEAD, HEAD, True)
    with_alembic(empty_url, command.check)


def test_asking_for_the_schema_creates_nothing(tmp_path: Path) -> None:
    found = Registry.schema(tmp_path / "home")
    assert (found.current, found.ok) == (None, False)
    assert not (tmp_path / "home" / "registry.db").exists()


@pytest.mark.parametrize(
    ("revision", "hint"), [("0000", "registry db upgrade"), ("9999", "upgrade adapter-registry")]
)
def test_another_schema_is_refused_with_what_mends_it_and_stays_as_it_is(
    revision: str, hint: str, database_url: str, tmp_path: Path
) -> None:
    populate(database_url, tmp_path)
    execute(database_url, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
    with pytest.raises(
        SchemaOutdated, match=f"schema revision {revision}, this release needs {HEAD}"
    ) as caught:
        Registry.open(tmp_path / "home", database_url=database_url)
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == 1
    assert execute(database_url, "SELECT version_num FROM alembic_version") == revision
    found = Registry.schema(tmp_path, database_url=database_url)
    assert (found.current, found.ok) == (revision, False)
    if revision > HEAD:
        with pytest.raises(SchemaOutdated, match=revision):
            Registry.upgrade(tmp_path, database_url=database_url)


def test_the_command_line_says_it_in_one_line_with_exit_code_1(sqlite_url: str, tmp_path: Path) -> None:
    execute(sqlite_url, "UPDATE alembic_version SET version_num = '0000'")
    done = registry("list", home=tmp_path / "home", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "registry db upgrade" in done.stderr
    assert "Traceback" not in done.stderr
    checked = registry("db", "check", home=tmp_path / "home", cwd=tmp_path)
    assert checked.returncode == 6


def test_a_database_with_other_tables_is_refused_and_left_alone(empty_url: str, tmp_path: Path) -> None:
    execute(empty_url, "CREATE TABLE invoices (id INTEGER)")
    for attempt in (Registry.open, Registry.upgrade, Registry.schema):
        with pytest.raises(SchemaOutdated, match="holds tables, but not a registry's"):
            attempt(tmp_path / "home", database_url=empty_url)
    assert tables(empty_url) == {"invoices"}


def test_a_first_upgrade_that_was_cut_short_is_made_good(empty_url: str, tmp_path: Path) -> None:
    """Alembic makes its own table before the first revision: a crash in between leaves it alone and empty."""
    execute(empty_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    with Registry.open(tmp_path / "home", database_url=empty_url) as catalog:
        assert catalog.list().versions == ()


def test_who_opens_a_catalog_that_is_being_made_waits_for_it(empty_url: str, tmp_path: Path) -> None:
    """Revisions are one transaction each: in between, a new catalog looks like one of an older release."""
    engine = make_engine(make_url(empty_url))
    opened: list[int] = []

    def second() -> None:
        with Registry.open(tmp_path / "home", database_url=empty_url) as catalog:
            opened.append(len(catalog.list().versions))

    waiting = threading.Thread(target=second)
    with migrate.exclusive(engine):
        with_alembic(empty_url, command.upgrade, REVISIONS[0])
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        with_alembic(empty_url, command.upgrade, "head")
    waiting.join(30)
    assert opened == [0]
    engine.dispose()


def test_opening_and_upgrading_work_from_any_folder(tmp_path: Path) -> None:
    for folder in (Path("/"), tmp_path):
        home = tmp_path / f"home{len(str(folder))}"
        assert registry("db", "current", home=home, cwd=folder).stdout.strip() == "none"
        assert registry("db", "upgrade", home=home, cwd=folder).returncode == 0
        assert registry("db", "current", home=home, cwd=folder).stdout.strip() == HEAD
        assert registry("list", "--format", "quiet", home=home, cwd=folder).returncode == 0


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageFailure, match="not a database"):
        Registry.open(tmp_path)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/x", "sqlite://", "sqlite:///:memory:", "oracle://x/y"]
)
def test_an_address_that_is_no_catalog_is_a_usage_error(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not url:
        return
    for attempt in (Registry.open, Registry.upgrade, Registry.schema):
        with pytest.raises(UsageError):
            attempt(tmp_path / "home", database_url=url)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_a_storage_failure_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure) as caught:
        Registry.open(tmp_path, database_url="postgresql://u:hunter2@127.0.0.1:9/x")
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def registry(*words: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    environment |= {"REGISTRY_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", "from cli import main; main()", *words],
        env=environment, cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
