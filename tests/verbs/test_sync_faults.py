"""Sync to a Hub that fails, loses answers, and is left in the middle; ``benchmarks/publishing.py`` is the same in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import publishing
from registry import Registry
from registry.results import SyncReport
from registry.testing.hub import HubServer
from tests import hubs

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_whatever_the_hub_does_each_version_arrives_once(
    xet: bool, catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:

        def sync() -> SyncReport:
            return catalog.sync(backoff=0.01, retries=1)

        publishing.stock(catalog, tmp_path, 12)
        publishing.calm(catalog, sync, tmp_path, pending=5)
        found = publishing.storm(catalog, hub, sync, fail=0.2, lose=0.1, retry_after=0)
        assert sum(found.faults.values()) > 3
        assert found.verdict == publishing.Verdict(commits=14, duplicates=0, missing=0, wrong=0)
        assert sync().counts == {"unchanged": 12}
        told = [*map(str, catalog.events(limit=1000)), *map(str, catalog.publications())]
        assert not any(hubs.OWNER in each for each in told)


@pytest.mark.parametrize("at", [3, 9, 15, 21])
def test_a_sync_that_is_killed_is_ended_by_the_next(at: int, local: Registry, tmp_path: Path) -> None:
    publishing.stock(local, tmp_path, 2)
    with HubServer(tmp_path / "hub", xet=False) as hub:
        publishing.killed(tmp_path, hub, at=at, xet=False)
        assert publishing.verdict(local, hub) == publishing.Verdict(2, 0, 0, 0)


def test_a_sync_with_nothing_to_do_asks_once_for_each_repo(
    catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch) as hub:
        publishing.stock(catalog, tmp_path, 12)
        catalog.sync()
        before = len(hub.requests)
        assert catalog.sync().counts == {"unchanged": 12}
        assert len(hub.requests) - before == 12
