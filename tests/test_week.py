"""A week in a team's life, in small, from one database to the other; ``benchmarks/week.py`` is the same in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import week
from registry import Registry
from registry.errors import Conflict


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite_url", "postgres_url"), ("postgres_url", "sqlite_url")]
)
def test_a_week_ends_with_the_same_catalog_elsewhere(
    first: str, second: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What is done on each day is compared in ``live``, which ends with ``SystemExit`` where it is not as it has to be."""
    url, other = (request.getfixturevalue(name) for name in (first, second))
    week.write_adapters(tmp_path / "adapters", 12)
    week.live(tmp_path, url, other, tmp_path / "adapters", count=12, compositions=4)
    with (
        Registry.open(tmp_path / "home", database_url=url) as here,
        Registry.open(tmp_path / "other", database_url=other) as there,
    ):
        catalogs = (here, there)
        digests = [
            {each.ref: each.digest for each in catalog.list(latest=False, limit=1000).versions}
            for catalog in catalogs
        ]
        assert digests[0] == digests[1]
        assert len(digests[0]) == 12 + 1 + 2 * 4 + 2  # one got better, two were rebuilt
        pointing = [{each.alias: each.ref for each in catalog.aliases("top1")} for catalog in catalogs]
        assert pointing == [{"prod": "top1@2"}] * 2
        assert all(found.ok for catalog in catalogs for found in catalog.verify())


def test_what_is_not_as_it_has_to_be_ends_the_week() -> None:
    with pytest.raises(SystemExit, match="added: 11, not 12"):
        week.same("added", 11, 12)
    with pytest.raises(SystemExit, match="Conflict was expected"):
        week.refused(Conflict, list)
