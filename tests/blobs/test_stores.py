"""What holds for every blob store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from registry import blobs
from registry.blobs import BlobStore
from registry.digest import of_bytes
from registry.errors import IntegrityFailure, UsageError
from tests.blobs.places import AN_HOUR, NO_TIME, ROOT, Place, put, staging

ABSENT = of_bytes(b"absent")
LARGE = os.urandom(3 << 20)


@pytest.fixture(params=blobs.family.names())
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Every store of the family; a new one has to say here where a test may put it."""
    fixture = {"local": None, "s3": "bucket"}[request.param]
    return Place(tmp_path / "place", request.getfixturevalue(fixture) if fixture else None)


@pytest.fixture
def store(place: Place) -> BlobStore:
    return place.open()


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
def test_what_was_put_is_there_byte_for_byte(place: Place, store: BlobStore, size: int) -> None:
    data = os.urandom(size)
    digest = put(store, data)
    for user in (store, place.open()):
        assert user.has(digest)
        assert user.path(digest).read_bytes() == data


def test_putting_the_same_again_is_a_success(store: BlobStore) -> None:
    assert put(store, b"x") == put(store, b"x")
    assert list(store.digests()) == [(of_bytes(b"x"), 1)]


@pytest.mark.parametrize("data", [b"0123456789", LARGE])
def test_a_blob_is_intact_until_it_changes(place: Place, store: BlobStore, data: bytes) -> None:
    digest = put(store, data)
    assert not store.intact(ABSENT)
    for _ in range(2):
        assert store.intact(digest)
    place.damage(store, digest, data)
    assert store.intact(digest)
    place.damage(store, digest, data[:-1] + bytes([data[-1] ^ 1]))
    assert not store.intact(digest)
    put(store, data)
    assert store.intact(digest)
    store.delete(digest)
    assert not store.intact(digest)


def test_a_missing_blob_is_an_integrity_failure_that_names_it(store: BlobStore) -> None:
    assert not store.has(ABSENT)
    with pytest.raises(IntegrityFailure, match=ABSENT):
        store.path(ABSENT)


def test_every_blob_is_listed_once_with_its_size(store: BlobStore) -> None:
    written = {put(store, bytes([number]) * number): number for number in range(40)}
    assert dict(store.digests()) == written
    assert len(list(store.digests())) == 40


def test_a_deleted_blob_is_gone_and_deleting_it_again_is_a_success(store: BlobStore) -> None:
    digest = put(store, b"x")
    store.delete(digest)
    store.delete(digest)
    store.delete(ABSENT)
    assert not store.has(digest)
    assert list(store.digests()) == []
    with pytest.raises(IntegrityFailure):
        store.path(digest)
    put(store, b"x")
    assert store.has(digest)


def test_a_stage_is_empty_private_and_gone_afterwards_whatever_happens(store: BlobStore) -> None:
    with store.stage() as one, store.stage() as other:
        assert one != other
        assert list(one.iterdir()) == []
        (one / "deep").mkdir()
        (one / "deep" / "file").write_text("left")
    assert not one.exists()
    with pytest.raises(ZeroDivisionError), store.stage() as third:
        raise ZeroDivisionError
    assert not third.exists()


def test_just_used_means_just_put_even_when_it_was_there_before(place: Place, store: BlobStore) -> None:
    digest = put(store, b"x")
    assert not store.unused_for(digest, AN_HOUR)
    for _ in range(2):
        place.age()
        assert store.unused_for(digest, AN_HOUR)
        put(place.open(), b"x")
        assert not store.unused_for(digest, AN_HOUR)
    assert store.unused_for(ABSENT, AN_HOUR)


def test_a_staged_file_that_is_old_is_a_fresh_blob_once_put(place: Place, store: BlobStore) -> None:
    with store.stage() as folder:
        (folder / "file").write_bytes(b"old")
        place.age()
        store.put(folder / "file", of_bytes(b"old"))
    assert not store.unused_for(of_bytes(b"old"), AN_HOUR)


def test_staged_work_is_no_leftover_while_its_process_lives_however_long_it_takes(
    place: Place, store: BlobStore
) -> None:
    """Its files may wait elsewhere for so long that the folder looks forgotten."""
    with staging(place.url, place.folder / "cache") as folder:
        place.age()
        assert store.leftovers(AN_HOUR) == store.leftovers(NO_TIME) == []
    (left,) = store.leftovers(AN_HOUR)
    assert folder.is_relative_to(left)
    with store.stage() as own:
        place.age()
        assert store.leftovers(AN_HOUR) == [left]
        store.discard(left)
        store.discard(left)
        assert store.leftovers(NO_TIME) == []
        assert own.exists()
    assert not folder.exists()


def test_what_a_dead_process_staged_is_a_leftover_once_nothing_in_it_was_touched_for_a_while(
    place: Place,
) -> None:
    with staging(place.url, place.folder / "cache") as folder:
        pass
    store = place.open()
    assert store.leftovers(AN_HOUR) == []
    assert len(store.leftovers(NO_TIME)) == 1
    place.age()
    assert store.leftovers(AN_HOUR) == store.leftovers(NO_TIME)
    (folder / "deep" / "file").write_text("y")
    assert store.leftovers(AN_HOUR) == []


@pytest.mark.parametrize("whole", [b"whole", LARGE])
def test_a_damaged_blob_is_replaced_by_putting_it_again(place: Place, store: BlobStore, whole: bytes) -> None:
    digest = put(store, whole)
    for damaged in (whole[:-1] + b"\0", b"", whole + b" and more"):
        place.damage(store, digest, damaged)
        assert put(store, whole) == digest
        assert store.path(digest).read_bytes() == whole
        store.forget(digest)
        assert store.path(digest).read_bytes() == whole
    assert list(store.digests()) == [(digest, len(whole))]


def test_a_store_is_found_again_with_everything_in_it(place: Place, store: BlobStore) -> None:
    digest = put(store, b"kept")
    assert place.open().path(digest).read_bytes() == b"kept"


PUTTING = """
import sys
from pathlib import Path
from registry import blobs
from tests.blobs.places import put
store = blobs.open_store(sys.argv[1], blobs.Room(Path(sys.argv[2]), 1 << 30))
print("ready", flush=True)
sys.stdin.readline()
for data in (b"small", bytes(range(256)) * 40_000):
    digest = put(store, data)
    assert store.path(digest).read_bytes() == data
    assert store.intact(digest)
"""


def test_any_number_put_and_read_the_same_blob_at_once(place: Place, store: BlobStore) -> None:
    """Each process with a folder of its own, as on machines of their own; this one in three threads."""
    names = [str(place.folder / f"machine{turn}") for turn in range(3)]
    with _processes(PUTTING, [[place.url, name] for name in names]) as others:
        for other in others:
            other.stdin.write("go\n")
            other.stdin.flush()
        threads = [threading.Thread(target=put, args=(store, b"small")) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [other.returncode for other in others] == [0, 0, 0]
    assert sorted(size for _, size in store.digests()) == [5, 256 * 40_000]
    assert all(store.intact(digest) for digest, _ in store.digests())
    assert store.leftovers(NO_TIME) == []


class _processes:  # noqa: N801 (used as a function)
    """The same program several times, each of them at its start."""

    def __init__(self, program: str, words: list[list[str]]) -> None:
        self._others: list[Any] = [
            subprocess.Popen(
                [sys.executable, "-c", program, *each],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in words
        ]

    def __enter__(self) -> list[Any]:
        for other in self._others:
            assert other.stdout.readline() == "ready\n"
        return self._others

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            with other:
                other.stdin.close()
                other.wait()


@pytest.mark.parametrize("url", ["gs://bucket/x", "nosuch://x", "://x", "_local://x", "_cache://x"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        blobs.open_store(url)
    assert "local, s3" in str(caught.value.hint)
