"""Bit rot in the database: whatever value changes by itself is found, and the versions it affects are named."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, text, update
from sqlalchemy.orm import Session

from registry import Registry
from registry.catalog import rot as catalog_rot
from registry.catalog.rot import Rotten
from registry.catalog.tables import Base
from tests.reliability.rot import FINE, changed, columns, flips, furnish, template

SAYS_NOTHING_OF_VERSIONS = {
    "base_models",
    "base_aliases",
    "base_layouts",
    "adapters",
    "name_words",
    "rules",
    "sweeps",
    "sweep_points",
    "sketches",
    "events",
}
FLIPS = 60


@pytest.fixture
def furnished(catalog: Registry, tmp_path: Path) -> Registry:
    furnish(catalog, tmp_path)
    return catalog


def found(session: Session) -> list[Rotten]:
    return list(catalog_rot.findings(session))


def unguarded(session: Session) -> None:
    """What a disk does asks no constraint: none is asked until the transaction is rolled back."""
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text("PRAGMA defer_foreign_keys = on"))
        session.execute(text("PRAGMA ignore_check_constraints = on"))
        return
    session.execute(text("SET LOCAL session_replication_role = replica"))
    for table in Base.metadata.sorted_tables:
        for each in table.constraints:
            if isinstance(each, CheckConstraint | ForeignKeyConstraint):
                session.execute(text(f"ALTER TABLE {table.name} DROP CONSTRAINT {each.name}"))


def other_values(session: Session, table: Any, column: Any) -> Iterator[tuple[Any, Any]]:
    """A row and another value of one of its columns; for one that may be NULL, that as well."""
    rows = session.execute(table.select()).mappings().all()
    assert rows, f"{table.name} has no row"
    given = [row for row in rows if row[column.name] is not None]
    if given:
        yield given[-1], changed(given[-1][column.name])
        if column.nullable:
            yield given[-1], None
    empty = [row for row in rows if row[column.name] is None]
    if empty:
        kind = column.type.python_type
        yield empty[-1], {str: "x", int: 7}.get(kind) or given[-1][column.name]


def test_a_value_that_changes_by_itself_is_found_in_every_column_of_every_table(furnished: Registry) -> None:
    overlooked, tried = [], 0
    with Session(furnished._database._writer) as session:
        assert found(session) == []
        unguarded(session)
        for name, column_name in columns():
            table = Base.metadata.tables[name]
            for row, value in list(other_values(session, table, table.c[column_name])):
                tried += 1
                keys = [key == row[key.name] for key in table.primary_key.columns]
                with session.begin_nested() as one:
                    changing = update(table).where(*keys).values({column_name: value})
                    assert session.connection().execute(changing).rowcount == 1
                    problems = found(session)
                    one.rollback()
                named = any(each.versions for each in problems) or name in SAYS_NOTHING_OF_VERSIONS
                if name not in {each.table for each in problems} or not named:
                    overlooked.append((name, column_name, value, problems))
        session.rollback()
    assert overlooked == []
    assert tried > len(columns()) > 150


def test_a_bit_of_the_file_that_flips_is_found_or_changes_nothing(tmp_path: Path) -> None:
    file = template(tmp_path)
    chance = random.Random(7)  # noqa: S311 (any bits will do)
    outcomes = dict(flips(file, tmp_path / "home", chance, FLIPS))
    assert {bit: outcome for bit, outcome in outcomes.items() if outcome not in FINE} == {}
    assert "found" in outcomes.values()


def test_what_a_new_catalog_has_is_made_in_no_folder(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would remove it where this is killed meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    catalog_rot._as_made.cache_clear()
    assert local.verify_database().ok
