"""The guided tour runs from end to end, every printed command for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.demo import _registry
from registry import Registry
from registry.demo import tour
from registry.errors import Conflict


def test_the_tour_does_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, folder = dict(os.environ), Path.cwd()
    said: list[str] = []
    tour.run(_registry, said.append, home=tmp_path / "kept", repo=None, sentences=16)
    output = capsys.readouterr()
    assert "error:" not in output.err.replace("error: sentiment-lora@1 is lora", "")
    assert any(line.startswith("reviews-lora merged into the base") for line in said)
    assert any("README.md" in line for line in said)
    assert (dict(os.environ), Path.cwd()) == (before, folder)
    with Registry.open(tmp_path / "kept") as catalog:
        reviews = catalog.show("reviews-lora")
        assert [parent.ref for parent in reviews.parents] == [
            "mostly-negative-lora@1",
            "mostly-positive-lora@1",
        ]
        assert [each.metric for each in reviews.evaluations] == ["accuracy"]
        assert [each.state for each in reviews.publications] == ["done"]
        assert catalog.show("again").digest == reviews.digest
        assert all(found.ok for found in catalog.verify())


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    with pytest.raises(Conflict):
        tour.run(_registry, print, home=tmp_path, repo=None)
