"""Many processes at once: every refusal has its reason, and what holds alone holds in a crowd."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.crowd import crowd


def test_a_crowd_leaves_a_catalog_that_holds(database_url: str, tmp_path: Path) -> None:
    found = crowd(tmp_path, database_url, processes=3, operations=20)
    assert found.findings == ()
    assert sum(found.done.values()) + sum(found.refused.values()) == 60
    assert found.done.total() > 30
