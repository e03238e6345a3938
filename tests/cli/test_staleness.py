"""stale, rebuild, revoke and impact."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import ANY

import pytest

from registry.errors import Conflict
from registry.results import Impact, Rebuilt, Revocation, Staleness
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


def test_stale_passes_its_options(fake: FakeRegistry, run: Run) -> None:
    fake.answers["stale"] = ()
    done = run("stale", "a", "b@prod", "--check")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "nothing is stale\n")
    assert fake.asked == {"refs": ("a", "b@prod"), "every": False}
    run("stale", "--all")
    assert fake.asked == {"refs": (), "every": True}


def test_stale_says_what_moved_and_what_would_follow(fake: FakeRegistry, run: Run) -> None:
    gone = samples.MOVED.model_copy(update={"current": None})
    fake.answers["stale"] = (
        samples.staleness(),
        samples.staleness(ref="lost@1", references=(gone,), broken=True, followers=()),
    )
    done = run("stale")
    assert done.exit_code == 0
    lines = [[cell.strip() for cell in line.split("  ") if cell] for line in done.stdout.splitlines()]
    moved = "toxic@prod was toxic@3, is toxic@4"
    assert lines[1] == ["detox@1", "stale", moved, "blend@2, mix@5", "alpaca - 0.4*toxic@prod"]
    assert lines[2][:3] == ["lost@1", "broken", "toxic@prod was toxic@3, is gone"]
    assert run("stale", "--format", "quiet").stdout.splitlines() == ["detox@1", "lost@1"]
    told = json.loads(run("stale", "--format", "json").stdout)
    assert tuple(Staleness.model_validate(one) for one in told) == fake.answers["stale"]


def test_stale_check_prints_and_then_fails(fake: FakeRegistry, run: Run) -> None:
    fake.answers["stale"] = (samples.staleness(),)
    done = run("stale", "--check", "--format", "quiet")
    assert (done.exit_code, done.stdout) == (6, "detox@1\n")
    assert done.stderr == "error: 1 composition stale: detox@1\nhint: registry rebuild\n"


def test_many_names_are_not_all_said_in_one_line(fake: FakeRegistry, run: Run) -> None:
    fake.answers["stale"] = tuple(samples.staleness(ref=f"n{i}@1") for i in range(1_200))
    last = run("stale", "--check").stderr.splitlines()[0]
    assert last.startswith("error: 1,200 compositions stale: n0@1, n1@1, ")
    assert last.endswith(" n9@1, and 1,190 more")
    assert len(run("stale", "--format", "quiet").stdout.splitlines()) == 1_200


def test_rebuild_passes_its_options(fake: FakeRegistry, run: Run) -> None:
    fake.answers["rebuild"] = ()
    assert run("rebuild").stderr == "nothing is stale\n"
    plain = {"refs": (), "dry_run": False, "device": "auto", "base_path": None, "progress": ANY}
    assert fake.asked == plain
    run("rebuild", "detox", "--dry-run", "--device", "cpu", "--base-path", "llama")
    assert fake.asked == plain | {"refs": ("detox",), "dry_run": True, "device": "cpu", "base_path": "llama"}


def test_rebuild_says_what_became_of_each(fake: FakeRegistry, run: Run) -> None:
    fake.answers["rebuild"] = (
        samples.rebuilt(warnings=("odd",)),
        samples.rebuilt(ref="same@1", state="unchanged", made=None, references=()),
    )
    done = run("rebuild")
    assert (done.exit_code, done.stderr) == (0, "warning: odd\n")
    assert [line.split()[:3] for line in done.stdout.splitlines()][1:] == [
        ["detox@1", "made", "detox@2"],
        ["same@1", "unchanged", "alpaca"],
    ]
    assert run("rebuild", "--format", "quiet").stdout.splitlines() == ["detox@2"]
    told = json.loads(run("rebuild", "--format", "json").stdout)
    assert tuple(Rebuilt.model_validate(one) for one in told) == fake.answers["rebuild"]


def test_rebuild_prints_everything_and_then_fails(fake: FakeRegistry, run: Run) -> None:
    fake.answers["rebuild"] = (
        samples.rebuilt(),
        samples.rebuilt(ref="late@1", state="blocked", made=None, reason="it follows lost@1"),
        samples.rebuilt(ref="lost@1", state="failed", made=None, reason="toxic@prod is gone"),
    )
    done = run("rebuild")
    assert done.exit_code == 1
    assert done.stdout.count("@1") == 4
    assert "error: 2 compositions of 3 not rebuilt; lost@1: toxic@prod is gone" in done.stderr


def test_revoke_says_what_it_marks(fake: FakeRegistry, run: Run) -> None:
    fake.answers["revoke"] = samples.revocation(copies=("twin@1",))
    done = run("revoke", "toxic@3", "--reason", "leaked data")
    assert done.exit_code == 0
    assert fake.asked == {"ref": "toxic@3", "reason": "leaked data"}
    assert done.stdout.splitlines() == [
        "revoked toxic@3",
        "leaked data (ada, 2026-08-01 12:30:00 UTC)",
        "2 versions derived from it: detox@1, blend@2",
    ]
    assert done.stderr.splitlines() == [
        "warning: twin@1 has the same content, and is not revoked",
        "hint: where it went: registry impact toxic@3",
    ]
    quiet = run("revoke", "toxic@3", "--reason", "leaked data", "--format", "quiet")
    assert quiet.stdout.splitlines() == ["toxic@3", "detox@1", "blend@2"]
    told = run("revoke", "toxic@3", "--reason", "leaked data", "--format", "json")
    assert Revocation.model_validate_json(told.stdout) == fake.answers["revoke"]
    assert told.stderr == ""


def test_revoke_again_and_undone(fake: FakeRegistry, run: Run) -> None:
    fake.answers["revoke"] = samples.revocation(changed=False, affected=())
    assert run("revoke", "toxic@3", "--reason", "x").stdout.splitlines()[0] == "already revoked: toxic@3"
    fake.answers["unrevoke"] = samples.revocation(undone=True)
    done = run("revoke", "toxic@3", "--undo")
    assert (fake.asked, done.stderr) == ({"ref": "toxic@3"}, "")
    assert done.stdout.splitlines()[0] == "no longer revoked: toxic@3"
    assert done.stdout.splitlines()[2] == "2 versions affected by it no more: detox@1, blend@2"
    fake.answers["revoke"] = Conflict("toxic@3 was revoked by ada before: leaked data")
    assert run("revoke", "toxic@3", "--reason", "y").exit_code == 4


@pytest.mark.parametrize("words", [[], ["--undo", "--reason", "x"]])
def test_revoke_takes_a_reason_or_undo(fake: FakeRegistry, run: Run, words: list[str]) -> None:
    assert run("revoke", "toxic@3", *words).exit_code == 2
    assert fake.calls == []


def test_impact_shows_versions_aliases_and_repos(fake: FakeRegistry, run: Run) -> None:
    fake.answers["impact"] = samples.impact()
    done = run("impact", "root")
    assert fake.asked == {"ref": "root"}
    lines = done.stdout.splitlines()
    assert lines[0] == "root@1: 3 versions derived from it, 1 alias, 2 Hub repos"
    assert lines[1].startswith("root@1 (deleted)  lora")
    assert "aliases: left@prod" in lines
    assert sum("team/" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], ["right@1", "left@1", "top@1"]), (["--repos"], ["team/toxic", "team/other"])],
)
def test_impact_in_lines_is_versions_or_repos(
    fake: FakeRegistry, run: Run, words: list[str], expected: list[str]
) -> None:
    fake.answers["impact"] = samples.impact()
    assert run("impact", "root", "--format", "quiet", *words).stdout.splitlines() == expected
    assert Impact.model_validate_json(run("impact", "root", "--format", "json").stdout) == samples.impact()


def test_impact_of_what_reached_nothing(fake: FakeRegistry, run: Run) -> None:
    alone: dict[str, Any] = {"nodes": (samples.node("root@1", revoked=True),), "edges": ()}
    graph = samples.lineage(ref="root@1", direction="down", **alone)
    fake.answers["impact"] = samples.impact(derived=graph, aliases=(), publications=(), reason="bad")
    assert run("impact", "root").stdout.splitlines() == [
        "root@1: 0 versions derived from it, 0 aliases, 0 Hub repos",
        "revoked: bad",
        "root@1 (revoked)  lora",
    ]


def test_a_graph_marks_what_is_not_to_be_used(fake: FakeRegistry, run: Run) -> None:
    nodes = (samples.node("top@1", affected=True), samples.node("left@1", 1, revoked=True, deleted=True))
    fake.answers["lineage"] = samples.lineage(nodes=nodes, edges=(samples.edge("top@1", "left@1"),))
    assert run("lineage", "top").stdout.splitlines() == [
        "top@1 (from revoked)  lora",
        "└── 1*left@1 (deleted, revoked)  lora",
    ]
    for shape in ("mermaid", "dot"):
        assert "left@1 (deleted, revoked)" in run("lineage", "top", "--as", shape).stdout
