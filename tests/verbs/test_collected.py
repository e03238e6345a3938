"""What is deleted and collected while somebody reads or stores it: he looks again, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from registry import Registry
from registry.blobs.local import LocalBlobStore
from registry.errors import IntegrityFailure, NotFound
from registry.verbs.gc import gc
from tests.adapters import make_lora
from tests.models import tiny_llama
from tests.verbs.places import blob

Q = "model.layers.0.self_attn.q_proj"
Meanwhile = Callable[[str, Callable[[], object]], list[str]]


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("abc"):
        catalog.add(make_lora(tmp_path / name, modules={Q: (32, 32)}, seed=seed), name)
    return catalog


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let something happen once, when the store is next asked to do this; the list has it when it did."""

    def let(method: str, happen: Callable[[], object]) -> list[str]:
        real, done = getattr(LocalBlobStore, method), list[str]()

        def asked(self: LocalBlobStore, *arguments: object) -> object:
            if not done:
                done.append(method)
                happen()
            return real(self, *arguments)

        monkeypatch.setattr(LocalBlobStore, method, asked)
        return done

    return let


@pytest.fixture
def sweeper(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "home", database_url=database_url, actor="sweeper") as other:
        yield other


def sweep(catalog: Registry) -> None:
    """A collection without grace, which only a program can ask for."""
    gc(catalog._database, catalog._blobs, apply=True, actor="sweeper", grace=timedelta(0))


def remove(catalog: Registry, name: str) -> None:
    catalog.delete(name)
    assert catalog.gc(apply=True).blobs


def test_a_version_that_goes_while_it_is_checked_out_is_not_found(
    shelf: Registry, sweeper: Registry, meanwhile: Meanwhile, tmp_path: Path
) -> None:
    done = meanwhile("path", lambda: remove(sweeper, "c"))
    with pytest.raises(NotFound, match="no live version"):
        shelf.checkout("c", tmp_path / "out")
    assert done
    assert not (tmp_path / "out").exists()


def test_a_version_that_goes_while_everything_is_verified_is_not_told_as_damaged(
    shelf: Registry, sweeper: Registry, meanwhile: Meanwhile
) -> None:
    done = meanwhile("recheck", lambda: remove(sweeper, "c"))
    assert [(each.ref, each.ok) for each in shelf.verify()] == [("a@1", True), ("b@1", True)]
    assert done
    again = meanwhile("recheck", lambda: remove(sweeper, "b"))
    with pytest.raises(NotFound, match="b@1 was deleted"):
        shelf.verify(["b@1"])
    assert again


def test_a_version_that_goes_while_the_catalog_is_exported_is_a_tombstone_in_the_bundle(
    shelf: Registry, sweeper: Registry, meanwhile: Meanwhile, tmp_path: Path
) -> None:
    done = meanwhile("path", lambda: remove(sweeper, "c"))
    shelf.export(tmp_path / "bundle.tar")
    assert done
    with Registry.open(tmp_path / "other", database_url=f"sqlite:///{tmp_path}/other.db") as other:
        told = other.import_bundle(tmp_path / "bundle.tar")
        assert (told.complete, told.missing) == (True, 0)
        assert other.show("c@1").deleted_at is not None
        assert [each.ok for each in other.verify()] == [True, True]


def test_what_is_really_lost_is_told(shelf: Registry, tmp_path: Path) -> None:
    lost = blob(shelf, "c")
    lost.unlink()
    for work in (lambda: shelf.checkout("c", tmp_path / "out"), lambda: shelf.export(tmp_path / "bundle")):
        with pytest.raises(IntegrityFailure, match="is missing from"):
            work()
    assert [each.ok for each in shelf.verify()] == [True, True, False]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in {"out", "bundle"}) == []


def test_what_a_collection_takes_from_an_import_before_it_is_recorded_is_stored_again(
    shelf: Registry, sweeper: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry.open(tmp_path / "other", database_url=f"sqlite:///{tmp_path}/other.db") as other:
        other.add(make_lora(tmp_path / "d", modules={Q: (32, 32)}, seed=9), "d")
        other.export(tmp_path / "bundle.tar")
    stored, swept = LocalBlobStore.put_many, list[str]()

    def put_many(self: LocalBlobStore, files: dict[str, Path]) -> None:
        stored(self, files)
        if not swept:
            swept.extend(files)
            sweep(sweeper)

    monkeypatch.setattr(LocalBlobStore, "put_many", put_many)
    told = shelf.import_bundle(tmp_path / "bundle.tar")
    assert swept
    assert told.missing == 0
    assert [each.ok for each in shelf.verify()] == [True] * 4


def test_what_a_collection_takes_of_many_before_they_are_recorded_is_read_and_stored_again(
    shelf: Registry, sweeper: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        make_lora(tmp_path / "many" / f"m{seed}", modules={Q: (32, 32)}, seed=20 + seed)
    stored, swept = LocalBlobStore.put_many, list[str]()

    def put_many(self: LocalBlobStore, files: dict[str, Path]) -> None:
        stored(self, files)
        if not swept:
            swept.extend(files)
            sweep(sweeper)

    monkeypatch.setattr(LocalBlobStore, "put_many", put_many)
    told = shelf.add_all(tmp_path / "many")
    assert swept
    assert (told.added, told.present, told.refused) == (4, 0, 0)
    assert [each.ok for each in shelf.verify()] == [True] * 7


def test_what_a_collection_takes_from_a_model_before_it_is_recorded_is_merged_again(
    shelf: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = LocalBlobStore.has, list[str]()

    def has(self: LocalBlobStore, digest: str) -> bool:
        if not taken:  # just stored, about to be recorded
            taken.append(digest)
            self.delete(digest)
        return real(self, digest)

    base = tiny_llama(tmp_path / "base")
    monkeypatch.setattr(LocalBlobStore, "has", has)
    assert not shelf.materialize("a", into="model", base_path=base, device="cpu").cached
    assert taken
    assert shelf.materialize("a", into="model", base_path=base, device="cpu").cached
    assert [each.ok for each in shelf.verify()] == [True] * 3
