"""Plans: the hashes of files, tokens in them, and what a push would change."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from registry.errors import Refused, StorageFailure
from registry.hub import Delete, Head, Put, RemoteFile
from registry.publishers import Plan, planned
from registry.publishers.hub import Consent, Found, Place, changes

TOKEN = b"hf_" + b"A1b2C3" * 6


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 3])
def test_a_file_has_the_hashes_of_its_bytes(size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    file = planned("a.bin", path)
    assert (file.size, file.sha256) == (size, "sha256:" + hashlib.sha256(content).hexdigest())
    assert file.git_oid == hashlib.sha1(b"blob %d\0" % size + content).hexdigest()  # noqa: S324 - git's own
    same = planned("a.bin", content)
    assert (same.size, same.sha256, same.git_oid) == (file.size, file.sha256, file.git_oid)


@pytest.mark.parametrize("before", [0, 10, (1 << 20) - 10, (1 << 20) - 1])
def test_a_token_is_found_wherever_it_stands(before: int, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b" " * before + TOKEN + b" " * 10)
    with pytest.raises(Refused, match=r"^tokenizer.json holds a Hub token") as refusal:
        planned("tokenizer.json", path)
    assert TOKEN.decode() not in refusal.value.message


@pytest.mark.parametrize(
    "token", [b"hf_oauth_eyJhbGciOiJFZERTQSJ9.e30.x", rb"hf\_jwt\_eyJhbGciOiJSUzI1NiJ9.e30"]
)
def test_a_token_of_a_login_is_one(token: bytes) -> None:
    with pytest.raises(Refused, match="holds a Hub token"):
        planned("README.md", b"by " + token)


def test_of_tensors_only_the_header_is_searched() -> None:
    header = b'{"__metadata__":{"by":"%s"}}'
    clean = header % b"me"
    planned("a.safetensors", len(clean).to_bytes(8, "little") + clean + TOKEN)
    bad = header % TOKEN
    with pytest.raises(Refused):
        planned("a.safetensors", len(bad).to_bytes(8, "little") + bad)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure):
        planned("a", tmp_path / "a")


def test_a_known_digest_spares_the_tensors_but_not_the_search_for_tokens(tmp_path: Path) -> None:
    header = b'{"__metadata__":{"by":"me"}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3 << 20))
    known = "sha256:" + "1" * 64
    file = planned("a.safetensors", path, sha256=known)
    assert (file.size, file.sha256) == (path.stat().st_size, known)
    assert file.git_oid == planned("a.safetensors", path.read_bytes()).git_oid
    notes = tmp_path / "notes.txt"
    notes.write_bytes(b" " * (2 << 20) + TOKEN)
    with pytest.raises(Refused):
        planned("notes.txt", notes, sha256=known)


WHERE = Place("team/x")
NOBODY = Consent(known=False, private=True, adopt=False)


def test_only_what_differs_is_sent_and_only_what_was_ours_removed() -> None:
    small, large, new = planned("small.json", b"{}"), planned("large.bin", b"weights"), planned("new", b"n")
    gone, edited, kept = planned("gone.bin", b"1"), planned("edited.bin", b"2"), planned("kept.txt", b"3")
    remote = {
        "small.json": RemoteFile(2, None, small.git_oid),
        "large.bin": RemoteFile(7, large.sha256, "0" * 40),
        "gone.bin": RemoteFile(1, gone.sha256, "0" * 40),
        "edited.bin": RemoteFile(1, "sha256:" + "f" * 64, "0" * 40),
        "kept.txt": RemoteFile(1, None, kept.git_oid),
        "theirs.bin": RemoteFile(1, "sha256:" + "e" * 64, "0" * 40),
    }
    last = {each.path: each.sha256 for each in (gone, edited)} | {"never.bin": gone.sha256}
    head = Head("c" * 40, private=True)
    found = Found(head, branch=True, files=remote, made=None)
    wanted = Plan({each.path: each for each in (small, large, new)})
    put = Put("new", b"n", new.sha256)
    assert changes(WHERE, wanted, found, replace(NOBODY, last=last)) == [put, Delete("gone.bin")]
    other = {**remote, "large.bin": RemoteFile(7, "sha256:" + "a" * 64, "0" * 40)}
    found = replace(found, files=other)
    assert Put("large.bin", b"weights", large.sha256) in changes(WHERE, wanted, found, NOBODY)


@pytest.mark.parametrize("whole", [True, False], ids=["agrees", "disagrees"])
def test_a_provenance_that_its_files_do_not_agree_with_removes_nothing(whole: bool) -> None:
    gone, edited = planned("gone.bin", b"1"), planned("edited.bin", b"2")
    now = edited.sha256 if whole else "sha256:" + "f" * 64
    remote = {"gone.bin": RemoteFile(1, gone.sha256, "0" * 40), "edited.bin": RemoteFile(1, now, "0" * 40)}
    made = {each.path: each.sha256 for each in (gone, edited)}
    found = Found(Head("c" * 40, private=True), branch=True, files=remote, made=made)
    expected = [Delete("edited.bin"), Delete("gone.bin")] if whole else []
    assert changes(WHERE, Plan({}), found, NOBODY) == expected
