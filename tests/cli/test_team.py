"""What a team sees at the terminal: protection, notes, events and evaluations, on a real catalog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from tests.catalog.drafts import add
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("team")


@pytest.fixture
def team(local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("REGISTRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_DATABASE_URL", str(local._database.url))
    add(local._database, "toxic", "1")
    add(local._database, "toxic", "2")
    add(local._database, "detox", "3", parents=["toxic@1"])
    return local


def test_a_protected_alias_is_refused_with_what_to_say(run: Run) -> None:
    made = run("alias", "set", "toxic", "prod", "1", "--protect")
    assert made.stdout == "toxic@prod → toxic@1, protected\n"
    blind = run("alias", "set", "toxic", "prod", "2")
    assert (blind.exit_code, blind.stdout) == (4, "")
    assert "toxic@prod is protected" in blind.stderr
    assert "--expect 1" in blind.stderr
    assert "protected" in run("alias", "list").stdout
    assert run("alias", "set", "toxic", "prod", "2", "--expect", "1").exit_code == 0
    assert run("alias", "protect", "toxic", "prod", "--off").stdout.endswith("is no longer protected\n")
    assert run("alias", "delete", "toxic", "prod").exit_code == 0


def test_notes(run: Run) -> None:
    assert run("note", "toxic", "clean data").stdout == "toxic@2  clean data\n"
    assert json.loads(run("show", "toxic", "--format", "json").stdout)["note"] == "clean data"
    assert run("note", "toxic", "--delete").stdout == "toxic@2 has no note\n"
    assert run("note", "toxic").exit_code == 2
    assert run("note", "toxic", "x", "--delete").exit_code == 2


def test_events(run: Run) -> None:
    run("tag", "set", "toxic@1", "team=red", "--format", "quiet")
    shown = run("events", "toxic")
    lines = shown.stdout.splitlines()
    assert [words for line in lines if (words := line.split()[-3:])][-1]
    found = json.loads(run("events", "toxic", "--format", "json").stdout)
    assert [event["action"] for event in found] == ["tag", "import", "import"]
    assert found[0]["detail"] == {"key": "team", "value": "red"}
    assert run("events", "--action", "tag", "--format", "quiet").stdout == "toxic@1\n"
    assert run("events", "--since", "2999-01-01", "--format", "json").stdout.strip() == "[]"
    assert run("events", "--since", "yesterday").exit_code == 2
    assert "--before" in run("events", "--limit", "1").stderr
    assert len(json.loads(run("events", "--since", "2h", "--format", "json").stdout)) == 4
    assert run("events", "--until", "2h", "--format", "quiet").stdout == ""
    assert run("events", "toxi").stderr == "no events of toxi\n"


def test_what_an_event_tells_is_said_as_json_says_it(run: Run) -> None:
    run("alias", "set", "toxic", "prod", "1", "--protect")
    assert "alias=prod, protected=true" in run("events", "--action", "protect").stdout


def test_a_name_that_is_not_there_is_pointed_at(run: Run) -> None:
    asked = run("list", "task = 'x' OR ancestor = 'toxc@1'")
    assert asked.exit_code == 3
    assert "there is no adapter called 'toxc' at column 26" in asked.stderr
    assert "did you mean toxic or detox?" in asked.stderr
    assert "'toxc'\n" in run("show", "toxc").stderr


def test_an_empty_answer_says_which_words_were_searched_for(run: Run) -> None:
    asked = run("list", "rank BETWEEN 1 AND 3")
    assert (asked.exit_code, asked.stdout) == (0, "")
    assert "searched names, notes and tags for rank, BETWEEN, 1, 3;" in asked.stderr
    assert "searched" not in run("list", "rank > 100").stderr


def test_eval_compare_shows_the_parents_beside_the_child(run: Run) -> None:
    assert "has evaluations" in run("eval", "compare", "detox").stderr
    run("eval", "add", "toxic@1", "toxicity", "0.9", "--dataset", "rtp")
    run("eval", "add", "detox", "toxicity", "0.25", "--dataset", "rtp")
    row = run("eval", "compare", "detox").stdout.splitlines()[-1]
    assert row.split() == ["rtp", "toxicity", "0.25", "0.9", "(-0.65)"]
    assert run("eval", "compare", "detox", "--format", "quiet").stdout == "detox@1\ntoxic@1\n"
    assert json.loads(run("eval", "compare", "detox", "--format", "json").stdout)["others"] == ["toxic@1"]


def test_eval_compare_keeps_the_column_of_a_version_that_was_not_measured(run: Run) -> None:
    run("eval", "add", "toxic@1", "toxicity", "0.9", "--dataset", "rtp")
    heading, row = run("eval", "compare", "detox").stdout.splitlines()
    assert heading.split() == ["dataset", "metric", "detox@1", "toxic@1"]
    assert row.split() == ["rtp", "toxicity", "none", "0.9"]


def test_base_models(run: Run) -> None:
    assert run("base", "list", "--format", "quiet").stdout == "tiny/base\n"
    assert run("base", "alias", "set", "tiny", "tiny/base").stdout == "tiny → tiny/base\n"
    assert run("base", "list").stdout.split()[-3:] == ["tiny/base", "tiny", "3"]
    shown = run("base", "show", "TINY")
    assert "its weights were not seen yet" in shown.stdout
    assert json.loads(run("base", "show", "tiny", "--format", "json").stdout)["aliases"] == ["tiny"]
    assert run("base", "alias", "list", "--format", "quiet").stdout == "tiny\n"
    assert run("base", "alias", "delete", "tiny").stdout == "removed tiny, which stood for tiny/base\n"
    missing = run("base", "show", "tiny")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert "registry base list" in missing.stderr
