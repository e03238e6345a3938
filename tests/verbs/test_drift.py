"""Whether the Hub still holds what was published: all of it, cheaply, and whoever is down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.catalog import publications, references
from registry.errors import HubUnavailable
from registry.publishers.hub import Place
from registry.reference import parse
from registry.testing.hub import HubServer
from registry.verbs import _drift
from registry.verbs._drift import Drift, Recorded
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MANY = 1000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(local: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(local, tmp_path)


def remote(catalog: Registry) -> list[str | None]:
    return [each.remote for each in catalog.publications(check=True)]


def test_every_place_is_judged_by_itself(catalog: Registry, hub: HubServer, tmp_path: Path) -> None:
    hubs.stock(catalog, tmp_path)
    for name in ("same", "moved", "changed", "gone", "down"):
        catalog.publish("detox", f"team/{name}")
    hubs.push(hub, "team/moved", {"notes.txt": b"n"})
    hubs.push(hub, "team/changed", {"README.md": b"---\ntags: [mine]\n---\n"})
    hubs.api(hub).delete_repo("team/gone")
    hub.fail("GET /api/models/team/down", times=50)
    found = catalog.publications(check=True)
    assert [each.remote for each in found] == ["same", "moved", "changed", "gone", None]
    assert [bool(each.warnings) for each in found] == [False, False, False, False, True]
    assert "503" in found[4].warnings[0]
    hub._faults._waiting.clear()
    assert remote(catalog)[4] == "same"


def test_what_did_not_move_takes_one_request_each(catalog: Registry, hub: HubServer, tmp_path: Path) -> None:
    hubs.stock(catalog, tmp_path)
    for name in ("a", "b", "c"):
        catalog.publish("detox", f"team/{name}")
        catalog.publish("toxic", f"team/{name}")
    hubs.push(hub, "team/c", {"notes.txt": b"n"})
    before = len(hub.requests)
    assert remote(catalog) == ["superseded", "same"] * 2 + ["superseded", "moved"]
    assert len(hub.requests) > before + 3  # the files of the one that moved
    before = len(hub.requests)
    assert remote(catalog) == ["superseded", "same"] * 2 + ["superseded", "moved"]
    assert len(hub.requests) == before + 3
    hubs.push(hub, "team/c", {"README.md": b"---\ntags: [mine]\n---\n"})
    assert remote(catalog)[-1] == "changed"


def test_one_version_asks_for_its_own_places(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", "team/a")
    stocked.publish("toxic", "team/b")
    before = len(hub.requests)
    assert [each.remote for each in stocked.publications("toxic", check=True)] == ["same"]
    assert len(hub.requests) == before + 1


def test_what_was_withdrawn_or_failed_is_not_asked_for(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", "team/a")
    stocked.unpublish("team/a")
    hub.fail("POST /api/repos/create", status=403)
    with pytest.raises(Exception, match="403"):
        stocked.publish("detox", "team/b")
    before = len(hub.requests)
    assert remote(stocked) == [None, None]
    assert len(hub.requests) == before


def test_a_thousand_publications_take_a_thousand_requests(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    hubs.stock(catalog, tmp_path)
    done = catalog.publish("detox", "team/r0")
    kept = hub._store._repos["team/r0"]
    for number in range(1, MANY):  # as if each had been pushed
        hub._store._repos[f"team/r{number}"] = kept.model_copy(update={"id": f"team/r{number}"})
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("detox"))
        for number in range(1, MANY):
            publications.begin(
                session,
                pin,
                publish_id=f"{number}",
                repo=f"team/r{number}",
                revision="main",
                target="adapter",
                files=done.files,
                actor="tester",
            )
        session.flush()
        for number in range(1, MANY):
            publications.finish(
                session, f"{number}", commit=done.commit or "", url="", ref="detox@1", actor="tester"
            )
    before = len(hub.requests)
    assert remote(catalog) == ["same"] * MANY
    assert len(hub.requests) == before + MANY


def test_a_hub_that_is_out_of_reach_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.isolate(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    places = {Place(f"team/{number}"): Recorded("c" * 40, None, {}) for number in range(20)}
    found = _drift.look(places)
    assert list(found) == list(places)
    assert {(each.state, each.head, type(each.error)) for each in found.values()} == {
        ("unknown", None, HubUnavailable)
    }
    assert _drift.look({}) == {}


def test_a_head_that_was_seen_is_not_looked_into(hub: HubServer) -> None:
    hubs.api(hub).create_repo("team/a")
    head = hubs.push(hub, "team/a", {"a": b"1"})
    files = {"a": "sha256:" + "0" * 64}
    assert _drift.look({Place("team/a"): Recorded("0" * 40, head, files)}) == {
        Place("team/a"): Drift("moved", head)
    }
    assert _drift.look({Place("team/a"): Recorded("0" * 40, None, files)}) == {
        Place("team/a"): Drift("changed", head)
    }
    assert _drift.look({Place("team/a", "next"): Recorded(head, None, files)}) == {
        Place("team/a", "next"): Drift("gone")
    }
