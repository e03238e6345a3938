"""card, and base license."""

from __future__ import annotations

import pytest

from registry.results import BaseModelInfo, Card
from tests.cli.conftest import FakeRegistry, Run

CARD = Card(
    ref="toxic@3", repo="team/toxic", target="adapter", license="mit", text="---\na: b\n---\n\n# Toxic\n"
)


def test_card_prints_the_card_and_nothing_else(fake: FakeRegistry, run: Run) -> None:
    fake.answers["card"] = CARD
    done = run("card", "toxic@3", "--repo", "team/toxic")
    assert (done.exit_code, done.stdout, done.stderr) == (0, CARD.text, "")
    assert fake.asked == {
        "ref": "toxic@3",
        "repo": "team/toxic",
        "into": "adapter",
        "private": True,
        "license": None,
        "despite_license": None,
        "card_template": None,
    }
    words = "--as model --public --license mit --despite-license asked --card-template t.md"
    run("card", "toxic", *words.split())
    assert (fake.asked["into"], fake.asked["private"], fake.asked["repo"]) == ("model", False, None)
    assert (fake.asked["license"], fake.asked["despite_license"]) == ("mit", "asked")
    assert fake.asked["card_template"] == "t.md"
    assert Card.model_validate_json(run("card", "toxic", "--format", "json").stdout) == CARD
    assert run("card", "toxic", "--format", "quiet").stdout == "toxic@3\n"


def test_what_would_keep_it_from_being_published_is_a_warning(fake: FakeRegistry, run: Run) -> None:
    fake.answers["card"] = CARD.model_copy(update={"warnings": ("toxic@1 is closed",)})
    done = run("card", "toxic")
    assert done.stdout == CARD.text
    assert "warning: toxic@1 is closed" in done.stderr


def test_base_license_records_and_forgets(fake: FakeRegistry, run: Run) -> None:
    fake.answers["set_base_license"] = BaseModelInfo(
        repo="org/llama", revision=None, fingerprint=None, license="llama3.1"
    )
    done = run("base", "license", "org/llama", "llama3.1")
    assert fake.asked == {"name": "org/llama", "license": "llama3.1"}
    assert "llama3.1" in done.stdout
    run("base", "license", "org/llama", "--forget")
    assert fake.asked == {"name": "org/llama", "license": None}


@pytest.mark.parametrize("words", [(), ("mit", "--forget")])
def test_base_license_is_either(fake: FakeRegistry, run: Run, words: tuple[str, ...]) -> None:
    done = run("base", "license", "org/llama", *words)
    assert done.exit_code == 2
    assert not fake.calls
