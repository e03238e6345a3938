"""``registry rule`` and ``registry sync`` on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import publishing
from registry import Registry
from registry.errors import HubUnauthorized
from registry.results import Rule, Synced, SyncReport
from registry.testing.hub import LOCAL_TOKEN, HubServer
from tests import hubs
from tests.cli.conftest import FakeRegistry, Run

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

RULE = Rule(
    id=3,
    selector="task = 'qa'",
    alias="prod",
    repo="team/{name}",
    revision=None,
    target="adapter",
    tag="v{version}",
    created_at=datetime(2026, 8, 1, tzinfo=UTC),
    created_by="ann",
)


def synced(outcome: str, **told: Any) -> Synced:
    place = {"rules": (3,), "ref": "qa@2", "repo": "team/qa", "revision": "main", "target": "adapter"}
    return Synced.model_validate({**place, "outcome": outcome, **told})


def report(*outcomes: str, rules: int = 1) -> SyncReport:
    results = tuple(synced(each, reason="it is so", hint="do this") for each in outcomes)
    counts = {each: outcomes.count(each) for each in outcomes}
    pending = any(each in {"planned", "drifted", "failed"} for each in outcomes)
    return SyncReport(applied=True, pending=pending, rules=rules, counts=counts, results=results)


def test_a_rule_is_passed_on_as_it_was_said(run: Run, fake: FakeRegistry) -> None:
    fake.answers["add_rule"] = RULE
    done = run("rule", "add", "task = 'qa'", "--to", "team/{name}", "--alias", "prod", "--tag", "v{version}")
    assert done.exit_code == 0
    assert fake.asked == {
        "selector": "task = 'qa'", "repo": "team/{name}", "alias": "prod", "into": "adapter", "private": True,
        "revision": None, "propose": False, "adopt": False, "tag": "v{version}", "license": None,
    }  # fmt: skip
    assert "rule 3: prod of task = 'qa' to team/{name} as adapter (private, tag v{version})" in done.stdout
    run(
        "rule", "add", "qa", "--to", "team/qa", "--as", "model", "--public", "--pr", "--adopt",
        "--license", "mit", "--revision", "r{version}",
    )  # fmt: skip
    told = {key: fake.asked[key] for key in ("into", "private", "propose", "adopt", "license", "revision")}
    assert told == {
        "into": "model", "private": False, "propose": True, "adopt": True, "license": "mit", "revision": "r{version}",
    }  # fmt: skip


def test_the_same_rule_again_is_told(run: Run, fake: FakeRegistry) -> None:
    fake.answers["add_rule"] = RULE.model_copy(update={"created": False})
    done = run("rule", "add", "task = 'qa'", "--to", "team/{name}")
    assert "rule 3 is there already" in done.stdout


def test_rules_are_listed_and_deleted(run: Run, fake: FakeRegistry) -> None:
    fake.answers.update(rules=(RULE,), delete_rule=RULE)
    assert json.loads(run("rule", "list", "--format", "json").stdout)[0]["selector"] == "task = 'qa'"
    assert "team/{name}" in run("rule", "list").stdout
    assert run("rule", "list", "--format", "quiet").stdout == "3\n"
    assert "removed rule 3" in run("rule", "delete", "3").stdout
    assert fake.asked == {"number": 3}
    fake.answers["rules"] = ()
    assert "there are no rules" in run("rule", "list").stderr
    assert run("rule", "delete", "three").exit_code == 2


def test_options_reach_the_sync(run: Run, fake: FakeRegistry) -> None:
    fake.answers["sync"] = report("unchanged")
    run(
        "sync",
        "3",
        "4",
        "--repair",
        "--jobs",
        "2",
        "--retries",
        "0",
        "--backoff",
        "0.5",
        "--base-path",
        "/base",
    )
    told = {key: value for key, value in fake.asked.items() if key != "on_outcome"}
    assert told == {
        "rules": (3, 4), "dry_run": False, "repair": True, "jobs": 2, "retries": 0, "backoff": 0.5,
        "base_path": "/base",
    }  # fmt: skip
    for option in ("--check", "--dry-run"):
        run("sync", option)
        assert fake.asked["dry_run"] is True


@pytest.mark.parametrize(
    ("outcomes", "options", "code"),
    [
        ((), (), 0),
        (("published", "unchanged", "tagged", "proposed"), (), 0),
        (("published", "withheld"), (), 0),
        (("planned",), ("--dry-run",), 0),
        (("planned",), ("--check",), 6),
        (("withheld", "unchanged"), ("--check",), 0),
        (("drifted", "published"), (), 6),
        (("drifted", "blocked"), ("--dry-run",), 6),
        (("blocked", "published"), (), 7),
        (("planned", "blocked"), ("--check",), 6),
        (("failed", "drifted", "blocked", "published"), (), 1),
    ],
)
def test_exit_codes_say_the_worst(
    run: Run, fake: FakeRegistry, outcomes: tuple[str, ...], options: tuple[str, ...], code: int
) -> None:
    fake.answers["sync"] = report(*outcomes)
    done = run("sync", *options)
    assert done.exit_code == code
    assert ("error:" in done.stderr) == (code != 0)
    told = run("sync", *options, "--format", "json")
    assert told.exit_code == code
    assert SyncReport.model_validate_json(told.stdout) == fake.answers["sync"]


def test_why_it_failed_is_in_the_error(run: Run, fake: FakeRegistry) -> None:
    fake.answers["sync"] = report("failed", "blocked")
    done = run("sync", "--format", "quiet")
    assert done.stderr == ("error: 1 publication (team/qa) could not be published: it is so\nhint: do this\n")


def test_without_rules_it_says_so(run: Run, fake: FakeRegistry) -> None:
    fake.answers["sync"] = report(rules=0)
    done = run("sync")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "there are no rules" in done.stderr


def test_the_report_is_written_whole_or_not(run: Run, fake: FakeRegistry, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    fake.answers["sync"] = report("failed")
    assert run("sync", "--report", str(file)).exit_code == 1
    assert SyncReport.model_validate_json(file.read_text()) == fake.answers["sync"]
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
    done = run("sync", "--report", str(tmp_path / "nowhere" / "report.json"))
    assert (done.exit_code, "its folder does not exist" in done.stderr) == (1, True)


def test_a_sync_that_ends_early_leaves_no_earlier_report(
    run: Run, fake: FakeRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text("of the last time")
    fake.answers["sync"] = HubUnauthorized("there is no token for the Hub")
    done = run("sync", "--report", str(file), "--format", "json")
    assert done.exit_code == 1
    told = SyncReport.model_validate_json(file.read_text())
    assert (told.pending, told.results) == (True, ())
    assert SyncReport.model_validate_json(done.stdout) == told
    assert json.loads(done.stderr)["error"]["message"] == "there is no token for the Hub"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


def test_each_outcome_is_a_line(run: Run, hub: HubServer, local: Registry, tmp_path: Path) -> None:
    hubs.stock(local, tmp_path)
    assert run("rule", "add", "kind = 'lora'", "--to", "team/{name}", "--tag", "").exit_code == 2
    assert run("rule", "add", "kind = 'lora'", "--to", "team/{name}").exit_code == 0
    done = run("sync", "--check")
    assert done.exit_code == 6
    assert sorted(line.split()[:4] for line in done.stdout.splitlines()) == [
        ["planned", f"{name}@1", "→", f"team/{name}"] for name in ("alpaca", "detox", "toxic")
    ]
    done = run("sync")
    assert done.exit_code == 0, done.stderr
    lines = {line.split()[3]: line for line in done.stdout.splitlines()}
    for name in ("alpaca", "detox", "toxic"):
        commit = hub.commits(f"team/{name}")[0].oid
        assert lines[f"team/{name}"].startswith("published ")
        assert lines[f"team/{name}"].endswith(f"{hub.url}/team/{name}/commit/{commit}")
    assert "1 rule: 3 published" in done.stderr
    done = run("sync", "--format", "quiet")
    assert (done.exit_code, done.stdout) == (0, "")
    done = run("sync")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "1 rule: 3 unchanged" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sync_that_is_told_to_stop_ends_cleanly(
    number: signal.Signals, local: Registry, tmp_path: Path
) -> None:
    publishing.stock(local, tmp_path, 3)
    with HubServer(tmp_path / "hub", xet=False) as hub:
        hub.fail("POST .*/commit/", status=None, delay=5.0)
        environment = publishing.client(tmp_path, hub, xet=False)
        file = tmp_path / "report.json"
        words = publishing.command("--jobs", "1", "--report", str(file))
        # Who started the tests may have it ignored, which a process hands on.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            signal.signal(signal.SIGINT, before)
            while not any("/commit/" in each.path for each in hub.requests):
                assert process.poll() is None
                time.sleep(0.005)
            os.kill(process.pid, number)
            assert process.stderr is not None
            said = process.stderr.read()
            assert process.wait() == 130
        assert "interrupted" in said
        assert "Traceback" not in said
        # What was on its way is finished, recorded and reported, and nothing else was begun.
        cut = SyncReport.model_validate_json(file.read_text())
        assert (cut.applied, cut.pending, cut.counts) == (True, True, {"published": 1})
        assert [each.state for each in local.publications()] == ["done"]
        assert publishing.as_command(environment, tmp_path / "report.json")().counts == {
            "published": 2,
            "unchanged": 1,
        }
        assert publishing.verdict(local, hub) == publishing.Verdict(3, 0, 0, 0)


def test_the_token_is_in_nothing_that_a_sync_leaves(local: Registry, tmp_path: Path) -> None:
    """Of a Hub that fails and repeats what it was sent: output, report, rows, logs, cards and the Hub's own files."""
    publishing.stock(local, tmp_path, 4)
    with HubServer(tmp_path / "hub", xet=False) as hub:
        said = f"Bearer {LOCAL_TOKEN} of http://u:{LOCAL_TOKEN}@x.y/z?token={LOCAL_TOKEN}"
        hub.fail("POST .*/commit/", status=500, error=said)
        hub.lose_answer("POST .*/commit/")
        hub.fail("POST .*/repos/create", status=403, error=said)
        environment = {**publishing.client(tmp_path, hub, xet=False), "HF_DEBUG": "1"}
        words = publishing.command("--backoff", "0.1", "--debug", "--report", str(tmp_path / "report.json"))
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "403" in done.stdout
    assert LOCAL_TOKEN not in done.stdout + done.stderr
    places = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "report.json" for file in places)
    assert any(file.name == "registry.db" for file in places)
    assert [file for file in places if LOCAL_TOKEN.encode() in file.read_bytes()] == []
