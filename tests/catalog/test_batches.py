"""Many versions in one transaction are what as many transactions would have made of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.base_layout import BaseLayout
from registry.catalog import batches, references, versions
from registry.catalog.database import Database, open_database
from registry.catalog.versions import Draft, Edge
from registry.errors import Conflict
from registry.reference import parse
from registry.results import BaseModelIdentity
from tests.catalog.drafts import add, content, counts, rows, statements

TABLES = {
    "versions": "SELECT a.name, number, artifact_digest, task, license, note, source, v.created_by, CASE WHEN latest_of = adapter_id THEN 1 END "
    "FROM versions v JOIN adapters a ON a.id = v.adapter_id",
    "adapters": "SELECT name, name_key, last_version, created_by FROM adapters",
    "tags": "SELECT key, value, number, name FROM tags JOIN versions v ON v.id = version_id JOIN adapters a "
    "ON a.id = adapter_id",
    "words": "SELECT word, number, name FROM words JOIN versions v ON v.id = version_id JOIN adapters a "
    "ON a.id = adapter_id",
    "name_words": "SELECT word, name FROM name_words JOIN adapters ON id = adapter_id",
    "lineage": "SELECT position, relation, c.number, p.number FROM lineage JOIN versions c ON c.id = child_id "
    "JOIN versions p ON p.id = parent_id",
    "affected": "SELECT v.number, r.number FROM affected f JOIN versions v ON v.id = f.version_id JOIN versions r "
    "ON r.id = f.revoked_id",
    "events": "SELECT id, actor, action, subject FROM events",
    "files": "SELECT artifact_digest, path, blob_digest FROM artifact_files",
    "artifacts": "SELECT digest, kind, rank, size FROM artifacts",
    "blobs": "SELECT digest, size FROM blobs",
    "layouts": "SELECT fingerprint FROM base_layouts",
    "bases": "SELECT repo, revision, fingerprint FROM base_models",
}


def draft(name: str, label: str, **fields: Any) -> Draft:
    base = BaseModelIdentity(
        repo=fields.pop("base", "tiny/base"), fingerprint=fields.pop("fingerprint", None)
    )
    made = content(label, kind=fields.pop("kind", "lora"))
    return Draft(name=name, content=made, base_model=base, actor="tester", **fields)


def everything(database: Database) -> dict[str, list[str]]:
    with database.read() as session:
        return {
            name: sorted(repr(tuple(row)) for row in session.execute(text(query)))
            for name, query in TABLES.items()
        }


def one_by_one(database: Database, drafts: Sequence[Draft]) -> list[tuple[int, bool]]:
    with database.write() as session:
        return [versions.write(session, each) for each in drafts]


def together(database: Database, drafts: Sequence[Draft]) -> list[tuple[int, bool]]:
    with database.write() as session:
        return batches.write_many(session, drafts)


def test_a_batch_is_what_the_single_writes_would_have_been(database: Database, tmp_path: Path) -> None:
    single = open_database(f"sqlite:///{tmp_path / 'single.db'}")
    outcomes = []
    for target, write in ((single, one_by_one), (database, together)):
        add(target, "there", "0", note="first")
        with target.write() as session:
            pin = references.resolve(session, parse("there"))
            session.execute(
                text(
                    "INSERT INTO revocations SELECT id, 'bad', created_at, 'x', seal FROM versions WHERE id = :id"
                ),
                {"id": pin.id},
            )
        drafts = [
            draft("there", "0"),
            draft("there", "1", tags={"k": "v", "l": ""}, note="second words", task="t", source="/x"),
            draft("New/Thing.2", "1", license="mit", parents=[Edge(pin.id, "declared")]),
            draft("there", "2"),
            draft("there", "1"),
            draft("three", "3", kind="ia3", base="other", fingerprint="f", base_layout=BaseLayout({}, {})),
            draft("three", "3b", kind="ia3", base="other"),
            draft("New/Thing.2", "4"),
        ]
        outcomes.append((write(target, drafts), everything(target)))
    single.close()
    (one, before), (many, after) = outcomes
    assert [created for _, created in many] == [created for _, created in one]
    assert [created for _, created in many] == [False, True, True, True, False, True, True, True]
    assert many[1][0] == many[4][0]
    assert after == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (draft("A", "x"), "case"),
        (draft("a", "x", kind="ia3"), "taken by lora"),
        (draft("a", "x", base="other"), "taken by lora"),
        (draft("a", "x", new=True), "is taken"),
        (draft("fresh", "x", kind="ia3"), "taken by lora"),
    ],
)
def test_one_that_cannot_be_written_leaves_none(database: Database, bad: Draft, said: str) -> None:
    add(database, "a", "0")
    before = counts(database)
    with pytest.raises(Conflict, match=said):
        together(database, [draft("b", "1"), draft("fresh", "2"), bad])
    assert counts(database) == before


def test_a_parent_that_is_gone_is_refused(database: Database) -> None:
    add(database, "a", "0")
    with database.write() as session:
        pin = references.resolve(session, parse("a"))
        versions.tombstone(session, pin, "tester")
    with pytest.raises(Conflict, match="deleted meanwhile"):
        together(database, [draft("b", "1", parents=[Edge(pin.id, "declared")])])


def test_nothing_is_nothing(database: Database) -> None:
    assert together(database, []) == []


def test_statements_do_not_grow_with_the_batch(database: Database) -> None:
    add(database, "first", "0")
    seen = []
    for size in (10, 400):
        drafts = [draft(f"n{size}-{i}", f"{size} {i}", tags={"a": "b"}) for i in range(size)]
        with statements(database) as made:
            together(database, drafts)
        seen.append(len(made))
    assert seen[0] == seen[1]


def _worker(url: str, start: Any, worker: int) -> None:
    database = open_database(url)
    start.wait()
    for batch in range(5):
        drafts = [draft(f"line{(i + worker) % 4}", f"{worker} {batch} {i}") for i in range(8)]
        database.transact(lambda session, drafts=drafts: batches.write_many(session, drafts))  # type: ignore[misc]
    database.close()


def test_batches_at_once_give_dense_numbers(database: Database, database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    workers = [context.Process(target=_worker, args=(database_url, start, i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert rows(database, "versions") == 160
    with database.read() as session:
        for line in range(4):
            found = session.scalars(
                text(
                    "SELECT number FROM versions v JOIN adapters a ON a.id = adapter_id WHERE name = :n ORDER BY 1"
                ),
                {"n": f"line{line}"},
            ).all()
            assert found == list(range(1, 41))
        latest = (
            session.execute(text("SELECT number FROM versions WHERE latest_of IS NOT NULL")).scalars().all()
        )
    assert latest == [40] * 4


def test_a_new_line_is_one_kind_on_one_base_also_within_a_batch(database: Database) -> None:
    first = draft("n", "1")
    with pytest.raises(Conflict, match="taken by lora adapters on tiny/base"):
        together(database, [first, replace(first, content=content("2", kind="ia3"))])
