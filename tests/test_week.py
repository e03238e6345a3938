"""A week in a team's life, in small, from one database to the other; ``benchmarks/week.py`` is the same in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import week


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite_url", "postgres_url"), ("postgres_url", "sqlite_url")]
)
def test_a_week_ends_with_the_same_catalog_elsewhere(
    first: str, second: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """``live`` itself ends with ``SystemExit`` where anything is not as it has to be."""
    url, other = (request.getfixturevalue(name) for name in (first, second))
    week.write_adapters(tmp_path / "adapters", 12)
    week.live(tmp_path, url, other, tmp_path / "adapters", count=12, compositions=4)
