"""publish and publications."""

import json

import pytest

from registry.results import Publication
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
        "license": None,
        "despite_license": None,
        "sign_key": None,
        "card_template": None,
        "dry_run": False,
        "progress": None,
    }
    words = "--as model --public --revision next --message hi --base-path llama --adopt --dry-run "
    words += "--license mit --despite-license asked --sign-key key.pem --card-template card.md"
    run("publish", "toxic@3", "team/toxic", *words.split())
    assert (fake.asked["into"], fake.asked["private"], fake.asked["revision"]) == ("model", False, "next")
    assert (fake.asked["message"], fake.asked["base_path"]) == ("hi", "llama")
    assert (fake.asked["adopt"], fake.asked["dry_run"]) == (True, True)
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
    ],
)
def test_publish_says_what_happened(
    fake: FakeRegistry, run: Run, changes: dict[str, str | bool | None], sentence: str
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
