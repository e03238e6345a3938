"""show, list, log and diff."""

import json
from datetime import UTC, datetime

import pytest

from registry.results import Difference, Page, Revoked, Version
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


def test_show_prints_every_fact(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = samples.full()
    done = run("show", "toxic@prod")
    assert done.exit_code == 0
    assert fake.asked == {"ref": "toxic@prod"}
    for fact in (
        "toxic@3", "(deleted)", "lora", "org/llama@abc123", samples.DIGEST, samples.OTHER, "toxicity", "1,234,567",
        "bfloat16", "2.5 MB", "prod, best", "team=safety", "apache-2.0", "trained twice", "hf://org/toxic",
        "alpaca@prod - 0.4*toxic", "alpaca@7 - 0.4*toxic@3", "-0.4", "accuracy", "0.814", "sst2", "team/toxic",
        "bias", "2026-08-01 12:30:00 UTC", "ada",
    ):  # fmt: skip
        assert fact in done.stdout


def test_show_as_json_is_the_model(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = samples.full()
    done = run("show", "toxic", "--format", "json")
    assert Version.model_validate_json(done.stdout) == samples.full()
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ["show", "toxic", "--format", "quiet"],
        ["--format", "quiet", "show", "toxic"],
        ["--format", "json", "show", "toxic", "--format", "quiet"],
    ],
)
def test_format_is_taken_before_and_after_the_command_and_the_command_wins(
    fake: FakeRegistry, run: Run, words: list[str]
) -> None:
    fake.answers["show"] = samples.version()
    assert run(*words).stdout == "toxic@3\n"


def test_list_passes_every_filter(fake: FakeRegistry, run: Run) -> None:
    fake.answers["list"] = Page(versions=(samples.version(),))
    words = (
        "list --base org/llama@abc --task t --kind lora --tag a=b --tag c= --sort size --limit 5 --after x"
    )
    assert run(*words.split()).exit_code == 0
    assert fake.asked == {
        "filter": None,
        "latest": None,
        "base": "org/llama@abc",
        "task": "t",
        "kind": "lora",
        "tags": {"a": "b", "c": ""},
        "sort": "size",
        "limit": 5,
        "after": "x",
    }


def test_list_passes_a_filter_and_what_it_is_searched_for_in(fake: FakeRegistry, run: Run) -> None:
    fake.answers["list"] = Page(versions=(samples.version(),))
    for words, latest in ((["--all"], False), (["--latest"], True), ([], None)):
        assert run("list", "task = 'qa'", "--page-token", "x", *words).exit_code == 0
        asked = {name: value for name, value in fake.asked.items() if value is not None}
        expected = {"filter": "task = 'qa'", "tags": {}, "limit": 100, "after": "x"}
        assert asked == expected | ({} if latest is None else {"latest": latest})


def test_a_filter_that_does_not_parse_is_a_usage_error(run: Run) -> None:
    done = run("list", "teem = 'x'")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no key 'teem' at column 1" in done.stderr


def test_what_is_revoked_or_affected_is_marked_wherever_versions_are_listed(
    fake: FakeRegistry, run: Run
) -> None:
    revoked = samples.version(
        revoked=Revoked(reason="leaks names", at=datetime(2026, 11, 2, tzinfo=UTC), by="eve"),
    )
    affected = samples.version(version=4, affected_by=("toxic@3", "bad@1"))
    fake.answers |= {"list": Page(versions=(revoked, affected)), "log": (affected, revoked)}
    for words in (["list"], ["log", "toxic"]):
        lines = run(*words).stdout.splitlines()
        assert "REVOKED" in next(line for line in lines if revoked.ref in line.split())
        assert "affected by toxic@3, bad@1" in next(line for line in lines if affected.ref in line.split())
    fake.answers["list"] = Page(versions=(samples.version(),))
    assert "state" not in run("list").stdout
    fake.answers["show"] = revoked
    assert "leaks names (eve, 2026-11-02)" in run("show", "toxic").stdout
    fake.answers["show"] = affected
    assert "toxic@3, bad@1" in run("show", "toxic").stdout


def test_list_in_a_pipe_cuts_nothing(fake: FakeRegistry, run: Run) -> None:
    name = "n" * 300
    note = samples.version(name=name, tags={f"key{i}": "v" * 50 for i in range(10)})
    fake.answers["list"] = Page(versions=(note,))
    lines = run("list").stdout.splitlines()
    row = next(line for line in lines if name in line)
    assert "key9=" + "v" * 50 in row
    assert "…" not in row
    assert "\x1b" not in row


def test_list_as_json_is_an_array_and_the_next_page_is_a_hint(fake: FakeRegistry, run: Run) -> None:
    fake.answers["list"] = Page(versions=(samples.version(), samples.full()), next="token")
    done = run("list", "--format", "json")
    assert [Version.model_validate(item) for item in json.loads(done.stdout)] == [
        samples.version(),
        samples.full(),
    ]
    assert "--page-token token" in done.stderr


def test_an_empty_list_is_empty_in_each_format(fake: FakeRegistry, run: Run) -> None:
    fake.answers["list"] = Page(versions=())
    assert run("list", "--format", "json").stdout == "[]\n"
    assert run("list", "--format", "quiet").stdout == ""
    human = run("list")
    assert human.stdout == ""
    assert human.stderr == "no adapters found\n"


def test_log_shows_tombstones_and_recipes(fake: FakeRegistry, run: Run) -> None:
    fake.answers["log"] = (samples.full(), samples.version(version=2, source="./folder"))
    done = run("log", "toxic")
    assert "toxic@3 (deleted)" in done.stdout
    assert "alpaca@7 - 0.4*toxic@3" in done.stdout
    assert "./folder" in done.stdout
    assert run("log", "toxic", "--format", "quiet").stdout == "toxic@3\ntoxic@2\n"


def test_diff_shows_fields_inputs_and_all_modules_in_a_pipe(fake: FakeRegistry, run: Run) -> None:
    fake.answers["diff"] = samples.difference()
    done = run("diff", "detox@1", "detox@2")
    assert fake.asked == {"before": "detox@1", "after": "detox@2", "base_path": None}
    for fact in ("chat", "-0.4", "-0.5", "layers.29.q", "layers.0.q", "30 modules"):
        assert fact in done.stdout
    as_json = run("diff", "a", "b", "--format", "json").stdout
    assert Difference.model_validate_json(as_json) == samples.difference()


def test_diff_says_why_modules_are_not_compared_and_when_nothing_differs(
    fake: FakeRegistry, run: Run
) -> None:
    fake.answers["diff"] = samples.difference(modules=(), not_compared="the bases differ")
    assert "the bases differ" in run("diff", "a", "b").stdout
    fake.answers["diff"] = samples.difference(fields=(), inputs=(), modules=())
    assert "no difference" in run("diff", "a", "b").stdout
