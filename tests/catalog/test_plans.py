"""Look-ups go through indexes: what the databases themselves say about their plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from registry.catalog import lineage, references, revocations, search, staleness, versions
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.catalog.tables import Base
from registry.catalog.versions import Draft
from registry.reference import parse
from registry.results import BaseModelIdentity
from tests.catalog.drafts import add, content, statements

MANY = 3_000
LOOK_UPS = {
    "latest": "a7",
    "version": "a7@1",
    "alias": "a7@prod",
    "digest": content("7").digest,
    "start of a digest": content("7").digest[:20],
}


@pytest.fixture
def crowded(database: Database) -> Database:
    """Enough rows that a plan that reads them all is the worse one."""
    for number in range(10):
        add(database, f"a{number}", str(number))
    with database.write() as session:
        copy_rows(session)
    with database.write() as session:
        session.execute(text("ANALYZE"))
    return database


def copy_rows(session: Session) -> None:
    bulk = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "  # noqa: S608
    copies = {
        "adapters": "1000 + i, 'bulk' || i, 'bulk' || i, 1, created_at, created_by",
        "artifacts": "'sha256:' || substr('00000000' || i, -8, 8) || substr(digest, 16), target, kind, rank, "
        "parameters, modules, dtype, size, not_composable, created_at",
    }
    if session.get_bind().dialect.name == "postgresql":
        copies["artifacts"] = copies["artifacts"].replace(
            "substr('00000000' || i, -8, 8)", "lpad(i::text, 8, '0')"
        )
    for table, columns in copies.items():
        condition = "id = 1" if table == "adapters" else f"digest = '{content('0').digest}'"
        insert = f"INSERT INTO {table} {bulk}SELECT {columns} FROM {table}, n WHERE {condition}"  # noqa: S608
        session.execute(text(insert))
    number = "CAST(substr(digest, 8, 8) AS INTEGER)"
    session.execute(
        text(
            "INSERT INTO versions (id, adapter_id, number, artifact_digest, base_model_id, latest_of, created_at, "  # noqa: S608
            f"created_by) SELECT 1000 + {number}, 1000 + {number}, 1, digest, 1, 1000 + {number}, created_at, 't' FROM artifacts "
            "WHERE substr(digest, 8, 4) = '0000'"
        )
    )
    session.execute(
        text(
            "INSERT INTO aliases (adapter_id, alias_key, alias, number, version_id, updated_at, updated_by) "
            "SELECT adapter_id, 'prod', 'prod', number, id, created_at, 't' FROM versions"
        )
    )


def scanned(database: Database, statement: str, parameters: Any) -> set[str]:
    """The tables that the plan reads from end to end, and ``sort`` where it sorts what it read."""
    with database.read() as session:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [row[-1].split() for row in plan]
            found = {words[1] for words in steps if words[0] == "SCAN" and "INDEX" not in words}
            return found | {"sort" for words in steps if "B-TREE" in words}
        # With few rows, reading them all can be the best plan: the question is whether there is another way.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    plans = answer if isinstance(answer, list) else json.loads(answer)
    return set(steps_of(plans[0]["Plan"]))


def steps_of(plan: dict[str, Any]) -> list[str]:
    own = {"Seq Scan": [plan.get("Relation Name", "")], "Sort": ["sort"], "Incremental Sort": ["sort"]}
    return own.get(plan["Node Type"], []) + [
        step for inner in plan.get("Plans", []) for step in steps_of(inner)
    ]


ALL = set(Base.metadata.tables)
SMALL = {"base_models"}  # one row here: reading it whole is the best plan


def test_no_look_up_reads_a_table_from_end_to_end(crowded: Database) -> None:
    for name, reference in LOOK_UPS.items():
        with statements(crowded) as sent, crowded.read() as session:
            found: Pin = references.resolve(session, parse(reference))
        assert found.ref == "a7@1"
        ((statement, parameters),) = sent
        assert scanned(crowded, statement, parameters) - {"sort"} <= SMALL, name


def test_writing_a_version_reads_no_line_from_end_to_end(crowded: Database) -> None:
    """Neither the whole catalog nor the adapter's other versions: those may be very many too."""
    base = BaseModelIdentity(repo="tiny/base")
    draft = Draft("a7", content("again"), base, "tester", tags={"k": "v", "l": "w"}, note="some words")
    with statements(crowded) as sent, crowded.write() as session:
        versions.write(session, draft)
    assert len(sent) == 12  # whatever the number of tags and words
    read = [each for each in sent if each[0].lstrip().upper().startswith("SELECT")]
    for statement, parameters in read:
        assert scanned(crowded, statement, parameters) - {"sort"} <= SMALL
    (same,) = [each for each in read if "deleted_at IS NULL" in each[0]]
    if crowded.url.get_backend_name() == "sqlite":
        with crowded.read() as session:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {same[0]}", same[1]).all()
        assert "ix_versions_artifact_digest" in str(plan)


@pytest.mark.parametrize("sort", ["name", "created"])
def test_a_page_is_read_in_the_order_of_an_index(crowded: Database, sort: str) -> None:
    """So that it ends after as many rows as it shows, wherever in the list it begins."""
    options: dict[str, Any] = {
        "base": None,
        "task": None,
        "kind": None,
        "tags": {},
        "sort": sort,
        "limit": 20,
    }
    with crowded.read() as session:
        after = search.listing(session, after=None, **options).next
    for token in (None, after):
        with statements(crowded) as sent, crowded.read() as session:
            assert len(search.listing(session, after=token, **options).versions) == 20
        statement, parameters = sent[0]
        # SQLite walks a table in the order of its key: that is a scan that stops at the limit.
        walked = {"versions"} if sort == "created" and token is None else set()
        assert scanned(crowded, statement, parameters) <= SMALL | walked


@pytest.fixture
def derived(crowded: Database) -> Database:
    """And among them compositions: each version from the one before, which it follows."""
    before = "FROM versions c JOIN versions p ON p.id = c.id - 1 WHERE c.id > 1001"
    inserts = {
        "recipes": "SELECT digest, '{}', created_at FROM artifacts",
        "lineage (child_id, position, parent_id, relation)": f"SELECT c.id, 0, p.id, 'input' {before}",
        "followed (version_id, adapter_id, alias_key, pinned_id)": (
            "SELECT child_id, parent_id, 'prod', parent_id FROM lineage "
            "UNION ALL SELECT child_id, parent_id, '', parent_id FROM lineage"
        ),
    }
    update = "UPDATE versions SET recipe_digest = artifact_digest, expression = 'e', resolved = 'r' WHERE id > 1001"
    with crowded.write() as session:
        for table, select in inserts.items():
            session.execute(text(f"INSERT INTO {table} {select}"))
        session.execute(text(update))
    with crowded.write() as session:
        session.execute(text("ANALYZE"))
    return crowded


def sent_by(database: Database, ask: Callable[[Session], object]) -> list[tuple[str, Any]]:
    with statements(database) as sent, database.read() as session:
        ask(session)
    return sent


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("depth", [None, 3])
def test_lineage_reads_no_table_from_end_to_end(
    derived: Database, direction: Literal["up", "down"], depth: int | None
) -> None:
    with derived.read() as session:
        pin = references.resolve(session, parse("bulk50"))
    sent = sent_by(derived, lambda session: lineage.lineage(session, pin, direction=direction, depth=depth))
    assert len(sent) == 2
    for statement, parameters in sent:
        read = {table for table in scanned(derived, statement, parameters) if table in ALL}
        assert read <= {"revocations", "affected"}, statement  # which are empty


def test_whether_one_version_is_stale_reads_no_table_from_end_to_end(derived: Database) -> None:
    ((statement, parameters),) = sent_by(derived, lambda session: staleness.moved(session, [1050]))
    assert not scanned(derived, statement, parameters) & ALL


def test_why_versions_are_not_to_be_used_reads_no_table_from_end_to_end(derived: Database) -> None:
    ((statement, parameters),) = sent_by(
        derived, lambda session: revocations.causes(session, range(1050, 1060))
    )
    assert scanned(derived, statement, parameters) & ALL <= {"revocations", "affected"}


def test_what_is_stale_is_asked_in_two_statements_however_much_is(derived: Database) -> None:
    def ask(session: Session) -> int:
        staleness.followers(session, "latest")
        return len(staleness.moved(session, "latest"))

    assert len(sent_by(derived, ask)) == 2
    with derived.write() as session:
        session.execute(text("DELETE FROM aliases WHERE alias_key = 'prod'"))
    with statements(derived) as sent, derived.read() as session:
        assert ask(session) > MANY / 2
    assert len(sent) == 2
