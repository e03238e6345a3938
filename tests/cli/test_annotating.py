"""alias, tag, eval and delete."""

import json

import pytest

from registry.results import Alias, Deleted, Evaluation, Tagged
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


@pytest.mark.parametrize(
    ("words", "version", "expect"),
    [
        (["7"], 7, None),
        (["7", "--expect", "6"], 7, 6),
        (["staging", "--expect", "none"], "staging", "none"),
    ],
)
def test_alias_set_passes_numbers_as_numbers(
    fake: FakeRegistry, run: Run, words: list[str], version: int | str, expect: int | str | None
) -> None:
    fake.answers["set_alias"] = samples.alias()
    done = run("alias", "set", "toxic", "prod", *words)
    assert done.exit_code == 0
    assert fake.asked == {
        "name": "toxic",
        "alias": "prod",
        "version": version,
        "expect": expect,
        "protect": False,
    }
    assert done.stdout == "toxic@prod → toxic@3 (was toxic@2)\n"


def test_alias_set_says_when_nothing_moved(fake: FakeRegistry, run: Run) -> None:
    fake.answers["set_alias"] = samples.alias(moved=False)
    assert run("alias", "set", "toxic", "prod", "3").stdout == "toxic@prod already points at toxic@3\n"
    as_json = run("alias", "set", "toxic", "prod", "3", "--format", "json")
    assert Alias.model_validate_json(as_json.stdout) == samples.alias(moved=False)
    assert run("alias", "set", "toxic", "prod", "3", "--format", "quiet").stdout == "toxic@prod\n"


def test_alias_expect_is_a_number_or_none(fake: FakeRegistry, run: Run) -> None:
    assert run("alias", "set", "toxic", "prod", "3", "--expect", "latest").exit_code == 2
    assert fake.calls == []


def test_alias_list(fake: FakeRegistry, run: Run) -> None:
    fake.answers["aliases"] = (samples.alias(), samples.alias(alias="best"))
    assert "toxic@best" in run("alias", "list").stdout
    assert fake.asked == {"name": None}
    assert run("alias", "list", "toxic", "--format", "quiet").stdout == "toxic@prod\ntoxic@best\n"
    assert fake.asked == {"name": "toxic"}
    assert len(json.loads(run("--format", "json", "alias", "list").stdout)) == 2


def test_alias_delete_prints_what_it_was(fake: FakeRegistry, run: Run) -> None:
    fake.answers["delete_alias"] = samples.alias()
    done = run("alias", "delete", "toxic", "prod")
    assert done.stdout == "removed toxic@prod, which pointed at toxic@3\n"
    assert fake.asked == {"name": "toxic", "alias": "prod", "expect": None}
    as_json = run("alias", "delete", "toxic", "prod", "--format", "json")
    assert Alias.model_validate_json(as_json.stdout) == samples.alias()


def test_tags_are_set_and_deleted(fake: FakeRegistry, run: Run) -> None:
    fake.answers |= {"set_tags": samples.tagged(team="safety"), "delete_tags": samples.tagged()}
    assert "safety" in run("tag", "set", "toxic", "team=safety", "x=").stdout
    assert fake.asked == {"ref": "toxic", "tags": {"team": "safety", "x": ""}}
    assert "has no tags" in run("tag", "delete", "toxic", "team", "x").stdout
    assert fake.asked == {"ref": "toxic", "keys": ("team", "x")}
    as_json = run("tag", "set", "toxic", "a=b", "--format", "json")
    assert Tagged.model_validate_json(as_json.stdout).tags == {"team": "safety"}


@pytest.mark.parametrize(
    "words", [["tag", "set", "toxic"], ["tag", "set", "toxic", "a"], ["tag", "delete", "toxic"]]
)
def test_tags_without_a_key_are_a_usage_error(fake: FakeRegistry, run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2
    assert fake.calls == []


@pytest.mark.parametrize("value", ["0.814", "-0.5", "-1e3", "3"])
def test_an_evaluation_may_be_negative(fake: FakeRegistry, run: Run, value: str) -> None:
    fake.answers["add_evaluation"] = samples.evaluation(value=float(value))
    done = run("eval", "add", "toxic@3", "accuracy", value, "--dataset", "sst2", "--split", "test")
    assert done.exit_code == 0
    assert fake.asked == {
        "ref": "toxic@3",
        "metric": "accuracy",
        "value": float(value),
        "dataset": "sst2",
        "split": "test",
    }
    assert done.stdout.startswith("toxic@3  accuracy = ")
    assert done.stdout.endswith(" on sst2/test\n")


@pytest.mark.parametrize(
    "words", [["nan", "--dataset", "d"], ["inf", "--dataset", "d"], ["x", "--dataset", "d"], ["1"]]
)
def test_an_evaluation_needs_a_finite_value_and_a_dataset(
    fake: FakeRegistry, run: Run, words: list[str]
) -> None:
    assert run("eval", "add", "toxic", "accuracy", *words).exit_code == 2
    assert fake.calls == []


def test_eval_list(fake: FakeRegistry, run: Run) -> None:
    fake.answers["evaluations"] = (samples.evaluation(),)
    assert "0.814" in run("eval", "list", "toxic").stdout
    found = json.loads(run("eval", "list", "toxic", "--format", "json").stdout)
    assert [Evaluation.model_validate(item) for item in found] == [samples.evaluation()]


def test_delete_names_what_was_derived(fake: FakeRegistry, run: Run) -> None:
    fake.answers["delete"] = samples.deleted()
    done = run("delete", "toxic@2")
    assert done.stdout == f"deleted toxic@2 ({samples.DIGEST})\n"
    assert done.stderr == "warning: detox@1 was derived from it\n"
    as_json = run("delete", "toxic@2", "--format", "json").stdout
    assert Deleted.model_validate_json(as_json) == samples.deleted()
