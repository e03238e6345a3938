"""publish and publications."""

import json
from typing import Any
from unittest.mock import ANY

import pytest

from registry.results import Publication, Unpublished, Withdrawn
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


def test_publish_passes_every_option_and_is_private_unless_told(fake: FakeRegistry, run: Run) -> None:
    fake.answers["publish"] = samples.publication()
    done = run("publish", "toxic@3", "team/toxic")
    assert done.exit_code == 0
    assert fake.asked == {
        "ref": "toxic@3",
        "repo": "team/toxic",
        "into": "adapter",
        "private": True,
        "revision": None,
        "message": None,
        "base_path": None,
        "adopt": False,
        "propose": False,
        "tag": None,
        "license": None,
        "despite_license": None,
        "sign_key": None,
        "card_template": None,
        "dry_run": False,
        "progress": ANY,
    }
    words = (
        "--as model --public --revision next --message hi --base-path llama --adopt --pr --tag v3 --dry-run "
    )
    words += "--license mit --despite-license asked --sign-key key.pem --card-template card.md"
    run("publish", "toxic@3", "team/toxic", *words.split())
    assert (fake.asked["into"], fake.asked["private"], fake.asked["revision"]) == ("model", False, "next")
    assert (fake.asked["message"], fake.asked["base_path"]) == ("hi", "llama")
    assert (fake.asked["adopt"], fake.asked["dry_run"]) == (True, True)
    assert (fake.asked["propose"], fake.asked["tag"]) == (True, "v3")
    assert (fake.asked["license"], fake.asked["despite_license"]) == ("mit", "asked")
    assert (fake.asked["sign_key"], fake.asked["card_template"]) == ("key.pem", "card.md")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "published toxic@3 → team/toxic"),
        ({"created": False}, "already there, no commit made: toxic@3"),
        ({"state": "planned", "commit": None}, "would publish toxic@3"),
        ({"state": "pending"}, "begun, outcome not known: toxic@3"),
        ({"state": "failed"}, "not published: toxic@3"),
        ({"pull_request": 7}, "proposed toxic@3 → team/toxic"),
        ({"pull_request": 7, "created": False}, "already proposed: toxic@3"),
        ({"pull_request": 0, "state": "planned", "commit": None}, "would propose toxic@3"),
        ({"tag": "v3", "tagged": True}, "v3"),
        ({"tag": "v3", "state": "failed"}, "v3 "),
    ],
)
def test_publish_says_what_happened(
    fake: FakeRegistry, run: Run, changes: dict[str, Any], sentence: str
) -> None:
    fake.answers["publish"] = samples.publication(**changes)
    done = run("publish", "toxic@3", "team/toxic")
    assert sentence in done.stdout
    assert "adapter_model.safetensors" in done.stdout
    as_json = run("publish", "toxic@3", "team/toxic", "--format", "json")
    assert Publication.model_validate_json(as_json.stdout) == samples.publication(**changes)


@pytest.mark.parametrize("remote", ["moved", "changed", "gone"])
def test_publications_check_fails_after_printing_when_the_hub_differs(
    fake: FakeRegistry, run: Run, remote: str
) -> None:
    fake.answers["publications"] = (samples.publication(remote="same"), samples.publication(remote=remote))
    done = run("publications", "toxic", "--check", "--format", "json")
    assert fake.asked == {"ref": "toxic", "check": True}
    assert [item["remote"] for item in json.loads(done.stdout)] == ["same", remote]
    assert done.exit_code == 6
    assert json.loads(done.stderr)["error"]["code"] == "STALE"


def test_publications_that_are_the_same_pass(fake: FakeRegistry, run: Run) -> None:
    fake.answers["publications"] = (samples.publication(remote="same"),)
    done = run("publications", "--check")
    assert fake.asked == {"ref": None, "check": True}
    assert done.exit_code == 0
    assert "team/toxic" in done.stdout
    assert run("publications", "--format", "quiet").stdout == "toxic@3\n"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"pull_request": 4, "remote": "open"}, "main, pull request 4"),
        ({"tag": "v3"}, "v3 (missing)"),
        ({"tag": "v3", "tagged": True}, "v3"),
        ({"tag": "v3", "state": "failed"}, "v3 "),
        ({"state": "withdrawn", "withdrawn": Withdrawn(reason="leaked", at=samples.NOW, by="ada")}, "withdrawn: leaked"),
    ],
)  # fmt: skip
def test_publications_show_where_they_went_and_what_became_of_them(
    fake: FakeRegistry, run: Run, changes: dict[str, Any], shown: str
) -> None:
    fake.answers["publications"] = (samples.publication(**changes),)
    done = run("publications", "--check")
    assert shown in done.stdout
    assert done.exit_code == 0 if "remote" in changes else done.exit_code in {0, 1}


def test_a_publication_that_could_not_be_checked_is_no_success(fake: FakeRegistry, run: Run) -> None:
    unknown = samples.publication(ref="b@1", warnings=("cannot read team/b: the Hub answered 503",))
    fake.answers["publications"] = (samples.publication(remote="same"), unknown)
    done = run("publications", "--check")
    assert done.exit_code == 1
    assert "b@1 in team/toxic: cannot read team/b" in done.stderr
    fake.answers["publications"] = (samples.publication(remote="gone"), unknown)
    assert run("publications", "--check").exit_code == 6


def taken(**changes: Any) -> Unpublished:
    fields: dict[str, Any] = {
        "repo": "team/toxic",
        "revision": "main",
        "refs": ("toxic@3",),
        "reason": "leaked",
        "deleted": False,
        "commit": "c0ffee",
    }
    return Unpublished(**(fields | changes))


def test_unpublish_passes_what_it_is_told(fake: FakeRegistry, run: Run) -> None:
    fake.answers["unpublish"] = taken(kept=("notes.txt",))
    done = run("unpublish", "team/toxic", "--reason", "leaked", "--revision", "next")
    assert fake.asked == {"what": "team/toxic", "revision": "next", "delete": False, "reason": "leaked"}
    assert done.exit_code == 0
    assert "took off team/toxic" in done.stdout
    assert "notes.txt" in done.stdout
    as_json = run("unpublish", "team/toxic", "--format", "json")
    assert Unpublished.model_validate_json(as_json.stdout) == taken(kept=("notes.txt",))
    assert run("unpublish", "team/toxic", "--format", "quiet").stdout == "toxic@3\n"


def test_a_repo_is_not_deleted_unasked(fake: FakeRegistry, run: Run) -> None:
    fake.answers["unpublish"] = taken(deleted=True, commit=None)
    done = run("unpublish", "team/toxic", "--delete")
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert "deleted team/toxic" in run("unpublish", "team/toxic", "--delete", "--yes").stdout
    assert fake.asked["delete"] is True
