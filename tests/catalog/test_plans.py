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
from registry.filters import parse as parse_filter
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
        "adapters": "1000 + i, 'bulk' || i, 'bulk' || i, 1, created_at, created_by, seal",
        "artifacts": "'sha256:' || substr('00000000' || i, -8, 8) || substr(digest, 16), target, kind, rank, "
        "parameters, modules, dtype, size, not_composable, created_at, seal",
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
            found = {name for name in found if not name.startswith(("anon_", "CONSTANT"))}  # no tables
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


SMALL = {"base_models"}  # one row here: reading it whole is the best plan


def test_no_look_up_reads_a_table_from_end_to_end(crowded: Database) -> None:
    for name, reference in LOOK_UPS.items():
        with statements(crowded) as sent, crowded.read() as session:
            found: Pin = references.resolve(session, parse(reference))
        assert found.ref == "a7@1"
        ((statement, parameters),) = sent
        assert scanned(crowded, statement, parameters) - {"sort"} <= SMALL, name


@pytest.fixture
def tagged(crowded: Database) -> Database:
    """Every version has tags, words, an evaluation and a parent, one in ten of each sort."""
    with crowded.write() as session:
        values = {"k": "'v' || (id % 10)", "j": "'w' || (id % 7)", "toxic": "'yes' || (id % 3)"}
        for key, value in values.items():
            column = f"INSERT INTO tags (version_id, key, value) SELECT id, '{key}', {value} FROM versions"  # noqa: S608
            session.execute(text(column))
        session.execute(
            text("INSERT INTO words (word, version_id) SELECT 'v' || (id % 10), id FROM versions")
        )
        session.execute(
            text(
                "INSERT INTO evaluations (version_id, metric, dataset, split, value, created_at, created_by) "
                "SELECT id, 'acc', 'imdb', '', id % 10, created_at, 't' FROM versions"
            )
        )
        session.execute(
            text(
                "INSERT INTO lineage (child_id, position, parent_id, relation) "
                "SELECT id, 0, 1 + id % 9, 'declared' FROM versions WHERE id > 1000"
            )
        )
        tasks = "UPDATE versions SET task = 't' || (id % 10), license = 'l', created_by = 'u' || (id % 10)"
        session.execute(text(tasks))
        kinds = "SET kind = 'kind' || substr(digest, 15, 1), rank = CAST(substr(digest, 12, 4) AS INTEGER)"
        session.execute(text(f"UPDATE artifacts {kinds} WHERE substr(digest, 8, 4) = '0000'"))
    with crowded.write() as session:
        session.execute(text("ANALYZE"))
    return crowded


FOUND_BY_AN_INDEX = [
    "tag.k = 'v1'",
    "tag.k = 'v1' AND tag.j = 'w2' AND NOT tag.toxic = 'yes1'",
    "tag.k IN ('v1', 'v2') task = 't1'",
    "name = 'bulk7'",
    "name LIKE 'bulk7%' AND license = 'l'",
    "alias = 'prod' AND size > 1",
    "base = 'tiny/base' AND tag.nosuch IS NULL",
    "task = 't1' AND created_by != 'u2'",
    "created_by = 'u1'",
    "license = 'l'",
    "created_at > '9999-01-01' OR version = 7 AND name = 'a7'",
    "created_at < '2000-01-01'",
    "eval.acc > 8 AND tag.k = 'v9'",
    "eval.acc['imdb'] = 100",
    "parent = 'a7@1'",
    "ancestor = 'a7@1' AND tag.k = 'v1'",
    "kind = 'ia3'",
    "rank = 1000",
    "digest = 'sha256:0'",
    "revoked = true",
    "affected = true",
    "stale = true",
    "derived = true",
    "latest = true AND tag.k = 'v1'",
    "v1",
    "bulk7",
    "nosuch AND tag.k = 'v1'",
    "tag.k = 'v1' OR alias = 'nosuch' OR bulk8",
]
WALKED = {"versions", "v", "versions_read"}
"""Names under which versions are read newest first: SQLite tells that as a scan, which stops at the limit."""


@pytest.mark.parametrize("latest", [True, False])
def test_no_search_reads_a_table_from_end_to_end(tagged: Database, latest: bool) -> None:
    small = SMALL | {"base_models_1", "base_models_2", "sort", "revocations", "affected", "followed"}
    for where in FOUND_BY_AN_INDEX:
        with statements(tagged) as sent, tagged.glance() as session:
            search.listing(session, where=parse_filter(where), latest=latest, limit=20)
        assert len(sent) <= 5, where
        for statement, parameters in sent:
            walked = WALKED if "ORDER BY" in statement and "LIMIT" in statement else set()
            assert scanned(tagged, statement, parameters) <= small | walked, where


def test_a_hundred_tags_are_asked_for_in_two_statements(tagged: Database) -> None:
    tags = {"k": "v1", "j": "w1", **{f"key{number}": "x" for number in range(98)}}
    with statements(tagged) as sent, tagged.glance() as session:
        assert search.listing(session, tags=tags, latest=False).versions == ()
    assert len(sent) == 2


@pytest.mark.parametrize("latest", [True, False])
@pytest.mark.parametrize("sort", ["name", "created", "size", "parameters"])
def test_a_page_is_read_in_the_order_of_an_index(crowded: Database, sort: str, latest: bool) -> None:
    """So that it ends after as many rows as it shows, wherever in the list it begins."""
    with crowded.read() as session:
        after = search.listing(session, sort=sort, latest=latest, limit=20).next
    for token in (None, after):
        with statements(crowded) as sent, crowded.glance() as session:
            page = search.listing(session, sort=sort, latest=latest, limit=20, after=token)
        assert len(page.versions) == 20
        statement, parameters = sent[-2]
        # Ties of the first key are put in order among themselves, and a line's newest by themselves.
        walked = {"versions", "v", "versions_read"} if sort == "created" and token is None else set()
        allowed = SMALL | walked | ({"sort"} if sort != "created" else set())
        assert scanned(crowded, statement, parameters) <= allowed


ALL = set(Base.metadata.tables)


def test_writing_a_version_reads_no_line_from_end_to_end(crowded: Database) -> None:
    """Neither the whole catalog nor the adapter's other versions: those may be very many too."""
    base = BaseModelIdentity(repo="tiny/base")
    draft = Draft("a7", content("again"), base, "tester", tags={"k": "v", "l": "w"}, note="some words")
    with statements(crowded) as sent, crowded.write() as session:
        versions.write(session, draft)
    assert len(sent) == 14  # two for each file; whatever the number of tags and words
    read = [each for each in sent if each[0].lstrip().upper().startswith("SELECT")]
    for statement, parameters in read:
        assert scanned(crowded, statement, parameters) - {"sort"} <= SMALL
    (same,) = [each for each in read if "deleted_at IS NULL" in each[0]]
    if crowded.url.get_backend_name() == "sqlite":
        with crowded.read() as session:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {same[0]}", same[1]).all()
        assert "ix_versions_artifact_digest" in str(plan)


@pytest.fixture
def derived(crowded: Database) -> Database:
    """And among them compositions: each version from the one before, which it follows."""
    before = "FROM versions c JOIN versions p ON p.id = c.id - 1 WHERE c.id > 1001"
    inserts = {
        "recipes": "SELECT digest, '{}', created_at, seal FROM artifacts",
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
