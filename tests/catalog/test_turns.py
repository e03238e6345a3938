"""Turns: one at a time, whoever waits, and nothing left behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry import Registry
from registry.catalog import turns
from registry.catalog.database import Contended
from registry.errors import StorageFailure


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "home").glob("*turn*"))


def test_one_at_a_time_and_everybody_in_the_end(catalog: Registry, tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait(60)
        for _ in range(3):
            with turns.turn(catalog._database, "the work", patient=True):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == [1] * 12
    assert beside(tmp_path) == []


def test_who_has_no_patience_is_told(catalog: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST", 0.0)
    with ExitStack() as stack:
        stack.enter_context(turns.turn(catalog._database, "the work"))
        stack.enter_context(turns.turn(catalog._database, "other work"))
        with pytest.raises(Contended, match="somebody else is at the work"):
            stack.enter_context(turns.turn(catalog._database, "the work"))
    with turns.turn(catalog._database, "the work"):
        pass


def test_a_turn_ends_with_an_error(catalog: Registry, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turns.turn(catalog._database, "the work"):
        raise ZeroDivisionError
    with turns.turn(catalog._database, "the work", waiting=lambda: pytest.fail("it is free")):
        pass
    assert beside(tmp_path) == []


def test_a_file_that_a_killed_process_left_is_swept_unless_it_is_somebodys_turn(
    local: Registry, tmp_path: Path
) -> None:
    left, other = tmp_path / "home" / "registry.db.turn-0123456789abcdef", "registry.db.turn-mine"
    left.touch()
    (tmp_path / "home" / other).touch()
    with turns.turn(local._database, "the work"):
        assert len(beside(tmp_path)) == 3
        local.gc(apply=True)
        assert len(beside(tmp_path)) == 2
        assert not left.exists()
    assert beside(tmp_path) == [other]


def test_a_place_where_nothing_can_be_written_is_one_line(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "home").rename(tmp_path / "gone")
    with (
        pytest.raises(StorageFailure, match=r"cannot write .*turn-.*: No such file"),
        turns.turn(local._database, "it"),
    ):
        pass
