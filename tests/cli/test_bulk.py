"""``registry add --recursive`` and ``registry sync-dir``, as they are typed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cli._parts import table
from registry import Registry
from registry.results import AddedAll, FoundAdapter, SyncedAdapter, SyncedFolder
from tests.adapters import make_ia3, make_lora
from tests.cli.conftest import FakeRegistry, Run

FOUND = (
    FoundAdapter(path="a", name="a", named=True, outcome="added", ref="a@1", digest="sha256:ab"),
    FoundAdapter(path="b c", name="b-c", named=False, outcome="present", ref="b-c@2", digest="sha256:cd"),
    FoundAdapter(
        path="d", name="d", named=True, outcome="refused", error="no weights", hint="save it", code="REFUSED"
    ),
)


def test_a_report_of_what_was_added_and_refused(fake: FakeRegistry, run: Run) -> None:
    fake.answers["add_all"] = AddedAll(root="runs", added=1, present=1, refused=1, found=FOUND)
    done = run("add", "--recursive", "runs", "--prefix", "p", "--base", "b", "--tag", "k=v", "--task", "t")
    assert done.exit_code == 7
    assert fake.asked["prefix"] == "p"
    assert (fake.asked["base"], fake.asked["tags"], fake.asked["task"]) == ("b", {"k": "v"}, "t")
    assert "added 1 adapter, 1 there already, 1 refused" in done.stdout
    for part in ("no weights", "save it", "b-c"):
        assert part in done.stdout
    assert "1 adapter of 3 refused" in done.stderr
    quiet = run("add", "--recursive", "runs", "--format", "quiet")
    assert (quiet.stdout, quiet.exit_code) == ("a@1\nb-c@2\n", 7)
    said = run("add", "--recursive", "runs", "--format", "json")
    assert [each["outcome"] for each in json.loads(said.stdout)["found"]] == ["added", "present", "refused"]
    assert json.loads(said.stderr)["error"]["code"] == "REFUSED"


def test_nothing_refused_is_success(fake: FakeRegistry, run: Run) -> None:
    fake.answers["add_all"] = AddedAll(root="runs", added=1, present=1, refused=0, found=FOUND[:2])
    assert run("add", "--recursive", "runs").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--recursive", "runs", "name"],
        ["--recursive", "runs", "--new"],
        ["--recursive", "runs", "--parent", "a"],
        ["--recursive", "runs", "--base-path", "x"],
        ["runs"],
        ["runs", "name", "--prefix", "p"],
    ],
)
def test_options_that_contradict_each_other(fake: FakeRegistry, run: Run, words: list[str]) -> None:
    assert run("add", *words).exit_code == 2
    assert fake.calls == []


def synced(*outcomes: str, applied: bool = True, code: str | None = None) -> SyncedFolder:
    adapters = tuple(
        SyncedAdapter(
            folder=f"n{i}",
            name=f"n{i}",
            ref=f"n{i}@1",
            outcome=outcome,
            reason="why" if i else None,
            code=code,
        )
        for i, outcome in enumerate(outcomes)
    )
    return SyncedFolder(
        path="srv", alias="prod", applied=applied, changed="added" in outcomes, adapters=adapters
    )


def test_a_reason_is_whole_on_a_narrow_terminal() -> None:
    reason = "its rank 128 is above 64: truncate it with registry compose --rank 64"
    rows = [["wide", "wide@1", "left out", reason]]
    screen = Console(width=60, force_terminal=True, color_system=None, file=io.StringIO())
    with screen.capture() as shown:
        screen.print(table(screen, ["folder", "version", "outcome", "because"], rows, prose=["because"]))
    lines = shown.get().splitlines()[2:]
    assert " ".join(" ".join(lines).split()) == f"wide wide@1 left out {reason}"
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)


def test_sync_says_one_line_per_adapter(fake: FakeRegistry, run: Run) -> None:
    fake.answers["sync_dir"] = synced("added", "left out")
    done = run("sync-dir", "srv", "--alias", "prod", "--base", "b", "--max-rank", "16")
    assert done.exit_code == 0
    assert (fake.asked["alias"], fake.asked["base"], fake.asked["max_rank"], fake.asked["dry_run"]) == (
        "prod",
        "b",
        16,
        False,
    )
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["n0", "n0@1", "added"],
        ["n1", "n1@1", "left"],
    ]
    assert run("sync-dir", "srv", "--alias", "prod", "--format", "quiet").stdout == "n0@1\n"
    assert json.loads(run("sync-dir", "srv", "--alias", "prod", "--format", "json").stdout)["changed"] is True


def test_check_exits_6_where_something_would_change(fake: FakeRegistry, run: Run) -> None:
    fake.answers["sync_dir"] = synced("added", applied=False)
    assert run("sync-dir", "srv", "--alias", "prod", "--check").exit_code == 6
    assert fake.asked["dry_run"] is True
    assert run("sync-dir", "srv", "--alias", "prod", "--dry-run").exit_code == 0
    assert fake.asked["dry_run"] is True
    fake.answers["sync_dir"] = synced("unchanged", applied=False)
    assert run("sync-dir", "srv", "--alias", "prod", "--check").exit_code == 0


def test_a_folder_that_could_not_be_synced_is_an_error(fake: FakeRegistry, run: Run) -> None:
    fake.answers["sync_dir"] = synced("failed", code="CONFLICT")
    assert run("sync-dir", "srv", "--alias", "prod").exit_code == 4
    fake.answers["sync_dir"] = synced("failed", code="INTEGRITY")
    assert run("sync-dir", "srv", "--alias", "prod").exit_code == 5


@pytest.mark.usefixtures("sqlite_url")
def test_all_of_it_for_real(run: Run, tmp_path: Path) -> None:
    make_lora(tmp_path / "runs" / "a")
    make_ia3(tmp_path / "runs" / "team" / "b")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "adapter_config.json").write_text("[]")
    done = run("add", "--recursive", str(tmp_path / "runs"))
    assert done.exit_code == 7
    assert "bad" in done.stdout
    with Registry.open() as catalog:
        for name in ("a", "team/b"):
            catalog.set_alias(name, "prod", 1)
    where = ["sync-dir", str(tmp_path / "srv"), "--alias", "prod"]
    assert run(*where, "--check").exit_code == 6
    assert run(*where).exit_code == 0
    assert run(*where, "--check").exit_code == 0
    assert (tmp_path / "srv" / "a" / "adapter_config.json").exists()
    slip = run("sync-dir", str(tmp_path / "srv"), "--alias", "prdo")
    assert (slip.exit_code, slip.stdout) == (3, "")
    assert "'prod'" in slip.stderr
    with Registry.open() as catalog:
        for name in ("a", "team/b"):
            catalog.delete_alias(name, "prod")
    assert run(*where).exit_code == 0
    assert not (tmp_path / "srv" / "a").exists()
