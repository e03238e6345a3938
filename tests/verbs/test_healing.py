"""Damaged bytes: found wherever they are, put aside, and replaced by a good copy from wherever there is one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from registry import Registry
from registry.errors import DatabaseDamaged, NotFound, UsageError
from registry.results import Verification
from registry.testing.hub import HubServer
from registry.verbs import gc
from tests import hubs
from tests.adapters import make_lora
from tests.buckets import Bucket
from tests.verbs.places import blob, damage

TENSORS = "adapter_model.safetensors"


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    local.compose("c", "a - 0.4*b", device="cpu")
    return local


@pytest.fixture
def copy(shelf: Registry, tmp_path: Path) -> Path:  # noqa: ARG001 (it fills the home)
    """Another store with the same blobs."""
    return Path(shutil.copytree(tmp_path / "home" / "blobs", tmp_path / "copy"))


def by_ref(found: tuple[Verification, ...]) -> dict[str, Verification]:
    return {each.ref: each for each in found}


def digest_of(path: Path) -> str:
    return f"sha256:{path.parent.name}{path.name}"


def test_every_byte_of_every_stored_file_is_watched(shelf: Registry, tmp_path: Path) -> None:
    files = sorted((tmp_path / "home" / "blobs" / "sha256").glob("*/*"))
    assert len(files) == 5  # two of them have the same config
    for file in files:
        before, size = file.read_bytes(), file.stat().st_size
        for position in {0, size // 3, size // 2, size - 1}:
            damage(file, position)
            assert [each for each in shelf.verify() if not each.ok], (file, position)
            file.write_bytes(before)
    assert all(each.ok for each in shelf.verify())


def test_without_repair_nothing_is_touched(shelf: Registry, tmp_path: Path) -> None:
    damage(blob(shelf, "a"))
    before = {path: path.read_bytes() for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()}
    events = shelf.events()
    assert not by_ref(shelf.verify())["a@1"].ok
    assert before == {path: path.read_bytes() for path in before}
    assert shelf.events() == events
    with pytest.raises(UsageError, match="nothing to take good copies for"):
        shelf.verify(sources=[tmp_path])


def test_what_cannot_be_healed_is_put_aside_and_stays_damaged(shelf: Registry) -> None:
    path = blob(shelf, "a")
    damage(path)
    bytes_then = path.read_bytes()
    found = by_ref(shelf.verify(repair=True))
    assert (found["a@1"].ok, found["a@1"].healed) == (False, {})
    assert found["a@1"].quarantined == (digest_of(path),)
    assert "missing" in found["a@1"].problems[0]
    assert found["b@1"].ok
    assert not path.exists()
    ((name, digest, size),) = shelf._blobs.quarantined()
    assert (digest, size) == (digest_of(path), len(bytes_then))
    assert Path(name).read_bytes() == bytes_then
    assert [(event.action, event.subject) for event in shelf.events(limit=1)] == [("quarantine", digest)]
    assert shelf.verify_database().quarantined == (name,)


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "missing"])
@pytest.mark.parametrize("place", ["store", "home", "bundle", "backup"])
def test_a_good_copy_is_taken_from_another_place(
    *, lost: bool, place: str, shelf: Registry, copy: Path, sqlite_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "other"
    home.mkdir()
    shutil.copytree(copy, home / "blobs")
    shelf.export(tmp_path / "bundle.tar")
    Registry.backup(tmp_path / "backup.tar", tmp_path / "home", database_url=sqlite_url)
    places = {
        "store": copy,
        "home": home,
        **{sort: tmp_path / f"{sort}.tar" for sort in ("bundle", "backup")},
    }
    given = places[place]
    path = blob(shelf, "a")
    whole = path.read_bytes()
    if lost:
        path.unlink()
    else:
        damage(path)
    found = by_ref(shelf.verify(repair=True, sources=[given]))
    assert found["a@1"].ok
    assert found["a@1"].healed == {digest_of(path): str(given)}
    assert path.read_bytes() == whole
    assert all(each.ok and not each.healed for each in shelf.verify())
    assert shelf.verify_database().ok
    assert shelf.events(limit=1)[0].detail == {"source": str(given)}


def test_a_copy_that_is_damaged_as_well_is_no_copy(shelf: Registry, copy: Path) -> None:
    path = blob(shelf, "a")
    damage(path)
    damage(copy / "sha256" / path.parent.name / path.name, 5)
    assert not by_ref(shelf.verify(repair=True, sources=[copy]))["a@1"].ok
    assert not path.exists()


def test_what_was_written_without_bytes_is_no_place(shelf: Registry, sqlite_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    Registry.backup(tmp_path / "rows.backup", home, database_url=sqlite_url, with_blobs=False)
    shelf.export(tmp_path / "rows.bundle", blobs=False)
    for file in ("rows.backup", "rows.bundle"):
        with pytest.raises(UsageError, match=f"{file} was written without bytes"):
            shelf.verify(repair=True, sources=[tmp_path / file])


def test_a_composition_is_made_again_once_its_inputs_are_healed(shelf: Registry, copy: Path) -> None:
    for ref in ("a", "c"):
        path = blob(shelf, ref)
        damage(path)
    (copy / "sha256" / path.parent.name / path.name).unlink()
    whole = by_ref(shelf.verify("c", repair=True, sources=[copy]))["c@1"]
    assert whole.ok
    assert list(whole.healed.values()) == ["the recipe of c@1"]
    assert all(each.ok for each in shelf.verify())


def test_all_versions_that_share_a_file_are_named(shelf: Registry, copy: Path, tmp_path: Path) -> None:
    shelf.add(tmp_path / "a", "same")
    path = blob(shelf, "a")
    damage(path)
    assert [each.ref for each in shelf.verify() if not each.ok] == ["a@1", "same@1"]
    found = by_ref(shelf.verify(repair=True, sources=[copy]))
    assert [ref for ref, each in found.items() if each.healed] == ["a@1", "same@1"]
    assert shelf.events(limit=2)[1].detail == {"versions": ["a@1", "same@1"]}


def test_bytes_of_no_live_version_are_checked_with_the_database(shelf: Registry, copy: Path) -> None:
    path = blob(shelf, "c")
    shelf.delete("c")
    damage(path)
    assert all(each.ok for each in shelf.verify())
    found = shelf.verify_database()
    assert not found.ok
    assert [each.row for each in found.damage] == [digest_of(path)]
    assert shelf.verify_database(repair=True, sources=[copy]).ok
    assert shelf.verify_database().ok


def test_what_was_put_aside_goes_only_when_that_is_said(shelf: Registry) -> None:
    damage(blob(shelf, "a"))
    shelf.verify(repair=True)
    ((name, _, _),) = shelf._blobs.quarantined()
    collected = gc.gc(shelf._database, shelf._blobs, apply=True, actor="t", grace=timedelta(0))
    assert name not in collected.leftovers
    assert shelf.gc(quarantine=True).leftovers == (name,)
    assert Path(name).exists()
    shelf.gc(apply=True, quarantine=True)
    assert list(shelf._blobs.quarantined()) == []


def test_whoever_was_stopped_halfway_finds_the_bytes_again(shelf: Registry) -> None:
    """A good blob that was moved aside, by somebody who was killed then, is put back."""
    path = blob(shelf, "a")
    aside = path.parents[2] / "quarantine"
    aside.mkdir()
    path.rename(aside / f"{path.parent.name}{path.name}.1")
    found = by_ref(shelf.verify(repair=True))["a@1"]
    assert (found.ok, found.healed) == (True, {digest_of(path): "quarantine"})


def test_a_place_that_is_nothing_is_refused(shelf: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a blob store"):
        shelf.verify(repair=True, sources=[tmp_path / "nosuch"])
    assert not (tmp_path / "nosuch").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.mark.usefixtures("hub")
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_good_copy_comes_from_where_it_was_published(shelf: Registry) -> None:
    done = shelf.publish("a", "team/a")
    path = blob(shelf, "a")
    damage(path)
    found = by_ref(shelf.verify("a", repair=True))["a@1"]
    assert (found.ok, found.healed) == (True, {digest_of(path): f"hf://team/a@{done.commit}"})


@pytest.mark.usefixtures("hub")
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_hub_that_is_out_of_reach_is_asked_once(shelf: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        shelf.publish(name, f"team/{name}")
        damage(blob(shelf, name))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = shelf.verify(["a", "b"], repair=True)
    assert not any(each.ok for each in found)
    assert ["not asked again" in each.notes[0] for each in found] == [False, True]


def test_in_a_bucket_a_damaged_object_is_put_aside_and_replaced(
    bucket: Bucket, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_BLOBS", bucket.url)
    source = make_lora(tmp_path / "a", seed=1)
    with Registry.open(tmp_path / "spare", blobs=str(tmp_path / "spare" / "blobs")) as other:
        other.add(source, "a")
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        catalog.add(source, "a")
        damaged = digest_of(blob(catalog, "a"))
        body = bytearray(blob(catalog, "a").read_bytes())
        body[-3] ^= 1
        bucket.rot(damaged, bytes(body))
        assert not by_ref(catalog.verify())["a@1"].ok
        found = by_ref(catalog.verify(repair=True, sources=[tmp_path / "spare"]))["a@1"]
        assert (found.ok, list(found.healed)) == (True, [damaged])
        ((aside, digest, _),) = catalog._blobs.quarantined()
        assert digest == damaged
        catalog._blobs.copy_of_quarantined(aside, tmp_path / "bad")
        assert (tmp_path / "bad").read_bytes() == bytes(body)
        assert all(each.ok for each in catalog.verify())
        catalog.gc(apply=True, quarantine=True)
        assert list(catalog._blobs.quarantined()) == []


def test_the_copy_on_this_machine_of_an_object_that_is_damaged_is_not_lost_but_taken(
    bucket: Bucket, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_BLOBS", bucket.url)
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        catalog.add(make_lora(tmp_path / "a", seed=1), "a")
        whole = blob(catalog, "a").read_bytes()
        damaged = digest_of(blob(catalog, "a"))
        bucket.rot(damaged, whole[:-1] + b"?")
        (found,) = catalog.verify(repair=True)
        assert (found.ok, found.healed) == (True, {damaged: "the copy on this machine"})
        assert all(each.ok for each in catalog.verify())
        assert blob(catalog, "a").read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE versions SET latest_of = NULL", "not marked as the latest"),
        ("UPDATE adapters SET last_version = 7 WHERE name = 'a'", "its counter is 7, not 1"),
        ("UPDATE words SET word = 'odd' WHERE word = 'fine'", "not the words of its note"),
        ("UPDATE name_words SET word = 'odd' WHERE word = 'a'", "not the words of its name"),
        ("DELETE FROM affected", "it follows from what was revoked"),
    ],
)
def test_what_rows_determine_is_computed_again(
    change: str, says: str, catalog: Registry, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name, note="a fine one")
    catalog.compose("c", "a + b", device="cpu")
    catalog.revoke("a", "bad")
    with catalog._database.write() as session:
        session.execute(text(change))
    found = catalog.verify_database()
    assert not found.ok
    assert any(says in problem for problem in found.problems)
    mended = catalog.verify_database(repair=True)
    assert mended.ok
    assert all(each.repaired for each in mended.damage)
    assert catalog.verify_database().damage == ()
    assert catalog.events(limit=1)[0].action == "repair"


def test_a_version_that_is_gone_leaves_its_number_to_nobody(catalog: Registry, tmp_path: Path) -> None:
    """Its counter is the last that knows of it, and is not taken for damaged."""
    for seed in (1, 2):
        catalog.add(make_lora(tmp_path / f"{seed}", seed=seed), "a")
    with catalog._database.write() as session:
        session.execute(text("DELETE FROM words WHERE version_id = 2"))
        session.execute(text("DELETE FROM versions WHERE number = 2"))
    for repair in (False, True, True):
        found = catalog.verify_database(repair=repair)
        assert "versions, a@2: it was written, and is not there any more" in found.problems
    assert catalog.add(make_lora(tmp_path / "3", seed=3), "a").ref == "a@3"


def test_an_alias_of_a_lost_version_leads_to_no_other(
    local: Registry, sqlite_url: str, tmp_path: Path
) -> None:
    for seed in range(2):
        local.add(make_lora(tmp_path / f"a{seed}", seed=seed), "a")
    local.set_alias("a", "prod", 2)
    engine = create_engine(sqlite_url)  # which minds no foreign keys
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM versions WHERE number = 2"))
    engine.dispose()
    local.add(make_lora(tmp_path / "new", seed=9), "a")
    with pytest.raises(NotFound):
        local.show("a@prod")
    assert not local.verify_database().ok


def test_what_is_left_of_a_lost_revocation_stays(local: Registry, sqlite_url: str, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    local.compose("c", "a + b", device="cpu")
    local.revoke("a", "bad")
    engine = create_engine(sqlite_url)  # which minds no foreign keys
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM revocations"))
    engine.dispose()
    found = local.verify_database(repair=True)
    assert not found.ok
    assert any("does not follow from what was revoked" in problem for problem in found.problems)
    assert not local.verify_database().ok


def test_a_row_that_was_written_can_only_be_restored(catalog: Registry, tmp_path: Path) -> None:
    for name in ("a", "b"):
        catalog.add(make_lora(tmp_path / name, seed=ord(name)), name, tags={"k": "v"})
    with catalog._database.write() as session:
        session.execute(text("UPDATE tags SET value = 'w' WHERE version_id = 1"))
    found = catalog.verify_database(repair=True)
    assert [(each.table, each.versions, each.repaired) for each in found.damage if not each.derived] == [
        ("tags", ("a@1",), False)
    ]
    assert "tags" in by_ref(catalog.verify("a"))["a@1"].problems[0]
    assert by_ref(catalog.verify("b"))["b@1"].ok
    before = catalog.events(limit=1)
    with pytest.raises(Exception, match="is not what was written there") as caught:
        catalog.set_tags("a", {"k": "other"})
    assert caught.value.exit_code == 5  # type: ignore[attr-defined]
    assert catalog.events(limit=1) == before


def test_numbers_of_every_size_are_what_was_written(catalog: Registry, tmp_path: Path) -> None:
    """PostgreSQL keeps the digits of numbers in JSON, and forgets that 1e23 was no whole number."""
    catalog.add(make_lora(tmp_path / "a"), "a")
    for value in (0.0, -0.0, 1.0, 0.1, 5e-324, 1e16, 2.0**60, 1e22, 1e23, 1.5e300, 1.7976931348623157e308):
        catalog.add_evaluation("a", "loss", value, dataset="d")
        catalog.add_evaluation("a", f"loss {value}", -value, dataset="d")
    assert catalog.verify_database().problems == ()


@pytest.mark.parametrize(
    ("change", "ref", "says"),
    [
        ("UPDATE adapters SET name = 'other' WHERE name = 'b'", "other@1", "its rows cannot be read"),
        ("UPDATE versions SET artifact_digest = 'x' WHERE id = 2", "b@1", "its rows cannot be read"),
        ("UPDATE recipes SET canonical = '{'", "c@1", "is damaged"),
        ("UPDATE artifacts SET not_composable = '[' WHERE digest = '{digest}'", "b@1", "where nobody wrote it"),
        ("DELETE FROM artifact_files WHERE artifact_digest = '{digest}' AND path LIKE '%.json'", "b@1", "not recorded"),
        ("UPDATE versions SET note = x'ff' WHERE id = 2", None, ""),
        ("UPDATE versions SET adapter_id = 99 WHERE id = 2", None, ""),
        (("UPDATE blobs SET digest = CAST(digest AS BLOB) WHERE digest IN (SELECT blob_digest FROM artifact_files "
         "WHERE artifact_digest = '{digest}' AND path LIKE '%.safetensors')"), None, ""),
        ("UPDATE lineage SET child_id = 99; UPDATE affected SET version_id = 1", None, ""),
    ],
)  # fmt: skip
def test_a_row_that_is_damaged_keeps_nothing_else_from_being_checked_and_healed(
    change: str, ref: str | None, says: str, shelf: Registry, copy: Path
) -> None:
    shelf.revoke("b", "bad")
    lost = blob(shelf, "a")
    change = change.replace("{digest}", shelf.show("b").digest)
    damage(lost)
    with closing(sqlite3.connect(copy.parent / "home" / "registry.db")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.executescript(change)
    for repair in (False, True):
        sources = [copy] if repair else []
        database = shelf.verify_database(repair=repair, sources=sources)
        assert not database.ok
        found = by_ref(shelf.verify(repair=repair, sources=sources))
        assert found["a@1"].ok == repair
        if ref is not None:
            assert says in " ".join(found[ref].problems)
    assert not any(each.derived for each in database.damage if not each.repaired)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE events SET detail = '[1]'", "detail is [1]"),
        ("UPDATE events SET actor = x'ff00'", "actor is b'"),
        ("UPDATE artifacts SET rank = 'x'", "rank is 'x'"),
        ("UPDATE artifacts SET not_composable = '[['", "is damaged"),
        ("UPDATE versions SET created_at = '20'", "is damaged"),
    ],
)
def test_what_cannot_be_shown_is_told_as_damage(
    change: str, says: str, shelf: Registry, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "home" / "registry.db")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.executescript(change)
    reading: list[Callable[[], object]] = [shelf.list, partial(shelf.log, "a")]
    asked: list[Callable[[], object]] = [shelf.events] if "events" in change else reading
    for each in asked:
        with pytest.raises(DatabaseDamaged) as found:
            each()
        assert says in found.value.message
        assert "\n" not in found.value.message


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("UPDATE evaluations SET created_at = 'infinity' WHERE id = 2", "evaluations, id 2"),
        ("UPDATE versions SET created_at = '20000-01-01' WHERE id = 1", "versions, id 1"),
        ("UPDATE versions SET created_at = '0044-03-15 BC' WHERE id = 1", "versions, id 1"),
        ("UPDATE events SET detail = to_jsonb(10::numeric ^ 5000) WHERE id = 1", "events, id 1"),
    ],
)
def test_a_value_that_python_has_no_word_for_is_found_and_hides_no_other(
    change: str, row: str, postgres_url: str, tmp_path: Path
) -> None:
    """PostgreSQL's times go further than Python's, and so do its numbers."""
    with Registry.open(tmp_path / "home", database_url=postgres_url) as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
        for metric in ("m", "n", "o"):
            catalog.add_evaluation("a", metric, 0.5, dataset="d")
        with catalog._database.write() as session:
            session.execute(text(change.replace("::numeric", "\\:\\:numeric")))
            session.execute(text("UPDATE evaluations SET value = 0.6 WHERE id IN (1, 3)"))
        for repair in (False, True):
            problems = catalog.verify_database(repair=repair).problems
            assert len(problems) == 3
            for each in ("evaluations, id 1", "evaluations, id 3", row):
                assert f"{each}: it is not what was written" in problems
        with pytest.raises(DatabaseDamaged):
            Registry.backup(tmp_path / "b", tmp_path / "home", database_url=postgres_url)
