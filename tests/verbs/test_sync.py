"""Rules, and the sync that follows them, through the real client to a local Hub."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry import hub as hub_client
from registry.errors import Conflict, HubUnauthorized, NotFound, UsageError
from registry.publishers import hub as publisher
from registry.publishers.hub import Place
from registry.results import Synced, SyncReport, Target
from registry.testing.hub import HubServer
from registry.verbs._wanted import Task
from registry.verbs.sync import _ready as ready
from tests import hubs
from tests.adapters import make_lora

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(catalog: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(catalog, tmp_path)


def outcomes(report: SyncReport) -> dict[str | None, str]:
    return {each.repo or each.ref: each.outcome for each in report.results}


def next_version(catalog: Registry, tmp_path: Path, name: str, seed: int) -> None:
    catalog.add(make_lora(tmp_path / f"{name}-{seed}", seed=seed), name)


def commits(hub: HubServer, repo: str, revision: str = "main") -> list[str]:
    """Titles of what was pushed, oldest first, without the repo's own first commit."""
    return [each.title for each in reversed(hub.commits(repo, revision))][1:]


class TestRules:
    def test_a_rule_is_what_was_said_and_once(self, stocked: Registry) -> None:
        made = stocked.add_rule("alpaca", "team/{name}", alias="prod", tag="v{version}", license="mit")
        assert (made.id, made.selector, made.alias, made.repo) == (1, "alpaca", "prod", "team/{name}")
        assert (made.target, made.private, made.tag, made.license) == ("adapter", True, "v{version}", "mit")
        assert made.created
        again = stocked.add_rule("alpaca", "team/{name}", alias="prod", tag="v{version}", license="mit")
        assert again == made.model_copy(update={"created": False})
        assert stocked.rules() == (made,)
        assert [event.action for event in stocked.events(action="rule add")] == ["rule add"]

    def test_the_same_with_other_options_is_a_conflict_that_names_them(self, stocked: Registry) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        with pytest.raises(Conflict, match=r"rule 1 .* another private and tag"):
            stocked.add_rule("alpaca", "team/{name}", private=False, tag="v{version}")

    def test_a_deleted_rule_asks_for_nothing(self, stocked: Registry, hub: HubServer) -> None:
        number = stocked.add_rule("alpaca", "team/{name}").id
        assert stocked.delete_rule(number).selector == "alpaca"
        assert stocked.rules() == ()
        with pytest.raises(NotFound, match="there is no rule 1"):
            stocked.delete_rule(number)
        report = stocked.sync()
        assert (report.applied, report.pending, report.rules, report.results) == (True, False, 0, ())
        assert report.catalog is not None
        assert "password" not in report.catalog
        assert hub.requests == []
        assert [event.action for event in stocked.events(limit=2)] == ["rule delete", "rule add"]

    def test_rules_that_are_added_at_once_are_one(self, stocked: Registry) -> None:
        def add(_: int) -> bool:
            return stocked.add_rule("kind = 'lora'", "team/{name}").created

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(add, range(8))) == [False] * 7 + [True]
        assert len(stocked.rules()) == len(stocked.events(action="rule add")) == 1

    @pytest.mark.parametrize(
        ("selector", "options", "message"),
        [
            ("nobody", {}, "no adapter called 'nobody'"),
            ("alpaca@prod", {}, "is one version"),
            ("task = ", {}, "not an adapter's name, and as a filter"),
            ("", {}, "selector is empty"),
            ("a" * 401 + " b", {}, "characters long"),
            ("ancestor = 'nobody'", {}, "no adapter called 'nobody'"),
            ("alpaca", {"repo": "team/{nmae}"}, "is no field of a repo"),
            ("alpaca", {"repo": "{name}"}, "is not a repo"),
            ("alpaca", {"repo": "a/b/{name}"}, "is not a repo"),
            ("alpaca", {"repo": "team/{name"}, "brace"),
            ("alpaca", {"repo": "team/{name}}"}, "brace"),
            ("alpaca", {"repo": "team/{name.__class__}"}, "is no field"),
            ("alpaca", {"repo": "team/{alias}"}, "the rule has none"),
            ("alpaca", {"repo": "team/" + "x" * 300}, "characters long"),
            ("alpaca", {"revision": "refs/pr/{version}"}, "is not a branch"),
            ("alpaca", {"revision": "a..{version}"}, "is not a branch"),
            ("alpaca", {"tag": "v {version}"}, "is not a tag"),
            ("alpaca", {"tag": "-{version}"}, "is not a tag"),
            ("alpaca", {"tag": "v{version}", "propose": True}, "a pull request cannot be tagged"),
            ("alpaca", {"revision": "dev", "propose": True}, "pull requests to main only"),
            ("alpaca", {"alias": "v3"}, "cannot be an alias"),
            ("alpaca", {"into": "gguf"}, "unknown target"),
            ("alpaca", {"license": "a\x00b"}, "control characters"),
        ],
    )
    def test_what_cannot_be_a_rule_is_refused_in_a_line(
        self, stocked: Registry, selector: str, options: dict[str, str], message: str
    ) -> None:
        given = {"repo": "team/{name}"} | options
        with pytest.raises((UsageError, NotFound), match=message) as caught:
            stocked.add_rule(selector, **given)  # type: ignore[arg-type]
        assert "\n" not in caught.value.message
        assert stocked.rules() == ()

    def test_rules_travel_with_a_bundle(self, stocked: Registry, tmp_path: Path) -> None:
        stocked.add_rule("kind = 'lora'", "team/{fullname}", alias="prod", revision="r{version}")
        stocked.export(tmp_path / "bundle")
        with Registry.open(tmp_path / "other", database_url=f"sqlite:///{tmp_path}/other.db") as other:
            other.import_bundle(tmp_path / "bundle")
            assert other.rules() == stocked.rules()


class TestSync:
    def test_what_a_rule_asks_for_is_published_once(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("kind = 'lora'", "team/{name}")
        told: list[Synced] = []
        report = stocked.sync(on_outcome=told.append)
        assert outcomes(report) == dict.fromkeys(["team/alpaca", "team/detox", "team/toxic"], "published")
        assert (report.applied, report.pending, report.rules, report.counts) == (
            True,
            False,
            1,
            {"published": 3},
        )
        assert sorted(told, key=lambda each: each.repo or "") == list(report.results)
        for each in report.results:
            assert each.commit == hub.commits(each.repo or "")[0].oid
            assert commits(hub, each.repo or "") == [f"Publish {each.ref}"]
        before = len(hub.requests)
        assert stocked.sync().counts == {"unchanged": 3}
        asked = [str(each) for each in hub.requests[before:]]
        assert len(asked) == 3, asked

    def test_a_rule_follows_its_alias_there_and_back(
        self, stocked: Registry, hub: HubServer, tmp_path: Path
    ) -> None:
        stocked.add_rule("alpaca", "team/{alias}-{name}", alias="prod")
        nothing = stocked.sync()
        assert [(each.outcome, each.reason) for each in nothing.results] == [
            ("unchanged", "alpaca has no version prod now")
        ]
        assert hub.requests == []
        stocked.set_alias("alpaca", "prod", 1)
        assert stocked.sync().counts == {"published": 1}
        next_version(stocked, tmp_path, "alpaca", 7)
        assert stocked.sync().counts == {"unchanged": 1}
        stocked.set_alias("alpaca", "prod", 2)
        assert stocked.sync().counts == {"published": 1}
        stocked.set_alias("alpaca", "prod", 1)
        assert stocked.sync().counts == {"published": 1}
        assert stocked.sync().counts == {"unchanged": 1}
        wanted = ["Publish alpaca@1", "Publish alpaca@2", "Publish alpaca@1"]
        assert commits(hub, "team/prod-alpaca") == wanted

    @pytest.mark.usefixtures("hub")
    def test_a_filter_selects_versions_that_fit_it(self, stocked: Registry, tmp_path: Path) -> None:
        stocked.add_rule("tag.public = 'yes'", "team/{name}")
        stocked.add_rule("tag.public = 'yes'", "team/{name}-prod", alias="Prod")
        assert {each.reason for each in stocked.sync().results} == {
            "nothing that fits tag.public = 'yes' has no version now",
            "nothing that fits tag.public = 'yes' has no version Prod now",
        }
        stocked.set_tags("alpaca@1", {"public": "yes"})
        stocked.set_alias("alpaca", "prod", 1)
        stocked.set_alias("toxic", "prod", 1)
        next_version(stocked, tmp_path, "alpaca", 7)  # which does not fit, and is the latest
        report = stocked.sync()
        assert outcomes(report)["team/alpaca-prod"] == "published"
        assert set(outcomes(report)) == {None, "team/alpaca-prod"}

    def test_a_version_has_a_branch_of_its_own(
        self, stocked: Registry, hub: HubServer, tmp_path: Path
    ) -> None:
        stocked.add_rule("alpaca", "team/all", revision="{name}-{version}")
        stocked.add_rule("toxic", "team/all", revision="{name}-{version}")
        assert stocked.sync().counts == {"published": 2}
        next_version(stocked, tmp_path, "alpaca", 7)
        assert stocked.sync().counts == {"published": 1, "unchanged": 1}
        for branch, ref in (("alpaca-1", "alpaca@1"), ("toxic-1", "toxic@1"), ("alpaca-2", "alpaca@2")):
            assert hub.commits("team/all", branch)[0].title == f"Publish {ref}"

    @pytest.mark.usefixtures("hub")
    def test_two_that_want_one_place_are_both_blocked(self, stocked: Registry) -> None:
        stocked.add_rule("alpaca", "team/one")
        stocked.add_rule("toxic", "Team/ONE")
        stocked.add_rule("detox", "team/detox")
        report = stocked.sync()
        assert report.counts == {"blocked": 2, "published": 1}
        reasons = {each.ref: each.reason for each in report.results if each.outcome == "blocked"}
        assert reasons == {
            "alpaca@1": "rule 2 asks for this place for toxic@1",
            "toxic@1": "rule 1 asks for this place for alpaca@1",
        }
        assert not report.pending

    @pytest.mark.usefixtures("hub")
    def test_many_that_want_one_place_name_a_few_others(self, stocked: Registry, tmp_path: Path) -> None:
        for number in range(5):
            stocked.add(make_lora(tmp_path / f"n{number}", seed=100 + number), f"n{number}")
            stocked.set_tags(f"n{number}", {"one": "yes"})
        stocked.add_rule("tag.one = 'yes'", "team/one")
        report = stocked.sync(dry_run=True)
        assert report.counts == {"blocked": 5}
        assert report.results[0].reason == "rule 1 asks for this place for n1@1, n2@1, n3@1, and 1 more"

    @pytest.mark.usefixtures("hub")
    def test_two_that_want_the_same_are_one(self, stocked: Registry) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.add_rule("name = 'alpaca'", "team/{name}")
        report = stocked.sync()
        assert [(each.rules, each.outcome) for each in report.results] == [((1, 2), "published")]

    def test_two_that_want_it_differently_are_blocked(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.add_rule("name = 'alpaca'", "team/{name}", private=False)
        report = stocked.sync()
        assert report.counts == {"blocked": 2}
        assert hub.requests == []
        assert {each.reason for each in report.results} == {
            "rule 1 asks for this place otherwise",
            "rule 2 asks for this place otherwise",
        }

    @pytest.mark.usefixtures("hub")
    def test_a_rule_may_be_asked_alone(self, stocked: Registry) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.add_rule("toxic", "team/{name}")
        report = stocked.sync([2])
        assert (report.rules, outcomes(report)) == (1, {"team/toxic": "published"})
        with pytest.raises(NotFound, match="no rule 3, 9"):
            stocked.sync([9, 2, 3])

    def test_a_rule_asked_alone_is_not_alone_at_its_place(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/one")
        stocked.add_rule("toxic", "team/one")
        for number in (1, 2):
            assert [(each.rules, each.outcome) for each in stocked.sync([number]).results] == [
                ((number,), "blocked")
            ]
        assert hub.requests == []

    def test_a_repo_keeps_its_spelling(self, stocked: Registry, hub: HubServer, tmp_path: Path) -> None:
        number = stocked.add_rule("alpaca", "team/{name}").id
        stocked.sync()
        stocked.delete_rule(number)
        stocked.add_rule("alpaca", "team/Alpaca")
        assert stocked.sync().counts == {"unchanged": 1}
        next_version(stocked, tmp_path, "alpaca", 7)
        assert outcomes(stocked.sync()) == {"team/alpaca": "published"}
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1", "Publish alpaca@2"]

    def test_a_dry_run_tells_and_sends_nothing(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("kind = 'lora'", "team/{name}")
        planned = stocked.sync(dry_run=True)
        assert (planned.applied, planned.pending, planned.counts) == (False, True, {"planned": 3})
        assert hub.requests == []
        stocked.sync()
        before = len(hubs.writes(hub))
        assert stocked.sync(dry_run=True).counts == {"unchanged": 3}
        assert len(hubs.writes(hub)) == before

    @pytest.mark.usefixtures("hub")
    def test_a_revoked_version_is_blocked_with_what_it_reached(self, stocked: Registry) -> None:
        stocked.add_rule("kind = 'lora'", "team/{name}")
        stocked.revoke("toxic", "license withdrawn")
        report = stocked.sync()
        assert outcomes(report) == {
            "team/alpaca": "published",
            "team/toxic": "blocked",
            "team/detox": "blocked",
        }
        reasons = [each.reason or "" for each in report.results if each.outcome == "blocked"]
        assert all("toxic@1" in reason for reason in reasons)
        assert any("license withdrawn" in reason for reason in reasons)

    @pytest.mark.usefixtures("hub")
    def test_a_field_that_a_version_lacks_blocks_it(self, stocked: Registry) -> None:
        stocked.add_rule("alpaca", "team/{task}-{name}")
        report = stocked.sync()
        assert [(each.outcome, each.code) for each in report.results] == [("blocked", "REFUSED")]
        assert "alpaca@1 has no task" in (report.results[0].reason or "")

    def test_what_somebody_else_pushed_is_told_and_kept(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.sync()
        hubs.push(hub, "team/alpaca", {"notes.txt": b"by hand"})
        assert stocked.sync().counts == {"unchanged": 1}
        before = len(hub.requests)
        assert stocked.sync().counts == {"unchanged": 1}
        assert len(hub.requests) - before == 1  # that commit was looked into once
        hubs.push(hub, "team/alpaca", {"adapter_config.json": b"{}"})
        drifted = stocked.sync()
        assert (drifted.counts, drifted.pending) == ({"drifted": 1}, True)
        assert hub.files("team/alpaca")["adapter_config.json"] == b"{}"
        assert stocked.sync(repair=True).counts == {"published": 1}
        files = hub.files("team/alpaca")
        assert files["notes.txt"] == b"by hand"
        assert files["adapter_config.json"] != b"{}"
        assert stocked.sync().counts == {"unchanged": 1}

    def test_a_repo_that_is_gone_is_told_and_made_again(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.sync()
        hubs.api(hub).delete_repo("team/alpaca")
        report = stocked.sync()
        assert [(each.outcome, each.reason) for each in report.results] == [
            ("drifted", "team/alpaca is gone")
        ]
        assert stocked.sync(dry_run=True, repair=True).counts == {"planned": 1}
        assert stocked.sync(repair=True).counts == {"published": 1}
        assert stocked.sync().counts == {"unchanged": 1}

    def test_a_check_keeps_nothing(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.sync()
        hubs.push(hub, "team/alpaca", {"notes.txt": b"by hand"})
        for _ in range(2):
            before = len(hub.requests)
            assert stocked.sync(dry_run=True).counts == {"unchanged": 1}
            assert len(hub.requests) - before > 1  # looked into again each time

    def test_a_repo_of_somebody_else_fails_alone(self, stocked: Registry, hub: HubServer) -> None:
        hubs.api(hub).create_repo("team/alpaca", private=True)
        hubs.push(hub, "team/alpaca", {"model.txt": b"theirs"})
        stocked.add_rule("kind = 'lora'", "team/{name}")
        report = stocked.sync(backoff=0)
        assert report.counts == {"failed": 1, "published": 2}
        failed = next(each for each in report.results if each.outcome == "failed")
        assert (failed.repo, failed.code) == ("team/alpaca", "CONFLICT")
        assert "--adopt" in (failed.hint or "")
        assert report.pending

    @pytest.mark.usefixtures("hub")
    def test_without_a_token_nothing_is_taken_for_gone(
        self, stocked: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.sync()
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(HubUnauthorized, match="no token"):
            stocked.sync(repair=True)

    @pytest.mark.usefixtures("hub")
    def test_a_token_that_may_not_write_fails_each_once(
        self, stocked: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stocked.add_rule("kind = 'lora'", "team/{name}")
        monkeypatch.setenv("HF_TOKEN", hubs.READER)
        report = stocked.sync(backoff=60)  # which would take minutes if it was tried again
        assert {(each.outcome, each.code) for each in report.results} == {("failed", "HUB_UNAUTHORIZED")}

    def test_what_fails_for_a_time_is_tried_again(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        hub.fail("POST .*/commit/", times=1)
        assert stocked.sync(backoff=0).counts == {"published": 1}
        hub.fail("GET /api/models/team/alpaca/revision", times=100)
        report = stocked.sync(backoff=0, retries=1)
        assert [(each.outcome, each.code) for each in report.results] == [("failed", "HUB_UNAVAILABLE")]

    def test_a_lost_answer_is_no_second_commit(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        hub.lose_answer("POST .*/commit/", times=1)
        assert stocked.sync(backoff=0).counts == {"published": 1}
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1"]

    def test_who_comes_second_in_the_middle_of_a_push_made_none(
        self, stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client takes a commit of what is there already for one that it made."""
        stocked.add_rule("alpaca", "team/{name}")
        real, others = hub_client.Upload.send, ["one"]

        def send(upload: hub_client.Upload, sent: Any) -> None:
            if others:
                others.clear()
                assert stocked.sync().counts == {"published": 1}
            real(upload, sent)

        monkeypatch.setattr(hub_client.Upload, "send", send)
        assert stocked.sync(backoff=0).counts == {"unchanged": 1}
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1"]
        assert sorted(each.state for each in stocked.publications()) == ["done", "failed"]

    def test_two_syncs_at_once_publish_everything_once(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("kind = 'lora'", "team/{name}")
        with ThreadPoolExecutor(2) as pool:
            reports = list(pool.map(lambda _: stocked.sync(backoff=0.05), range(2)))
        for report in reports:
            assert set(report.counts) <= {"published", "unchanged"}, report.results
        assert sum(report.counts.get("published", 0) for report in reports) == 3
        assert len([each for each in stocked.publications() if each.state == "done"]) == 3
        for name in ("alpaca", "toxic", "detox"):
            assert commits(hub, f"team/{name}") == [f"Publish {name}@1"]

    def test_a_tag_that_another_sync_made_meanwhile_is_no_failure(
        self, stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hubs.api(hub).create_repo("team/alpaca", private=True)
        stocked.add_rule("alpaca", "team/{name}", tag="v{version}")
        real = publisher.changes

        def and_meanwhile(*args: Any) -> Any:
            monkeypatch.setattr(publisher, "changes", real)
            stocked.publish("alpaca", "team/alpaca", tag="v1")
            return real(*args)

        monkeypatch.setattr(publisher, "changes", and_meanwhile)
        (done,) = stocked.sync(backoff=0).results
        assert done.outcome in {"published", "unchanged"}, done.reason
        assert done.commit == hub.commits("team/alpaca")[0].oid
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1"]

    @pytest.mark.parametrize("options", [{"jobs": 0}, {"jobs": 33}, {"retries": -1}, {"backoff": -1}])
    def test_options_that_make_no_sense(self, stocked: Registry, options: dict[str, int]) -> None:
        with pytest.raises(UsageError):
            stocked.sync(**options)  # type: ignore[arg-type]


def test_one_model_is_merged_at_a_time_and_holds_up_no_adapter() -> None:
    def task(number: int, target: Target) -> Task:
        return Task(
            ref=f"a{number}@1", where=Place(f"team/a{number}"), target=target, private=True, adopt=False, propose=False,
            tag=None, license=None, rules=(1,), made=datetime.now(UTC), parents=frozenset(),
        )  # fmt: skip

    models, adapters = [task(number, "model") for number in range(3)], [task(9, "adapter")]
    assert ready([*models, *adapters], [], 4) == [models[0], *adapters]
    assert ready(models[1:], models[:1], 4) == []
    assert ready(models[1:], adapters, 4) == [models[1]]


class TestTags:
    def test_each_version_is_tagged_once(self, stocked: Registry, hub: HubServer, tmp_path: Path) -> None:
        stocked.add_rule("alpaca", "team/{name}", alias="prod", tag="v{version}")
        stocked.set_alias("alpaca", "prod", 1)
        assert [(each.outcome, each.tag) for each in stocked.sync().results] == [("published", "v1")]
        first = hub.commits("team/alpaca")[0].oid
        next_version(stocked, tmp_path, "alpaca", 7)
        stocked.set_alias("alpaca", "prod", 2)
        assert stocked.sync().counts == {"published": 1}
        second = hub.commits("team/alpaca")[0].oid
        stocked.set_alias("alpaca", "prod", 1)  # the way back: its tag stays where it is
        assert stocked.sync().counts == {"published": 1}
        assert stocked.sync().counts == {"unchanged": 1}
        tags = hubs.api(hub).list_repo_refs("team/alpaca").tags
        assert {each.name: each.target_commit for each in tags} == {"v1": first, "v2": second}

    def test_a_tag_that_is_missing_is_made(self, stocked: Registry, hub: HubServer) -> None:
        number = stocked.add_rule("alpaca", "team/{name}").id
        stocked.sync()
        stocked.delete_rule(number)
        stocked.add_rule("alpaca", "team/{name}", tag="r{version}")
        stocked.add_evaluation("alpaca", "acc", 0.5, dataset="d")  # the card would tell it by now
        assert stocked.sync(dry_run=True).counts == {"planned": 1}
        report = stocked.sync()
        assert [(each.outcome, each.tag) for each in report.results] == [("tagged", "r1")]
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1"]
        assert [each.name for each in hubs.api(hub).list_repo_refs("team/alpaca").tags] == ["r1"]
        assert stocked.sync().counts == {"unchanged": 1}

    def test_another_tag_is_no_other_commit(self, stocked: Registry, hub: HubServer) -> None:
        number = stocked.add_rule("alpaca", "team/{name}", tag="v{version}").id
        stocked.sync()
        stocked.delete_rule(number)
        stocked.add_rule("alpaca", "team/{name}", tag="r{version}")
        stocked.add_evaluation("alpaca", "acc", 0.5, dataset="d")  # the card would tell it by now
        assert stocked.sync().counts == {"tagged": 1}
        assert commits(hub, "team/alpaca") == ["Publish alpaca@1"]
        there = hub.commits("team/alpaca")[0].oid
        tags = hubs.api(hub).list_repo_refs("team/alpaca").tags
        assert {each.name: each.target_commit for each in tags} == {"v1": there, "r1": there}
        assert stocked.sync().counts == {"unchanged": 1}

    def test_a_repo_that_is_made_again_gets_its_tag_again(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}", tag="v{version}")
        stocked.sync()
        hubs.api(hub).delete_repo("team/alpaca")
        assert stocked.sync(repair=True).counts == {"published": 1}
        assert [each.name for each in hubs.api(hub).list_repo_refs("team/alpaca").tags] == ["v1"]
        stocked.unpublish("team/alpaca", delete=True)
        stocked.publish("alpaca", "team/alpaca")
        assert stocked.sync().counts == {"tagged": 1}
        assert [each.name for each in hubs.api(hub).list_repo_refs("team/alpaca").tags] == ["v1"]

    def test_a_branch_that_is_made_again_leaves_the_tag_where_it_is(
        self, stocked: Registry, hub: HubServer
    ) -> None:
        stocked.add_rule("alpaca", "team/{name}", revision="dev", tag="v{version}")
        stocked.sync()
        first = hub.commits("team/alpaca", "dev")[0].oid
        hubs.api(hub).delete_branch("team/alpaca", branch="dev")
        assert stocked.sync(repair=True).counts == {"published": 1}
        tags = hubs.api(hub).list_repo_refs("team/alpaca").tags
        assert {each.name: each.target_commit for each in tags} == {"v1": first}

    def test_a_tag_of_somebody_else_fails_and_stays(self, stocked: Registry, hub: HubServer) -> None:
        stocked.add_rule("alpaca", "team/{name}", adopt=True, tag="v{version}")
        hubs.api(hub).create_repo("team/alpaca", private=True)
        hubs.api(hub).create_tag("team/alpaca", tag="v1")
        for _ in range(2):
            report = stocked.sync(backoff=60)  # which would be a long wait
            assert [(each.outcome, each.code) for each in report.results] == [("failed", "CONFLICT")]
        assert commits(hub, "team/alpaca") == []


class TestPullRequests:
    @pytest.fixture
    def proposed(self, stocked: Registry, hub: HubServer) -> SyncReport:
        hubs.api(hub).create_repo("team/alpaca", private=True)
        hubs.push(hub, "team/alpaca", {"notes.txt": b"theirs"})
        stocked.add_rule("alpaca", "team/{name}", propose=True, adopt=True)
        return stocked.sync()

    def test_two_syncs_at_once_open_one(self, stocked: Registry, hub: HubServer) -> None:
        hubs.api(hub).create_repo("team/alpaca", private=True)
        stocked.add_rule("alpaca", "team/{name}", propose=True)
        with ThreadPoolExecutor(3) as pool:
            reports = list(pool.map(lambda _: stocked.sync(backoff=0.05), range(3)))
        assert sum(report.counts.get("proposed", 0) for report in reports) == 1
        assert sum(report.counts.get("unchanged", 0) for report in reports) == 2
        assert [each.num for each in hubs.api(hub).get_repo_discussions("team/alpaca")] == [1]

    def test_one_is_opened_and_no_second(
        self, proposed: SyncReport, stocked: Registry, hub: HubServer
    ) -> None:
        assert [(each.outcome, each.pull_request) for each in proposed.results] == [("proposed", 1)]
        before = len(hub.requests)
        assert stocked.sync().counts == {"unchanged": 1}
        assert len(hub.requests) - before == 1
        assert set(hub.files("team/alpaca")) == {".gitattributes", "notes.txt"}

    def test_a_merged_one_is_judged_on_the_branch(
        self, proposed: SyncReport, stocked: Registry, hub: HubServer
    ) -> None:
        hubs.api(hub).merge_pull_request("team/alpaca", proposed.results[0].pull_request or 0)
        for _ in range(2):
            assert stocked.sync().counts == {"unchanged": 1}
        hubs.push(hub, "team/alpaca", {"adapter_config.json": b"{}"})
        assert stocked.sync().counts == {"drifted": 1}

    def test_a_closed_one_is_not_opened_again(
        self, proposed: SyncReport, stocked: Registry, hub: HubServer, tmp_path: Path
    ) -> None:
        number = proposed.results[0].pull_request or 0
        hubs.api(hub).change_discussion_status("team/alpaca", number, "closed")
        report = stocked.sync()
        assert [(each.outcome, each.reason) for each in report.results] == [
            ("withheld", "pull request 1 of team/alpaca was closed")
        ]
        next_version(stocked, tmp_path, "alpaca", 7)
        assert [(each.outcome, each.pull_request) for each in stocked.sync().results] == [("proposed", 2)]

    def test_what_was_unpublished_is_withheld_until_there_is_another(
        self, stocked: Registry, hub: HubServer, tmp_path: Path
    ) -> None:
        stocked.add_rule("alpaca", "team/{name}")
        stocked.sync()
        stocked.unpublish("team/alpaca", reason="too early")
        for _ in range(2):
            report = stocked.sync(repair=True)
            assert [(each.outcome, each.ref) for each in report.results] == [("withheld", "alpaca@1")]
            assert not report.pending
        next_version(stocked, tmp_path, "alpaca", 7)
        assert stocked.sync().counts == {"published": 1}
        assert "adapter_model.safetensors" in hub.files("team/alpaca")
