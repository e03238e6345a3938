"""What holds for every blob store, and how the local one treats its folder."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import blobs
from registry.blobs import BlobStore
from registry.digest import of_bytes
from registry.errors import IntegrityFailure, StorageFailure, UsageError

NO_TIME, AN_HOUR = timedelta(0), timedelta(hours=1)
ABSENT = of_bytes(b"absent")
URLS: dict[str, Callable[[Path], str]] = {"local": str}


@pytest.fixture(params=blobs.family.names())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Every store of the family; a new one has to say here where a test may put it."""
    return blobs.open_store(URLS[request.param](tmp_path / "blobs"))


def put(store: BlobStore, data: bytes) -> str:
    digest = of_bytes(data)
    with store.stage() as folder:
        (folder / "file").write_bytes(data)
        store.put(folder / "file", digest)
    return digest


def test_what_was_put_is_there_byte_for_byte(store: BlobStore) -> None:
    for data in (b"", b"x", os.urandom(100_000)):
        digest = put(store, data)
        assert store.has(digest)
        assert store.path(digest).read_bytes() == data


def test_putting_the_same_again_is_a_success(store: BlobStore) -> None:
    assert put(store, b"x") == put(store, b"x")
    assert list(store.digests()) == [(of_bytes(b"x"), 1)]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_blob_is_intact_until_it_changes(store: BlobStore, size: int) -> None:
    data = os.urandom(size)
    digest = put(store, data)
    assert not store.intact(ABSENT)
    for _ in range(2):
        assert store.intact(digest)
    path = store.path(digest)
    path.chmod(0o600)
    assert store.intact(digest)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not store.intact(digest)
    put(store, data)
    assert store.intact(digest)
    store.delete(digest)
    assert not store.intact(digest)


def test_a_blob_that_did_not_change_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = blobs.open_store(str(tmp_path / "blobs"))
    digest = put(store, os.urandom(3 << 20))

    def read(*_: Any) -> None:
        pytest.fail("it was read")

    monkeypatch.setattr("hashlib.file_digest", read)
    assert store.intact(digest)
    other = blobs.open_store(str(tmp_path / "blobs"))
    assert other.intact(digest)
    next((tmp_path / "blobs" / "seen").glob("*/*")).write_text("nonsense")
    with pytest.raises(pytest.fail.Exception):
        other.intact(digest)


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


def test_just_used_means_just_put_even_when_it_was_there_before(store: BlobStore) -> None:
    digest = put(store, b"x")
    age(store.path(digest), hours=2)
    assert store.unused_for(digest, AN_HOUR)
    put(store, b"x")
    assert not store.unused_for(digest, AN_HOUR)
    assert store.unused_for(ABSENT, AN_HOUR)


def test_a_staged_file_that_is_old_is_a_fresh_blob_once_put(store: BlobStore) -> None:
    with store.stage() as folder:
        (folder / "file").write_bytes(b"old")
        age(folder / "file", hours=2)
        store.put(folder / "file", of_bytes(b"old"))
    assert not store.unused_for(of_bytes(b"old"), AN_HOUR)


STAGING = """
import os, sys
from pathlib import Path
from registry import blobs
with blobs.open_store(sys.argv[1]).stage() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
    os._exit(1)
"""


@contextmanager
def staging(url: str) -> Iterator[Path]:
    """The folder that another process stages in, which lives through the block and then dies."""
    other: Any = subprocess.Popen(
        [sys.executable, "-c", STAGING, url],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        yield Path(other.stdout.readline().strip())
        other.kill()


def age_all(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        age(path, hours=2)


def test_staged_work_is_no_leftover_while_its_process_lives_however_long_it_takes(tmp_path: Path) -> None:
    """Its files may wait elsewhere for so long that the folder looks forgotten."""
    for name, url in URLS.items():
        store = blobs.open_store(url(tmp_path / name))
        with staging(url(tmp_path / name)) as folder:
            age_all(tmp_path / name)
            assert store.leftovers(AN_HOUR) == store.leftovers(NO_TIME) == []
        (left,) = store.leftovers(AN_HOUR)
        assert folder.is_relative_to(left)
        with store.stage() as own:
            age_all(tmp_path / name)
            assert store.leftovers(AN_HOUR) == [left]
        assert not own.exists()


def test_what_a_dead_process_staged_is_a_leftover_once_nothing_in_it_was_touched_for_a_while(
    tmp_path: Path,
) -> None:
    for name, url in URLS.items():
        with staging(url(tmp_path / name)) as folder:
            pass
        store = blobs.open_store(url(tmp_path / name))
        assert store.leftovers(AN_HOUR) == []
        assert len(store.leftovers(NO_TIME)) == 1
        age_all(tmp_path / name)
        assert store.leftovers(AN_HOUR) == store.leftovers(NO_TIME)
        (folder / "deep" / "file").write_text("y")
        assert store.leftovers(AN_HOUR) == []


def test_a_damaged_blob_is_replaced_by_putting_it_again(store: BlobStore) -> None:
    digest = put(store, b"whole")
    path = store.path(digest)
    for damaged in (b"whose", b"", b"whole and more"):
        path.chmod(0o600)
        path.write_bytes(damaged)
        assert put(store, b"whole") == digest
        assert store.path(digest).read_bytes() == b"whole"
    assert list(store.digests()) == [(digest, 5)]


def test_a_blob_and_the_folders_that_lead_to_it_are_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk was asked to keep, in that order: the bytes before their name."""
    kept: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        kept.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = blobs.open_store(str(tmp_path / "blobs"))
    assert {(tmp_path / "blobs").stat().st_ino, tmp_path.stat().st_ino} <= set(kept)
    path = store.path(put(store, b"x"))
    order = [kept.index(place.stat().st_ino) for place in (path, path.parent, path.parent.parent)]
    assert order == sorted(order)


def test_a_store_is_found_again_with_everything_in_it(tmp_path: Path) -> None:
    for name, url in URLS.items():
        digest = put(blobs.open_store(url(tmp_path / name)), b"kept")
        assert blobs.open_store(url(tmp_path / name)).path(digest).read_bytes() == b"kept"


def test_a_full_disk_is_one_line_and_leaves_no_blob(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFailure, match="No space left") as caught:
            put(store, b"x")
    assert "disk space" in str(caught.value.hint)
    assert not store.has(of_bytes(b"x"))
    assert store.leftovers(NO_TIME) == []


@pytest.mark.parametrize("url", ["s3://bucket/x", "nosuch://x", "://x", "_local://x"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        blobs.open_store(url)
    assert "local" in str(caught.value.hint)


def test_a_path_and_its_file_url_are_the_same_store(tmp_path: Path) -> None:
    digest = put(blobs.open_store(str(tmp_path / "here")), b"x")
    assert blobs.open_store(f"file://{tmp_path}/here").has(digest)


def test_local_blobs_are_read_only_and_their_folders_private(tmp_path: Path) -> None:
    store = blobs.open_store(str(tmp_path / "deep" / "blobs"))
    path = store.path(put(store, b"x"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert {stat.S_IMODE(folder.stat().st_mode) & 0o077 for folder in path.parents[:3]} <= {0, 0o055}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_local_store_where_no_folder_can_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailure, match="cannot write"):
        blobs.open_store(str(tmp_path / "file" / "blobs"))


def test_foreign_files_beside_the_blobs_are_left_alone(tmp_path: Path) -> None:
    store = blobs.open_store(str(tmp_path))
    digest = put(store, b"x")
    (tmp_path / "sha256" / ".DS_Store").write_text("a desktop was here")
    (tmp_path / "staging" / "note.txt").write_text("somebody's")
    (store.path(digest).parent / "README").write_text("not a blob")
    assert list(store.digests()) == [(digest, 1)]
    assert store.leftovers(AN_HOUR) == []


def test_blobs_come_and_go_under_a_listing_without_breaking_it(tmp_path: Path) -> None:
    store = blobs.open_store(str(tmp_path))
    program = (
        "import sys\nfrom registry import blobs\nfrom tests.blobs.test_local import put\n"
        "store = blobs.open_store(sys.argv[1])\nprint('go', flush=True)\n"
        "for n in range(300): store.delete(put(store, bytes([n % 256])))\n"
    )
    root = Path(__file__).parents[2]
    other: Any = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "go\n"
        while other.poll() is None:
            assert all(size == 1 for _, size in store.digests())
            store.leftovers(NO_TIME)
            put(store, b"\0")
    assert other.returncode == 0


def age(path: Path, *, hours: int) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
