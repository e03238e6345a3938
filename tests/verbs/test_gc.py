"""Garbage collection: what goes, what stays, and when."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from registry import Registry
from registry.digest import of_bytes
from registry.errors import DatabaseDamaged
from tests.adapters import make_lora
from tests.blobs.places import age_all, staging
from tests.catalog.drafts import add, events, statements
from tests.models import tiny_llama
from tests.verbs.places import blob, state


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    catalog.compose("c", "a - 0.4*b")
    return catalog


def test_nothing_live_is_garbage(shelf: Registry) -> None:
    before = state(shelf)
    for apply in (False, True):
        found = shelf.gc(apply=apply)
        assert (found.applied, found.blobs, found.leftovers, found.size) == (apply, (), (), 0)
    assert state(shelf) == before


def test_a_tombstones_bytes_are_told_first_and_taken_on_request(shelf: Registry) -> None:
    gone = {path.name for path in (blob(shelf, "c"), blob(shelf, "c", "adapter_config.json"))}
    shelf.delete("c")
    before = state(shelf)
    planned = shelf.gc()
    assert state(shelf) == before
    assert {digest[-62:] for digest in planned.blobs} == gone
    done = shelf.gc(apply=True)
    assert (done.blobs, done.size) == (planned.blobs, planned.size)
    assert done.size > 0
    assert not {digest for digest, _ in shelf._blobs.digests()} & set(done.blobs)
    assert events(shelf._database)[-1][1:3] == ("gc", "blobs")
    assert shelf.gc(apply=True).blobs == ()
    assert all(found.ok for found in shelf.verify())
    assert shelf.show("c@1").deleted_at is not None


DECIDING = [
    ("artifact_files", "blob_digest"),
    ("artifact_files", "artifact_digest"),
    ("blobs", "digest"),
    ("versions", "artifact_digest"),
    ("versions", "deleted_at"),
    ("lineage", "relation"),
]


@pytest.mark.parametrize(("table", "column"), DECIDING)
@pytest.mark.parametrize("apply", [False, True])
def test_by_a_damaged_catalog_nothing_is_removed(
    shelf: Registry, table: str, column: str, apply: bool
) -> None:
    shelf.delete("a")
    held = dict(shelf._blobs.digests())
    age_all(blob(shelf, "b").parents[1])
    _damage(shelf, table, column)
    with pytest.raises(DatabaseDamaged, match="nothing is removed by a damaged catalog") as caught:
        shelf.gc(apply=apply)
    assert caught.value.exit_code == 5
    assert "\n" not in caught.value.message
    assert dict(shelf._blobs.digests()) == held


def test_digests_that_became_bytes_are_told_in_a_line(local: Registry, tmp_path: Path) -> None:
    """SQLite alone keeps another type in a column than was declared."""
    local.add(make_lora(tmp_path / "a"), "a")
    with closing(sqlite3.connect(str(local._database.url.database))) as connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.execute("UPDATE blobs SET digest = CAST(digest AS BLOB) WHERE rowid % 2 = 0")
        connection.commit()
    with pytest.raises(DatabaseDamaged, match="nothing is removed by a damaged catalog"):
        local.gc()


def _damage(shelf: Registry, table: str, column: str) -> None:
    """Change this column behind the catalog's back so that bytes in use look as if nobody needed them."""
    database = shelf._database
    changes = {
        "deleted_at": "deleted_at = created_at, deleted_by = created_by, latest_of = NULL",
        "relation": "relation = 'declared'",
    }
    change = changes.get(column, f"{column} = substr({column}, 1, length({column}) - 1) || 'g'")
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = off")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")  # no foreign keys
        assert connection.exec_driver_sql(f"UPDATE {table} SET {change}").rowcount  # noqa: S608
    engine.dispose()


def test_an_input_of_a_live_version_stays_after_it_was_deleted(shelf: Registry) -> None:
    shelf.delete("a")
    shelf.delete("b")
    assert shelf.gc(apply=True).blobs == ()
    assert shelf.verify(["c"], rebuild=True)[0].ok
    shelf.delete("c")
    assert len(shelf.gc(apply=True).blobs) == 5  # three files of tensors; a and b have the same config
    assert list(shelf._blobs.digests()) == []


def test_bytes_that_two_versions_share_go_with_the_last(shelf: Registry, tmp_path: Path) -> None:
    shelf.add(make_lora(tmp_path / "again", seed=0), "twin")
    shelf.delete("c")
    shelf.delete("a")
    taken = set(shelf.gc(apply=True).blobs)
    assert shelf.verify(["twin"])[0].ok
    shelf.delete("twin")
    assert not taken & set(shelf.gc(apply=True).blobs)


def test_a_declared_parent_does_not_keep_bytes(shelf: Registry, tmp_path: Path) -> None:
    shelf.add(make_lora(tmp_path / "x", seed=7), "x")
    shelf.add(make_lora(tmp_path / "y", seed=8), "y", parents=["x"])
    shelf.delete("x")
    assert len(shelf.gc(apply=True).blobs) == 1  # the tensors; both have the same config
    assert [node.ref for node in shelf.lineage("y").nodes] == ["y@1", "x@1"]


def test_a_stray_blob_is_left_alone_for_a_while(shelf: Registry) -> None:
    with shelf._blobs.stage() as stage:
        (stage / "f").write_bytes(b"stray")
        shelf._blobs.put(stage / "f", of_bytes(b"stray"))
    assert shelf.gc(apply=True).blobs == ()
    then = time.time() - 7200
    os.utime(shelf._blobs.path(of_bytes(b"stray")), (then, then))
    assert shelf.gc().blobs == (of_bytes(b"stray"),)
    assert shelf.gc(apply=True).size == 5
    assert shelf.gc().blobs == ()


def test_what_a_dead_process_staged_is_a_leftover(shelf: Registry, tmp_path: Path) -> None:
    with staging(str(tmp_path / "home" / "blobs")) as stage:
        age_all(stage.parent)
        assert shelf.gc(apply=True).leftovers == ()
        assert stage.exists()
    (planned,) = shelf.gc().leftovers
    assert stage.is_relative_to(planned)
    assert stage.exists()
    assert shelf.gc(apply=True).leftovers == (planned,)
    assert not stage.exists()


def test_a_long_composition_keeps_its_staging_folder(shelf: Registry, tmp_path: Path) -> None:
    def meanwhile(_what: str, done: int, _total: int) -> None:
        if done == 1:
            age_all(tmp_path / "home" / "blobs" / "staging")
            assert shelf.gc(apply=True).leftovers == ()

    assert shelf.compose("d", "a - 0.3*b", progress=meanwhile).created
    assert shelf.verify(["d"])[0].ok


def test_a_collection_asks_no_more_of_the_database_when_there_is_more(catalog: Registry) -> None:
    sent = []
    for number in (3, 40):
        for turn in range(number):
            add(catalog._database, f"n{number}-{turn}", f"{number} {turn}")
            with catalog._blobs.stage() as stage:
                (stage / "f").write_text(f"{turn}")
                catalog._blobs.put(stage / "f", of_bytes(f"{turn}".encode()))
        for turn in range(number):
            catalog.delete(f"n{number}-{turn}")
        age_all(catalog._blobs.path(of_bytes(b"0")).parents[1])
        with statements(catalog._database) as planned:
            assert len(catalog.gc().blobs) == 2 * number + 1  # those recorded, one config, and the strays
        with statements(catalog._database) as applied:
            assert len(catalog.gc(apply=True).blobs) == 2 * number + 1
        sent.append((len(planned), len(applied)))
    assert sent[0] == sent[1]


def test_a_merged_model_stays_as_long_as_its_version(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a", modules={"model.layers.0.self_attn.q_proj": (32, 32)}), "a")
    base = tiny_llama(tmp_path / "base")
    local.materialize("a", into="model", base_path=base)
    assert local.gc(apply=True).blobs == ()
    assert local.materialize("a", into="model", base_path=base).cached
    local.delete("a")
    local.gc(apply=True)
    assert list(local._blobs.digests()) == []


def test_what_comes_back_after_a_collection_is_whole(shelf: Registry, tmp_path: Path) -> None:
    shelf.delete("c")
    shelf.gc(apply=True)
    again = shelf.compose("c", "a - 0.4*b")
    assert (again.ref, again.cached) == ("c@2", False)
    assert shelf.verify(["c"])[0].ok
    shelf.delete("a")
    shelf.add(make_lora(tmp_path / "back", seed=0), "a")
    assert all(found.ok for found in shelf.verify())
