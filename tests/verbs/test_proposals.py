"""Publishing as a pull request, and tags: once, whatever became of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry import Registry
from registry.errors import Conflict, HubUnavailable, Refused, UsageError
from registry.publishers import hub as publisher
from registry.testing.hub import HubServer
from registry.verbs import publish as verb
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


def proposals(server: HubServer) -> list[str]:
    found = hubs.api(server).get_repo_discussions(REPO, discussion_type="pull_request")
    return [each.status for each in found]


def remote(catalog: Registry) -> list[str | None]:
    return [each.remote for each in catalog.publications(check=True)]


def events(catalog: Registry, action: str) -> list[str]:
    with catalog._database.read() as session:
        found = session.execute(
            text("SELECT subject FROM events WHERE action = :action ORDER BY id"), {"action": action}
        )
        return list(found.scalars())


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_proposal_is_one_pull_request_and_leaves_the_branch_alone(
    xet: bool, catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        done = catalog.publish("detox", REPO, propose=True)
        assert (done.state, done.pull_request, done.created) == ("done", 1, True)
        assert done.url == f"{hub.url}/{REPO}/discussions/1"
        assert set(hub.files(REPO)) == {".gitattributes"}
        assert set(done.files) <= set(hub.files(REPO, "refs/pr/1"))
        assert hub.commits(REPO, "refs/pr/1")[0].oid == done.commit
        assert catalog.publish("detox", REPO, propose=True) == done.model_copy(update={"created": False})
        assert proposals(hub) == ["open"]
        assert remote(catalog) == ["open"]
        assert hubs.rows(catalog) == [done]


def test_a_merged_proposal_is_judged_on_its_branch(stocked: Registry, hub: HubServer) -> None:
    first = stocked.publish("detox", REPO, propose=True)
    hubs.api(hub).merge_pull_request(REPO, 1)
    again = stocked.publish("detox", REPO, propose=True)
    assert (again.created, again.pull_request, again.commit) == (False, 1, hub.commits(REPO)[0].oid)
    assert first.commit != again.commit
    assert events(stocked, "publish-merge") == ["detox@1"]
    assert proposals(hub) == ["merged"]
    assert remote(stocked) == ["same"]
    hubs.push(hub, REPO, {"notes.txt": b"n"})
    assert remote(stocked) == ["moved"]
    hubs.push(hub, REPO, {"adapter_config.json": b"{}"})
    assert remote(stocked) == ["changed"]
    assert stocked.publish("detox", REPO, propose=True).pull_request == 2
    assert hubs.rows(stocked)[0] == again.model_copy(update={"created": True})


def test_a_proposal_that_was_merged_before_anybody_asked_is_found_by_a_check(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    hubs.stock(catalog, tmp_path)
    catalog.publish("alpaca", REPO)
    catalog.publish("detox", REPO, propose=True)
    assert remote(catalog) == ["same", "open"]
    hubs.api(hub).merge_pull_request(REPO, 1)
    assert remote(catalog) == ["superseded", "same"]
    before = len(hub.requests)
    assert remote(catalog) == ["superseded", "same"]
    assert len(hub.requests) == before + 1


def test_what_a_merge_brought_is_replaced_by_the_next_release(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.plan

    def more(release: Any, built: Any, repo: str, **shown: Any) -> Any:
        from registry.publishers import planned

        return real(release, {**built, "vocab.txt": planned("vocab.txt", b"a b")}, repo, **shown)

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "plan", more)
        stocked.publish("detox", REPO, propose=True)
    hubs.push(hub, REPO, {"vocab.txt": b"a b"})  # somebody's own, while nothing was merged
    stocked.publish("toxic", REPO)
    assert hub.files(REPO)["vocab.txt"] == b"a b"
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "plan", more)
        number = stocked.publish("detox", "team/third", propose=True).pull_request
    hubs.api(hub).merge_pull_request("team/third", number or 0)
    stocked.publish("toxic", "team/third")
    assert "vocab.txt" not in hub.files("team/third")


def test_a_closed_proposal_may_be_opened_again_by_hand(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO, propose=True)
    hubs.api(hub).change_discussion_status(REPO, 1, new_status="closed")
    assert remote(stocked) == ["closed"]
    assert stocked.publish("detox", REPO, propose=True).pull_request == 2
    assert remote(stocked) == ["closed", "open"]


def test_a_lost_answer_opens_no_second_proposal(stocked: Registry, hub: HubServer) -> None:
    hub.lose_answer("POST .*/commit/main")
    done = stocked.publish("detox", REPO, propose=True)
    assert (done.created, done.pull_request, done.commit) == (True, 1, hub.commits(REPO, "refs/pr/1")[0].oid)
    assert proposals(hub) == ["open"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_around_a_proposal_is_settled_by_the_next(
    after: bool, catalog: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    real = publisher._commit

    def crash(*args: Any) -> Any:
        if after:
            real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "_commit", crash)
        with pytest.raises(KeyboardInterrupt):
            catalog.publish("detox", REPO, propose=True)
    if after:
        hubs.api(hub).create_pull_request(REPO, "Somebody else's")
    done = catalog.publish("detox", REPO, propose=True)
    assert (done.pull_request, done.created) == (1, not after)
    assert [each.state for each in hubs.rows(catalog)] == (["done"] if after else ["failed", "done"])
    assert len(proposals(hub)) == (2 if after else 1)
    assert events(catalog, "publish") == ["detox@1"]


def test_a_proposal_has_no_tag_and_goes_to_main(stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(UsageError, match="cannot be tagged"):
        stocked.publish("detox", REPO, propose=True, tag="v1")
    with pytest.raises(UsageError, match="main only"):
        stocked.publish("detox", REPO, propose=True, revision="next")
    assert hub.requests == []


def test_a_proposal_to_somebody_elses_repo_needs_the_choice_too(stocked: Registry, hub: HubServer) -> None:
    hubs.api(hub).create_repo(REPO, private=True)
    hubs.push(hub, REPO, {"notes.txt": b"mine"})
    with pytest.raises(Conflict, match="not made by this registry"):
        stocked.publish("detox", REPO, propose=True)
    assert stocked.publish("detox", REPO, propose=True, adopt=True).pull_request == 1


def tags(server: HubServer) -> dict[str, str]:
    return {each.name: each.target_commit for each in hubs.api(server).list_repo_refs(REPO).tags}


def test_a_tag_is_on_the_commit_and_stays_there(catalog: Registry, hub: HubServer, tmp_path: Path) -> None:
    hubs.stock(catalog, tmp_path)
    done = catalog.publish("detox", REPO, tag="v1")
    assert (done.tag, done.tagged) == ("v1", True)
    assert tags(hub) == {"v1": done.commit}
    before = len(hubs.writes(hub))
    assert catalog.publish("detox", REPO, tag="v1") == done.model_copy(update={"created": False})
    assert len(hubs.writes(hub)) == before
    catalog.compose("detox", "alpaca - 0.5*toxic")
    with pytest.raises(Conflict, match=r"the tag v1 of team/detox is on .{12}, and was not moved"):
        catalog.publish("detox", REPO, tag="v1")
    assert len(hub.commits(REPO)) == 2  # nothing was pushed for it
    second = catalog.publish("detox", REPO, tag="v2")
    assert tags(hub) == {"v1": done.commit, "v2": second.commit}
    assert events(catalog, "publish-tag") == ["detox@1", "detox@2"]
    assert [(each.tag, each.tagged) for each in hubs.rows(catalog)] == [("v1", True), ("v2", True)]


def test_a_release_can_be_tagged_later_and_with_several(stocked: Registry, hub: HubServer) -> None:
    first = stocked.publish("detox", REPO)
    hubs.push(hub, REPO, {"notes.txt": b"n"})
    tagged = stocked.publish("detox", REPO, tag="v1")
    assert (tagged.commit, tagged.created, tagged.tagged) == (first.commit, False, True)
    stocked.publish("detox", REPO, tag="stable")
    assert tags(hub) == {"v1": first.commit, "stable": hub.commits(REPO)[0].oid}
    stocked.publish("detox", REPO, tag="stable")
    assert len(hubs.rows(stocked)) == 2
    assert len(hub.commits(REPO)) == 3


def test_a_tag_of_somebody_else_is_not_touched(stocked: Registry, hub: HubServer) -> None:
    stocked.publish("detox", REPO)
    other = hubs.push(hub, REPO, {"notes.txt": b"n"})
    hubs.api(hub).create_tag(REPO, tag="v1", revision=other)
    with pytest.raises(Conflict, match="was not moved"):
        stocked.publish("detox", REPO, tag="v1")
    assert tags(hub) == {"v1": other}
    assert [each.tag for each in hubs.rows(stocked)] == [None]


def test_a_tag_that_could_not_be_made_is_made_by_the_next_publish(stocked: Registry, hub: HubServer) -> None:
    hub.fail("POST .*/tag/", times=20)
    with pytest.raises(HubUnavailable, match="cannot tag"):
        stocked.publish("detox", REPO, tag="v1")
    assert [(each.state, each.tag, each.tagged) for each in hubs.rows(stocked)] == [("done", "v1", False)]
    hub._faults._waiting.clear()
    done = stocked.publish("detox", REPO)
    assert (done.created, done.tagged) == (False, True)
    assert tags(hub) == {"v1": done.commit}


def test_a_tag_that_was_taken_meanwhile_is_told_and_hinders_nothing(
    stocked: Registry, hub: HubServer
) -> None:
    hub.fail("POST .*/tag/", times=20)
    with pytest.raises(HubUnavailable):
        stocked.publish("detox", REPO, tag="v1")
    hub._faults._waiting.clear()
    other = hubs.push(hub, REPO, {"notes.txt": b"n"})
    hubs.api(hub).create_tag(REPO, tag="v1", revision=other)
    done = stocked.publish("toxic", REPO)
    assert done.created
    assert [warning.startswith("detox@1 has no tag v1: ") for warning in done.warnings] == [True]
    found = verb.complete_tags(stocked._database, actor="tester")
    assert [(each.ref, type(error)) for each, error in found] == [("detox@1", Conflict)]
    assert tags(hub) == {"v1": other}


def test_a_lost_answer_to_a_tag_is_no_failure(stocked: Registry, hub: HubServer) -> None:
    hub.lose_answer("POST .*/tag/")
    assert stocked.publish("detox", REPO, tag="v1").tagged


@pytest.mark.parametrize("name", ["", "a b", "refs/tags/v1", "a" * 40, "x..y", "v1.lock", "-v", "v" * 201])
def test_a_tag_has_to_be_a_name(name: str, stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(UsageError, match="is not a tag"):
        stocked.publish("detox", REPO, tag=name)
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_a_plan_tells_of_both(stocked: Registry) -> None:
    planned = stocked.publish("detox", REPO, tag="v1", dry_run=True)
    assert (planned.tag, planned.tagged, planned.pull_request) == ("v1", False, None)
    assert stocked.publish("detox", REPO, propose=True, dry_run=True).pull_request == 0


def test_a_bad_card_is_refused_before_anything_is_made(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.plan

    def bad(release: Any, built: Any, repo: str, **shown: Any) -> Any:
        from registry.publishers import Plan, planned

        plan = real(release, built, repo, **shown)
        card = planned("README.md", b"---\nbase_model: /data/llama\n---\n")
        return Plan({**plan.files, "README.md": card})

    monkeypatch.setattr(publisher, "plan", bad)
    with pytest.raises(Refused, match="the Hub refuses the model card, so nothing was sent"):
        stocked.publish("detox", REPO)
    assert hubs.writes(hub) == ["POST /api/validate-yaml"]
    assert hubs.rows(stocked) == []
