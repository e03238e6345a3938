"""What a killed process left beside an output goes when somebody writes there; what is being written stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry import _partial
from registry.verbs._container import new_file
from registry.verbs._folders import new_folder

WRITER = """
import sys
from pathlib import Path
from registry.verbs._container import new_file
from registry.verbs._folders import new_folder
with new_folder(Path(sys.argv[1]) / "one") as staging, new_file(Path(sys.argv[1]) / "two") as file:
    (staging / "part").write_text("x")
    file.write(b"x")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "living"])
def test_what_a_dead_writer_left_is_swept_at_once_and_a_living_ones_stays(
    killed: bool, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        parts = sorted(tmp_path.iterdir())
        assert len(parts) == 2
        assert all(path.name.endswith(_partial.SUFFIX) for path in parts)
        if killed:
            writer.kill()
            writer.wait()
        with new_folder(tmp_path / "other") as staging:
            (staging / "whole").write_text("y")
        left = [] if killed else parts
        assert sorted(tmp_path.iterdir()) == sorted([*left, tmp_path / "other"])
        writer.communicate()
    if not killed:
        assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "other"}


def test_a_new_file_sweeps_too_and_nothing_that_is_not_ours_is_touched(tmp_path: Path) -> None:
    others = [tmp_path / ".rsync.partial", tmp_path / ".hidden", tmp_path / f"shown{_partial.SUFFIX}"]
    for folder in (*others, tmp_path / f".out.x{_partial.SUFFIX}"):
        folder.mkdir()
    (tmp_path / f".link.y{_partial.SUFFIX}").symlink_to(others[0])
    with new_file(tmp_path / "out") as file:
        file.write(b"y")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {*(path.name for path in others), f".link.y{_partial.SUFFIX}", "out"}


def test_without_locks_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_: int, __: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    old, young = (tmp_path / f".out.{name}{_partial.SUFFIX}" for name in ("a", "b"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "part").write_text("x")
    for path in (old / "part", old):
        os.utime(path, (time.time() - 7200,) * 2)
    with new_folder(tmp_path / "out") as staging:
        (staging / "whole").write_text("y")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "out"]


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    name = "ä" * 127
    with new_folder(tmp_path / name) as staging:
        (staging / "whole").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == [name]
