"""Taking what was published off the Hub again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from registry import Registry
from registry.errors import Conflict, HubUnavailable, NotFound, Refused, UsageError
from registry.testing.hub import HubServer
from registry.verbs import unpublish as verb
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(local: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(local, tmp_path)


def events(catalog: Registry) -> list[str]:
    with catalog._database.read() as session:
        found = session.execute(text("SELECT subject FROM events WHERE action = 'unpublish' ORDER BY id"))
        return list(found.scalars())


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_tombstone_takes_the_place_of_our_files_only(
    xet: bool, catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        catalog.publish("detox", REPO)
        hubs.push(hub, REPO, {"notes.txt": b"mine", "adapter_config.json": b'{"mine": 1}'})
        done = catalog.unpublish(REPO, reason="trained on *leaked* data")
        assert (done.refs, done.changed, done.deleted) == (("detox@1",), True, False)
        assert done.kept == ("adapter_config.json", "notes.txt")
        assert done.commit == hub.commits(REPO)[0].oid
        assert done.url == f"{hub.url}/{REPO}/commit/{done.commit}"
        files = hub.files(REPO)
        assert set(files) == {".gitattributes", "README.md", "notes.txt", "adapter_config.json"}
        card = files["README.md"].decode()
        assert yaml.safe_load(card.split("---")[1]) == {"tags": ["adapter-registry", "withdrawn"]}
        assert "`detox@1`" in card
        assert r"Reason: trained on \*leaked\* data" in card
        assert hub.commits(REPO)[0].title == "Withdraw detox@1"
        (row,) = hubs.rows(catalog)
        assert row.state == "withdrawn"
        assert row.withdrawn is not None
        assert (row.withdrawn.reason, bool(row.withdrawn.by)) == ("trained on *leaked* data", True)
        assert events(catalog) == ["detox@1"]
        assert catalog.show("detox").publications == (row,)


def test_once_is_enough(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.unpublish(REPO)
    before = hubs.writes(hub)
    again = stocked.unpublish(REPO)
    assert (again.changed, again.commit, again.refs) == (False, None, ())
    assert stocked.unpublish("detox").refs == ("detox@1",)
    assert hubs.writes(hub) == before
    assert events(stocked) == ["detox@1"]


def test_it_can_be_published_and_taken_off_again(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.unpublish("detox@1")
    again = stocked.publish("detox", REPO)
    assert again.created
    assert b"withdrawn" not in hub.files(REPO)["README.md"]
    assert stocked.unpublish("detox").changed
    assert [each.state for each in hubs.rows(stocked)] == ["withdrawn", "withdrawn"]
    assert len(hub.commits(REPO)) == 5


def test_what_people_wrote_into_the_card_stays_below(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    card = hub.files(REPO)["README.md"] + b"\nWritten by hand.\n"
    hubs.push(hub, REPO, {"README.md": card})
    stocked.unpublish(REPO)
    text = hub.files(REPO)["README.md"].decode()
    assert text.index("was withdrawn") < text.index("Written by hand.")
    assert "base_model" not in text.split("---")[1]
    stocked.unpublish(REPO)
    assert hub.files(REPO)["README.md"].decode() == text


def test_a_version_that_is_not_there_any_more_is_left(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.publish("toxic", REPO)
    with pytest.raises(Conflict, match="holds toxic@1 by now, not detox@1"):
        stocked.unpublish("detox")
    done = stocked.unpublish("toxic")
    assert done.refs == ("detox@1", "toxic@1")
    assert [each.state for each in hubs.rows(stocked)] == ["withdrawn", "withdrawn"]
    assert set(hub.files(REPO)) == {".gitattributes", "README.md"}


def test_a_version_in_several_places_is_taken_off_by_the_place(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    stocked.publish("detox", REPO, revision="next")
    with pytest.raises(UsageError, match=r"several places: team/detox \(main\), team/detox \(next\)"):
        stocked.unpublish("detox")
    stocked.unpublish(REPO, revision="next")
    assert "adapter_config.json" in hub.files(REPO)
    assert "adapter_config.json" not in hub.files(REPO, "next")
    assert stocked.unpublish("detox", revision="main").changed


def test_what_nobody_published_is_not_found(stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(NotFound):
        stocked.unpublish("detox")
    with pytest.raises(NotFound) as refusal:
        stocked.unpublish("team/none")
    assert "registry publications" in str(refusal.value.hint)
    hubs.api(hub).create_repo(REPO, private=True)
    hubs.push(hub, REPO, {"notes.txt": b"mine"})
    with pytest.raises(NotFound):
        stocked.unpublish(f"hf://{REPO}")
    assert hub.files(REPO)["notes.txt"] == b"mine"


def test_an_open_proposal_is_closed(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO, propose=True)
    done = stocked.unpublish("detox", reason="changed my mind")
    assert (done.refs, done.commit, done.changed) == (("detox@1",), None, True)
    (pull,) = hubs.api(hub).get_repo_discussions(REPO)
    assert pull.status == "closed"
    assert [each.state for each in hubs.rows(stocked)] == ["withdrawn"]


def test_a_lost_answer_is_no_failure(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    hub.lose_answer("POST .*/commit/main")
    done = stocked.unpublish(REPO)
    assert done.commit == hub.commits(REPO)[0].oid
    assert len(hub.commits(REPO)) == 3


@pytest.mark.parametrize("delete", [False, True])
def test_a_crash_before_it_was_recorded_is_finished_by_the_next(
    delete: bool, catalog: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    catalog.publish("detox", REPO)
    with monkeypatch.context() as patch:
        patch.setattr(verb, "_record", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            catalog.unpublish(REPO, delete=delete)
    assert [each.state for each in hubs.rows(catalog)] == ["done"]
    commit = None if delete else hub.commits(REPO)[0].oid
    done = catalog.unpublish(REPO, delete=delete)
    assert (done.refs, done.commit) == (("detox@1",), commit)
    assert [each.state for each in hubs.rows(catalog)] == ["withdrawn"]
    assert events(catalog) == ["detox@1"]


def test_a_repo_is_deleted_whole_and_only_one_of_ours(stocked: Registry, hub: HubServer) -> None:
    hubs.api(hub).create_repo("team/theirs", private=True)
    with pytest.raises(UsageError, match="by its own name"):
        stocked.unpublish("team/theirs", delete=True)
    with pytest.raises(Conflict, match="not made or adopted"):
        stocked.unpublish("hf://team/theirs", delete=True)
    stocked.publish("detox", REPO)
    stocked.publish("toxic", REPO, revision="next")
    with pytest.raises(UsageError, match="by its own name"):
        stocked.unpublish("detox", delete=True)
    with pytest.raises(UsageError, match="all its branches"):
        stocked.unpublish(REPO, delete=True, revision="next")
    done = stocked.unpublish(REPO, delete=True, reason="leaked")
    assert (done.deleted, done.changed, done.refs) == (True, True, ("detox@1", "toxic@1"))
    with pytest.raises(KeyError):
        hub.commits(REPO)
    hub.commits("team/theirs")
    again = stocked.unpublish(REPO, delete=True)
    assert (again.deleted, again.changed, again.refs) == (True, False, ())
    assert stocked.publish("detox", REPO).created  # by hand it comes back


def test_a_repo_that_is_not_to_be_seen_is_not_taken_for_deleted(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    hubs.api(hub).delete_repo(REPO)
    with pytest.raises(NotFound, match="not there, or this token may not see it") as refusal:
        stocked.unpublish(REPO)
    assert "--delete" in str(refusal.value.hint)
    assert [each.state for each in hubs.rows(stocked)] == ["done"]
    assert not stocked.unpublish(REPO, delete=True).changed
    assert [each.state for each in hubs.rows(stocked)] == ["withdrawn"]


def test_a_push_that_was_not_seen_to_arrive_is_taken_off_too(stocked: Registry, hub: HubServer) -> None:
    hub.lose_answer("POST .*/commit/main")
    hub.fail("GET .*/commits/main", times=20)
    with pytest.raises(HubUnavailable):
        stocked.publish("detox", REPO)
    hub._faults._waiting.clear()
    with pytest.raises(NotFound):
        stocked.unpublish("team/other")
    done = stocked.unpublish(f"hf://{REPO}")
    assert (done.refs, done.changed) == (("detox@1",), True)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "a\x1b[31m"])
def test_a_reason_is_text(reason: str, stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(UsageError):
        stocked.unpublish(REPO, reason=reason)
    assert hub.requests == []


def test_a_reason_holds_no_token(stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(Refused, match="holds a Hub token"):
        stocked.unpublish(REPO, reason=f"see {hubs.OWNER}")
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("delete", [False, True])
def test_what_arrived_before_a_crash_is_taken_off_too(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch, delete: bool
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("registry.verbs.publish._finish", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            stocked.publish("alpaca", "team/alpaca")
    done = stocked.unpublish("team/alpaca", delete=delete)
    assert (done.refs, done.changed, done.deleted) == (("alpaca@1",), True, delete)
    assert [each.state for each in stocked.publications()] == ["withdrawn"]
