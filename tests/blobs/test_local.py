"""How the local store treats its folder."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry import blobs
from registry.blobs import BlobStore
from registry.digest import of_bytes
from registry.errors import StorageFailure
from tests.blobs.places import AN_HOUR, NO_TIME, put


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return blobs.open_store(str(tmp_path / "blobs"))


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
        "import sys\nfrom registry import blobs\nfrom tests.blobs.places import put\n"
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


def test_ctrl_c_while_a_stage_is_removed_leaves_nothing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink
    calls: list[Any] = []

    def unlink(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    stage = store.stage()
    folder = stage.__enter__()
    for name in "abc":
        (folder / name).write_text(name)
    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        stage.__exit__(None, None, None)
    assert len(calls) > 3
    assert store.leftovers(NO_TIME) == []
