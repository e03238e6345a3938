"""A backup is the catalog exactly, and what is restored from it the same catalog, on either database."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry import Registry
from registry.catalog.database import HEAD
from registry.catalog.turns import turn
from registry.errors import (
    Conflict,
    DatabaseDamaged,
    IntegrityFailure,
    NotFound,
    Refused,
    RegistryError,
    SchemaOutdated,
)
from registry.verbs.gc import TURN
from tests.adapters import make_lora
from tests.buckets import Bucket
from tests.migrations.kept import RELEASES, rows, unpack


@pytest.fixture
def kept(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A catalog of today with a row in every table."""
    home = tmp_path / "home"
    source = tmp_path / "source"
    unpack(RELEASES[-1], f"sqlite:///{source}/registry.db", source)
    address = f"sqlite:///{source}/registry.db"
    Registry.upgrade(source, database_url=address)
    Registry.backup(tmp_path / "source.backup", source, database_url=address)
    Registry.restore(tmp_path / "source.backup", home, database_url=database_url)
    with Registry.open(home, database_url=database_url) as catalog:
        catalog.sweep(
            "swept",
            "a@1 + {w}*team/QA-lora",
            over={"w": "0.5,1"},
            metric="loss:min",
            evaluate=lambda _, values: {"loss": float(values["w"])},
            device="cpu",
        )
        catalog.similar("a@1")
        yield catalog


def told(catalog: Registry) -> dict[str, Any]:
    """Everything that the catalog says."""
    versions = catalog.list(latest=False, limit=1000).versions
    return {
        "versions": [catalog.show(each.ref).model_dump() for each in versions],
        "events": [each.model_dump() for each in catalog.events(limit=1000)],
        "aliases": [each.model_dump() for each in catalog.aliases()],
        "rules": [each.model_dump() for each in catalog.rules()],
        "publications": [each.model_dump() for each in catalog.publications()],
        "bases": [each.model_dump() for each in catalog.base_models()],
        "sweeps": [each.model_dump() for each in catalog.sweeps()],
    }


def test_what_is_restored_is_the_same_catalog(
    kept: Registry, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    """From each database into each."""
    home, file = tmp_path / "home", tmp_path / "all.backup"
    done = Registry.backup(file, home, database_url=database_url)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (done.blobs, done.schema_revision) == (True, HEAD)
    assert min(done.counts.values()) > 0
    assert Registry.check_backup(file) == done
    there = tmp_path / "there"
    restored = Registry.restore(file, there, database_url=empty_url)
    assert (restored.digest, restored.counts, restored.missing) == (done.digest, done.counts, 0)
    assert restored.stored == done.counts["blobs"]
    with Registry.open(there, database_url=empty_url) as other:
        assert told(other) == told(kept)
        assert all(each.ok for each in other.verify(rebuild=True))
        if database_url.partition(":")[0] == empty_url.partition(":")[0]:
            assert rows(empty_url) == rows(database_url)
        again = Registry.backup(tmp_path / "again.backup", there, database_url=empty_url)
        assert again.digest == done.digest
        # It goes on where it was: new rows have numbers of their own.
        shape = {"model.layers.0.self_attn.q_proj": (32, 32)}
        other.add(make_lora(tmp_path / "new", modules=shape, seed=77), "new")
        other.add_rule("new", "team/new")
        other.add_evaluation("new", "acc", 1.0, dataset="d")
        assert other.compose("sum", "0.5*new + 0.5*new", device="cpu").ref == "sum@1"


@pytest.mark.parametrize("revision", RELEASES)
def test_the_catalog_of_an_earlier_release_is_backed_up_restored_and_then_upgraded(
    revision: str,
    empty_url: str,
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    unpack(revision, f"sqlite:///{source}/registry.db", source)
    done = Registry.backup(tmp_path / "old.backup", source)
    assert done.schema_revision == revision
    restored = Registry.restore(tmp_path / "old.backup", tmp_path / "home", database_url=empty_url)
    assert (restored.schema_revision, restored.head) == (revision, HEAD)
    assert Registry.backup(tmp_path / "2", tmp_path / "home", database_url=empty_url).digest == done.digest
    if revision != HEAD:
        with pytest.raises(SchemaOutdated, match=revision):
            Registry.open(tmp_path / "home", database_url=empty_url)
    Registry.upgrade(tmp_path / "home", database_url=empty_url)
    with Registry.open(tmp_path / "home", database_url=empty_url) as catalog:
        assert all(each.ok for each in catalog.verify())


def test_a_backup_without_blobs_names_what_is_missing(
    kept: Registry, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.backup"
    done = Registry.backup(file, tmp_path / "home", database_url=database_url, with_blobs=False)
    assert done.blobs is False
    there, third_url = (f"sqlite:///{tmp_path}/{name}/registry.db" for name in ("there", "third"))
    restored = Registry.restore(file, tmp_path / "there", database_url=there)
    assert (restored.stored, restored.missing) == (0, done.counts["blobs"])
    third, stored = tmp_path / "third", str(tmp_path / "home" / "blobs")
    assert Registry.restore(file, third, database_url=third_url, blobs=stored).missing == 0
    with Registry.open(third, database_url=third_url, blobs=stored) as opened:
        assert told(opened) == told(kept)


def test_writers_and_a_collection_go_on_beside_a_backup(database_url: str, tmp_path: Path) -> None:
    """What is restored is one state of those that there were."""
    home = tmp_path / "home"
    made = [make_lora(tmp_path / f"a{seed}", seed=seed) for seed in range(6)]
    with Registry.open(home, database_url=database_url) as catalog:
        catalog.add(made[0], "a")
        ended = threading.Event()

        def write() -> None:
            with Registry.open(home, database_url=database_url) as other:
                for at in made[1:]:
                    other.add(at, "a")
                    other.gc(apply=True)
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        taken = 0
        while not ended.is_set() or not taken:
            Registry.backup(tmp_path / f"{taken}", home, database_url=database_url)
            taken += 1
        writer.join()
    for number in range(min(taken, 4)):
        there = f"sqlite:///{tmp_path}/there{number}/registry.db"
        Registry.restore(tmp_path / f"{number}", tmp_path / f"there{number}", database_url=there)
        with Registry.open(tmp_path / f"there{number}", database_url=there) as other:
            versions = other.log("a")
            assert [each.version for each in versions] == list(range(len(versions), 0, -1))
            assert len(other.events(limit=100)) >= len(versions)
            assert all(each.ok for each in other.verify())


def test_gc_does_not_take_what_a_backup_is_about_to_copy(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    local.delete("a")
    monkeypatch.setattr("registry.catalog.turns.LONGEST", 0.0)
    said: list[str] = []

    def collect(what: str, *_: int) -> None:
        if what.startswith("writing blobs"):
            with Registry.open(tmp_path / "home") as other, pytest.raises(RegistryError) as caught:
                other.gc(apply=True)
            said.append(caught.value.message)

    Registry.backup(tmp_path / "b", tmp_path / "home", progress=collect)
    assert said == ["somebody else is at the bytes: a backup or a collection of garbage"]
    monkeypatch.undo()
    with turn(local._database, TURN):
        pass  # and it is over with the backup


def test_a_file_that_is_there_is_replaced_only_on_request_and_by_a_whole_one(
    local: Registry, tmp_path: Path
) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    file = tmp_path / "b"
    first = Registry.backup(file, tmp_path / "home")
    with pytest.raises(Conflict, match="exists") as refused:
        Registry.backup(file, tmp_path / "home")
    assert "--force" in (refused.value.hint or "")
    before = file.read_bytes()
    (blob,) = [digest for digest, size in local._blobs.digests() if size > 1000]
    lost = local._blobs.path(blob)
    content = lost.read_bytes()
    lost.chmod(0o600)
    lost.write_bytes(content[:-1] + b"\0")
    with pytest.raises(IntegrityFailure, match=blob):
        Registry.backup(file, tmp_path / "home", replace=True)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    lost.write_bytes(content)
    assert Registry.backup(file, tmp_path / "home", replace=True).digest == first.digest


def test_where_there_is_no_catalog_nothing_is_backed_up_nor_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no catalog"):
        Registry.backup(tmp_path / "b", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_is_never_restored_over_another(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    Registry.backup(tmp_path / "b", tmp_path / "home")
    before = rows(f"sqlite:///{tmp_path}/home/registry.db")
    with pytest.raises(Conflict, match="holds a catalog already"):
        Registry.restore(tmp_path / "b", tmp_path / "home")
    assert rows(f"sqlite:///{tmp_path}/home/registry.db") == before


def test_a_catalog_that_is_empty_is_room_for_one(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    Registry.backup(tmp_path / "b", tmp_path / "home")
    with Registry.open(tmp_path / "there") as there:
        assert there.list().versions == ()
    Registry.restore(tmp_path / "b", tmp_path / "there")
    with Registry.open(tmp_path / "there") as there:
        assert told(there) == told(local)


def test_a_backup_from_a_bucket_takes_no_more_room_than_there_is(
    bucket: Bucket, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.verbs import backup

    cache = tmp_path / "home" / "cache"
    monkeypatch.setenv("REGISTRY_BLOBS", bucket.url)
    monkeypatch.setenv("REGISTRY_CACHE_SIZE", "1")
    monkeypatch.setattr(backup, "_MANY", 2)
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        for seed in range(5):
            catalog.add(make_lora(tmp_path / f"{seed}", seed=seed), f"a{seed}")
    shutil.rmtree(cache)
    most = []

    def look(what: str, _done: int, _total: int) -> None:
        if what == "copying blobs":
            most.append(sum(each.is_file() for each in (cache / "sha256").glob("*/*")))

    done = Registry.backup(tmp_path / "b", tmp_path / "home", database_url=sqlite_url, progress=look)
    assert len(most) == done.counts["blobs"] > 5
    assert max(most) <= 4, "two that are copied, and two that go"


def test_what_is_damaged_is_found_in_what_was_restored_as_well(
    kept: Registry, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    """No damage is sealed on the way."""
    with kept._database.write() as session:
        session.execute(text("UPDATE tags SET value = 'other'"))
        session.execute(text("UPDATE versions SET created_by = 'nobody' WHERE id = 1"))
    damaged = kept.verify_database().damage
    assert {each.table for each in damaged if not each.derived} == {"tags", "versions"}
    Registry.backup(tmp_path / "b", tmp_path / "home", database_url=database_url)
    Registry.restore(tmp_path / "b", tmp_path / "there", database_url=empty_url)
    with Registry.open(tmp_path / "there", database_url=empty_url) as there:
        assert there.verify_database().damage == damaged


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET detail = '{'",
        "UPDATE events SET detail = '{\"a\": ' || replace(hex(zeroblob(2500)), '0', '1') || '}'",
        "UPDATE events SET at = '2024-13-45'",
        "UPDATE versions SET created_by = 'a' || char(0)",
        "UPDATE versions SET number = 'one' WHERE id = 1",
        "UPDATE recipes SET canonical = '{}'",
        "UPDATE evaluations SET value = 'much'",
        "UPDATE blobs SET size = 'large'",
    ],
)
def test_what_could_not_be_restored_is_no_backup(change: str, local: Registry, tmp_path: Path) -> None:
    """And the good one of the night before stays."""
    local.add(make_lora(tmp_path / "a"), "a")
    local.compose("b", "0.5*a", device="cpu")
    local.add_evaluation("a", "acc", 0.5, dataset="d")
    Registry.backup(tmp_path / "b", tmp_path / "home")
    before = (tmp_path / "b").read_bytes()
    with closing(sqlite3.connect(tmp_path / "home" / "registry.db")) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(DatabaseDamaged) as caught:
        Registry.backup(tmp_path / "b", tmp_path / "home", replace=True)
    assert change.split()[1] in caught.value.message
    assert "\n" not in caught.value.message
    assert (tmp_path / "b").read_bytes() == before


# -- files that are damaged, or made to harm


@pytest.fixture
def file(local: Registry, tmp_path: Path) -> Path:
    local.add(make_lora(tmp_path / "a"), "a")
    local.compose("b", "0.5*a", device="cpu")
    Registry.backup(tmp_path / "good.backup", tmp_path / "home")
    return tmp_path / "good.backup"


def refused(file: Path, folder: Path) -> RegistryError:
    """Checking and restoring say the same in one line, and nothing is written."""
    with pytest.raises((IntegrityFailure, Refused)) as checked:
        Registry.check_backup(file)
    with pytest.raises((IntegrityFailure, Refused)) as restored:
        Registry.restore(file, folder / "there")
    assert restored.value.message == checked.value.message
    assert not (folder / "there").exists()
    return restored.value


def test_every_flipped_byte_is_found(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    bad = tmp_path / "bad"
    harmless = 0
    for at in range(0, len(whole), len(whole) // 150):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            Registry.check_backup(bad)
        except (IntegrityFailure, Refused):
            continue
        # Padding, and what a tar header says of owners and times, is nobody's; "taken" may be any time.
        harmless += 1
        block = whole[at - at % 512 : at - at % 512 + 512]
        assert whole[at] == 0 or block[257:262] == b"ustar", at
    assert harmless < 75


def test_every_truncated_file_is_found(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for size in (0, 1, 511, 512, 8000, len(whole) // 2, len(whole) - 10240, len(whole) - 9 * 1024 - 1):
        (tmp_path / "bad").write_bytes(whole[:size])
        refused(tmp_path / "bad", tmp_path)


def edited(source: Path, target: Path, change: Callable[[str, list[Any]], None]) -> Path:
    """A backup with its lines changed, and its digests right again."""
    from registry.verbs import _backup_file, _container

    with tarfile.open(source) as archive:
        read = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    said = json.loads(read.pop("backup.json"))
    with target.open("wb") as out:
        writer = _container.Writer(out, _backup_file.BACKUP)
        for name in said["tables"]:
            lines = [json.loads(line) for line in read[f"tables/{name}.jsonl"].splitlines()]
            change(name, lines)
            writer.table(name, (json.dumps(line).encode() + b"\n" for line in lines))
        for name, content in read.items():
            if name.startswith("blobs/"):
                (target.parent / "blob").write_bytes(content)
                writer.blob(f"sha256:{name.rpartition('/')[2]}", len(content), target.parent / "blob")
        said["tables"] = {name: each.model_dump() for name, each in writer.tables.items()}
        writer.finish(_backup_file.BackupManifest.model_validate_json(json.dumps(said)))
    return target


def put(table: str, column: str, value: Any) -> Callable[[str, list[Any]], None]:
    def change(name: str, lines: list[Any]) -> None:
        if name == table:
            lines[1][list(lines[0]).index(column)] = value

    return change


def columns(table: str, said: Any) -> Callable[[str, list[Any]], None]:
    def change(name: str, lines: list[Any]) -> None:
        if name == table:
            lines[0] = said

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("artifact_files", "path", "../../evil"), "artifact_files line 2 is not sound"),
        (put("artifact_files", "path", "/etc/passwd"), "artifact_files line 2 is not sound"),
        (put("adapters", "name", "a\x1b[2J"), "adapters line 2 is not sound"),
        (put("adapters", "id", "one"), "adapters line 2 is not sound"),
        (put("adapters", "id", 2**70), "adapters line 2 is not sound"),
        (put("versions", "created_at", "yesterday"), "versions line 2 is not sound"),
        (put("versions", "created_at", 7), "versions line 2 is not sound"),
        (put("versions", "note", "a\x00b"), "versions line 2 is not sound"),
        (put("recipes", "canonical", "{}"), "recipes line 2 is not sound"),
        (put("blobs", "digest", "sha256:../../../evil"), "tells of a blob that cannot be"),
        (put("blobs", "digest", "sha256:" + "0" * 64), "where blobs/"),
        (put("blobs", "size", 10**15), "bytes, not"),
        (lambda _, lines: lines.append([]), "values for"),
        (lambda _, lines: lines.append({}), "cannot be read"),
        (columns("tags", {"key": "code"}), "does not say what its columns are"),
        (columns("tags", []), "cannot be read"),
    ],
)  # fmt: skip
def test_a_row_that_no_catalog_holds_is_refused_by_name(
    change: Callable[[str, list[Any]], None], message: str, file: Path, tmp_path: Path
) -> None:
    error = refused(edited(file, tmp_path / "bad", change), tmp_path)
    assert message in error.message


@pytest.mark.parametrize(
    "change",
    [
        put("versions", "adapter_id", 99),
        put("adapters", "last_version", None),
        columns("tags", {"key": "text", "value": "text", "version_id": "text"}),
        columns("tags", {"key; DROP TABLE tags": "text"}),
    ],
)
def test_rows_that_the_database_does_not_take_leave_it_without_any(
    change: Callable[[str, list[Any]], None], file: Path, tmp_path: Path
) -> None:
    bad = edited(file, tmp_path / "bad", change)
    with pytest.raises(RegistryError):
        Registry.restore(bad, tmp_path / "there")
    with Registry.open(tmp_path / "there") as there:
        assert there.list(latest=False).versions == ()
        assert there.events() == ()
    assert Registry.restore(file, tmp_path / "there").missing == 0


def test_links_devices_and_other_files_are_no_backups(file: Path, tmp_path: Path, local: Registry) -> None:
    for name, kind in {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}.items():
        info = tarfile.TarInfo("backup.json")
        info.type, info.linkname = kind, "/etc/passwd"
        (tmp_path / name).write_bytes(info.tobuf() + bytes(20 * 512))
        refused(tmp_path / name, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", tmp_path)
    local.export(tmp_path / "bundle.tar")
    assert (
        "is no backup: it begins with 'manifest.json'" in refused(tmp_path / "bundle.tar", tmp_path).message
    )
    with (
        Registry.open(tmp_path / "other") as other,
        pytest.raises(Refused, match="is no bundle: it begins with"),
    ):
        other.import_bundle(file)
    with pytest.raises(NotFound):
        Registry.restore(tmp_path / "nothing", tmp_path / "there")


def test_a_file_that_declares_much_takes_no_memory(file: Path, tmp_path: Path) -> None:
    whole = bytearray(file.read_bytes())
    said = json.loads(bytes(whole[512 : 512 + 8192]))
    said["tables"]["adapters"]["size"] = 10 * 2**40
    content = json.dumps(said).encode()
    whole[512 : 512 + 8192] = content + b" " * (8192 - len(content))
    (tmp_path / "bad").write_bytes(whole)
    refused(tmp_path / "bad", tmp_path)


def test_a_backup_of_a_later_release_says_so(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    later = whole.replace(f'"schema": "{HEAD}"'.encode(), b'"schema": "9999"', 1)
    (tmp_path / "later").write_bytes(later)
    with pytest.raises(SchemaOutdated, match="9999") as caught:
        Registry.restore(tmp_path / "later", tmp_path / "there")
    assert caught.value.hint == "upgrade adapter-registry"
    (tmp_path / "format").write_bytes(whole.replace(b'"format": 1', b'"format": 9', 1))
    assert refused(tmp_path / "format", tmp_path).hint == "upgrade adapter-registry"
