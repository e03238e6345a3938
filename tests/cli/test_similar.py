"""``registry similar``: what is shown, what is refused, and that a look at sketches costs no torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from tests.adapters import make_ia3, make_lora
from tests.cli.conftest import Run
from tests.test_imports import imported_by


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name, task="t")
    local.add(make_ia3(tmp_path / "i"), "i")
    local.compose("half", "0.5*a")
    return local


@pytest.mark.usefixtures("shelf")
def test_a_ranking_is_shown_with_what_each_is_to_the_other(run: Run) -> None:
    done = run("similar", "a")
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["version", "cosine", "relation", "lineage", "task"],
        ["half@1", "1.0000", "scaled", "by", "0.5", "derived", "t"],
        ["b@1", "0.0506", "t"],
    ]
    assert done.stderr == "not compared: i@1: it is ia3, not lora\n"
    assert run("similar", "a", "--min", "0.5", "--format", "quiet").stdout == "half@1\n"
    estimated = run("similar", "a", "--estimated", "--limit", "1")
    assert "1.000 ± 0.000" in estimated.stdout
    found = json.loads(run("similar", "a", "--format", "json").stdout)
    assert [each["ref"] for each in found["versions"]] == ["half@1", "b@1"]
    assert found["left_out"] == [{"ref": "i@1", "reason": "it is ia3, not lora"}]


@pytest.mark.usefixtures("shelf")
def test_duplicates_and_sketches_are_told(run: Run) -> None:
    assert run("similar", "--prepare", "--format", "quiet").stdout == "4\n"
    done = run("similar", "--duplicates")
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["oldest", "version", "cosine"],
        ["a@1", "half@1", "1.0000"],
    ]
    assert run("similar", "--duplicates", "--format", "quiet").stdout == "a@1\nhalf@1\n"
    alone = run("similar", "--duplicates", "--where", "name = 'b'")
    assert (alone.stdout, alone.stderr) == ("", "1 version compared: none is there twice\n")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "--duplicates"],
        ["--duplicates", "--prepare"],
        ["a", "--prepare"],
        ["--duplicates", "--limit", "3"],
        ["--duplicates", "--estimated"],
        ["--duplicates", "--opposite"],
        ["--prepare", "--where", "name = 'a'"],
        ["--prepare", "--min", "0.5"],
        ["--prepare", "--versions"],
        ["--prepare", "--base", "b"],
        ["a", "--base", "b"],
        ["a", "--limit", "0"],
        ["a", "--min", "nan"],
        ["--duplicates", "--min", "2"],
    ],
)
def test_what_makes_no_sense_together_is_refused(run: Run, words: list[str]) -> None:
    done = run("similar", *words)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_a_look_at_sketches_needs_no_torch(shelf: Registry, tmp_path: Path) -> None:
    shelf.sketch()
    assert "torch" not in imported_by(["similar", "a", "--estimated"], tmp_path / "home")
