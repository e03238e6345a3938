"""Any sequence of changes, and the registry says what a model of it says."""

from __future__ import annotations

from pathlib import Path

from tests.reliability import machine


def test_any_sequence_of_changes_gives_what_the_model_says(sqlite_url: str, tmp_path: Path) -> None:
    machine.Catalog.prepare(tmp_path, sqlite_url)
    did = machine.run(10, steps=20)
    assert did["sequences"] >= 10
    assert did["versions composed"] > 0
