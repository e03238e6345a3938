"""``db check`` proves that the tables are those of the models, and names whatever somebody changed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Registry
from tests.migrations.kept import RELEASES, unpack
from tests.migrations.test_migrations import execute, rewritten

BOTH = {
    "DROP INDEX ix_tags_key_value_version_id": "index tags.ix_tags_key_value_version_id is missing",
    "CREATE INDEX mine ON tags (value)": "index tags.mine is not this release's",
    "CREATE UNIQUE INDEX mine ON versions (note)": "index versions.mine is not this release's",
    "ALTER TABLE versions ADD COLUMN mine TEXT": "column versions.mine is not this release's",
    "ALTER TABLE versions RENAME COLUMN note TO notes": "column versions.note is missing",
    "DROP TABLE rules": "table rules is missing",
    "CREATE TABLE mine (id INTEGER)": "table mine is not this release's",
}
POSTGRESQL = {
    "ALTER TABLE versions DROP CONSTRAINT ck_versions_number": "constraint versions.ck_versions_number is missing",
    "ALTER TABLE versions DROP CONSTRAINT ck_versions_number, "
    "ADD CONSTRAINT ck_versions_number CHECK (number >= 0)": "constraint versions.ck_versions_number is CHECK number >= 0",
    "ALTER TABLE tags DROP CONSTRAINT fk_tags_version_id": "constraint tags.fk_tags_version_id is missing",
    "ALTER TABLE tags DROP CONSTRAINT fk_tags_version_id, ADD CONSTRAINT fk_tags_version_id "
    "FOREIGN KEY (version_id) REFERENCES versions ON DELETE CASCADE": "fk_tags_version_id is FOREIGN KEY version_id "
    "REFERENCES versions (id) ondelete CASCADE",
    "ALTER TABLE adapters ALTER last_version SET DEFAULT 1": "column adapters.last_version is INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE adapters ALTER created_by DROP NOT NULL": "column adapters.created_by is TEXT NULL",
    "ALTER TABLE versions ALTER number TYPE BIGINT": "column versions.number is BIGINT NOT NULL",
    'ALTER TABLE adapters ALTER name TYPE VARCHAR COLLATE "POSIX"': "column adapters.name is VARCHAR COLLATE",
    "ALTER TABLE tags DISABLE TRIGGER ALL": "constraint",
    "CREATE RULE mine AS ON DELETE TO events DO INSTEAD NOTHING": "rule events.mine is not this release's",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
    "CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION f()": "trigger events.mine is not this",
}
SQLITE = {
    "CREATE TRIGGER mine AFTER INSERT ON events BEGIN SELECT 1; END": "trigger events.mine is not this release's",
    "CREATE VIEW mine AS SELECT 1": "view mine.mine is not this release's",
}
REWRITTEN = {
    ("adapters", "DEFAULT '0'", "DEFAULT '1'"): "column adapters.last_version is INTEGER NOT NULL DEFAULT '1'",
    ("versions", "CHECK (number >= 1)", "CHECK (number >= 0)"): "constraint versions.ck_versions_number is CHECK number >= 0",
    ("tags", "ON DELETE RESTRICT", "ON DELETE CASCADE"): "ondelete CASCADE, and should be",
    ("tags", "value VARCHAR NOT NULL", "value VARCHAR"): "column tags.value is VARCHAR NULL",
    ("versions", "number INTEGER", "number TEXT"): "column versions.number is TEXT NOT NULL",
}  # fmt: skip


def problems(url: str, folder: Path) -> tuple[str, ...]:
    return Registry.check_schema(folder, database_url=url).problems


def test_what_this_release_makes_is_what_it_wants(database_url: str, tmp_path: Path) -> None:
    found = Registry.check_schema(tmp_path, database_url=database_url)
    assert (found.ok, found.problems) == (True, ())


@pytest.mark.parametrize("revision", RELEASES)
def test_what_is_upgraded_from_an_earlier_release_is_too(
    revision: str, empty_url: str, tmp_path: Path
) -> None:
    unpack(revision, empty_url, tmp_path / "home")
    Registry.upgrade(tmp_path, database_url=empty_url)
    assert problems(empty_url, tmp_path) == ()


@pytest.mark.parametrize("statement", BOTH)
def test_a_change_by_hand_is_named(statement: str, database_url: str, tmp_path: Path) -> None:
    execute(database_url, statement)
    found = Registry.check_schema(tmp_path, database_url=database_url)
    assert not found.ok
    assert BOTH[statement] in found.problems
    assert len(found.problems) <= 2


@pytest.mark.parametrize("statement", POSTGRESQL)
def test_one_that_only_a_server_allows_is_too(statement: str, postgres_url: str, tmp_path: Path) -> None:
    execute(postgres_url, statement)
    found = problems(postgres_url, tmp_path)
    assert any(POSTGRESQL[statement] in each for each in found), found


@pytest.mark.parametrize("statement", SQLITE)
def test_one_that_only_a_file_allows_is_too(statement: str, sqlite_url: str, tmp_path: Path) -> None:
    execute(sqlite_url, statement)
    assert problems(sqlite_url, tmp_path) == (SQLITE[statement],)


@pytest.mark.parametrize("change", REWRITTEN)
def test_a_rewritten_definition_of_a_table_is_found(
    change: tuple[str, str, str], sqlite_url: str, tmp_path: Path
) -> None:
    rewritten(sqlite_url, *change)
    found = problems(sqlite_url, tmp_path)
    assert any(REWRITTEN[change] in each for each in found), found
    assert len(found) == 1


def test_looking_leaves_nothing_behind(postgres_url: str, tmp_path: Path) -> None:
    problems(postgres_url, tmp_path)
    assert (
        execute(postgres_url, "SELECT count(*) FROM pg_class WHERE relname = 'tags' AND relkind = 'r'") == 1
    )
