"""What a killed process left beside an output folder goes when somebody writes that folder again."""

from __future__ import annotations

import os
import time
from pathlib import Path

from registry.verbs._folders import new_folder


def test_an_abandoned_partial_folder_is_swept_and_a_young_one_stays(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".out.a.partial", ".out.b.partial", ".other.c.partial"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "part").write_text("x")
    for path in (old / "part", old, other / "part", other):
        os.utime(path, (time.time() - 7200,) * 2)
    with new_folder(tmp_path / "out") as staging:
        (staging / "whole").write_text("y")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.c.partial", ".out.b.partial", "out"]
