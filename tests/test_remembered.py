from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import _remembered, _shards
from registry._remembered import Remembered, stamp
from registry._shards import hash_files, read_chunks

DIGEST = f"sha256:{'0' * 64}"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere there is no time of change")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as unchanged for long enough at once."""
    monkeypatch.setattr(_remembered, "SETTLED_NS", 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"some weights")
    time.sleep(0.02)
    return path


@pytest.fixture
def memory(file: Path, tmp_path: Path) -> Path:
    """Where the file's digest is remembered; not the right one, so that a reading would show."""
    path = tmp_path / "memory.json"
    Remembered(path).keep({file: (stamp(file.stat()), time.time_ns(), DIGEST)})
    return path


def test_a_file_that_has_not_changed_is_not_read_again(file: Path, memory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    assert hash_files([file], remembered=Remembered(memory)) == {file: DIGEST}
    assert Remembered(memory).find(tmp_path / "link") == DIGEST
    assert hash_files([file])[file] != DIGEST


def test_a_change_that_keeps_size_and_time_is_seen(file: Path, memory: Path) -> None:
    before = file.stat()
    file.write_bytes(b"same weights")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert Remembered(memory).find(file) is None


def test_another_file_in_its_place_is_seen(file: Path, memory: Path, tmp_path: Path) -> None:
    before = file.stat()
    (tmp_path / "new").write_bytes(b"same weights")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").rename(file)
    assert Remembered(memory).find(file) is None
    file.unlink()
    assert Remembered(memory).find(file) is None


def test_a_file_that_was_just_changed_is_not_remembered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed again within a tick of the file system's clock, it would look the same."""
    monkeypatch.setattr(_remembered, "SETTLED_NS", 10**12)
    hash_files([file], remembered=Remembered(tmp_path / "memory.json"))
    assert not (tmp_path / "memory.json").exists()


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(path: Path) -> Iterator[memoryview]:
        os.utime(path)
        return read_chunks(path)

    monkeypatch.setattr(_shards, "read_chunks", changing)
    hash_files([file], remembered=Remembered(tmp_path / "memory.json"))
    assert Remembered(tmp_path / "memory.json").find(file) is None


def test_a_reading_is_remembered_beside_others(file: Path, memory: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other weights")
    time.sleep(0.02)
    digests = hash_files([file, tmp_path / "other"], remembered=Remembered(memory))
    assert digests[tmp_path / "other"] == hash_files([tmp_path / "other"])[tmp_path / "other"]
    again = Remembered(memory)
    assert {path: again.find(path) for path in digests} == digests
    assert {path.name for path in tmp_path.iterdir()} == {"weights", "other", "memory.json"}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"format": 2, "files": {}}', '{"format": 1, "files": []}', "[" * 100_000]
)
def test_a_memory_that_cannot_be_read_is_none(file: Path, memory: Path, content: str) -> None:
    memory.write_text(content)
    assert Remembered(memory).find(file) is None
    digests = hash_files([file], remembered=Remembered(memory))
    assert Remembered(memory).find(file) == digests[file]


@pytest.mark.parametrize("entry", [None, [], [DIGEST], [1, 2, 3, 4, 5, DIGEST], ["a", "b"], {"a": 1}])
def test_a_malformed_entry_is_none(file: Path, memory: Path, entry: object) -> None:
    memory.write_text(json.dumps({"format": 1, "files": {str(file): entry}}))
    assert Remembered(memory).find(file) is None


def test_something_else_than_a_digest_is_none(file: Path, memory: Path) -> None:
    memory.write_text(json.dumps({"format": 1, "files": {str(file): [*stamp(file.stat()), "sha256:x"]}}))
    assert Remembered(memory).find(file) is None


def test_a_folder_that_is_not_there_is_not_made(file: Path, tmp_path: Path) -> None:
    hash_files([file], remembered=Remembered(tmp_path / "no" / "memory.json"))
    assert not (tmp_path / "no").exists()


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remembered, "MOST_FILES", 2)
    files = [tmp_path / str(number) for number in range(3)]
    for each in files:
        each.write_text(each.name)
        time.sleep(0.02)
        hash_files([each], remembered=Remembered(tmp_path / "memory.json"))
    found = Remembered(tmp_path / "memory.json")
    assert [found.find(each) is None for each in files] == [True, False, False]
