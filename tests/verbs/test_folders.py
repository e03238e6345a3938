"""Output folders: on the disk before they have their name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.verbs._folders import new_folder


def test_everything_in_a_new_folder_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        kept.append((os.fstat(descriptor).st_ino, (tmp_path / "out").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with new_folder(tmp_path / "out") as staging:
        (staging / "deep").mkdir()
        (staging / "deep" / "file").write_text("x")
        (staging / "file").write_text("y")
    out = tmp_path / "out"
    before = {path.stat().st_ino for path in (out, out / "deep", out / "deep" / "file", out / "file")}
    assert before == {inode for inode, named in kept if not named}
    assert [inode for inode, named in kept if named] == [tmp_path.stat().st_ino]
