"""``registry sweep``, ``registry sweeps`` and ``registry eval run``."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from registry import Registry, settings
from registry.results import Sweep
from tests.adapters import make_lora
from tests.cli.conftest import FakeRegistry

Run = Callable[..., Result]


@pytest.fixture
def measure(tmp_path: Path) -> str:
    """Two adapters in the catalog, and a command whose loss is smallest at 0.5."""
    with Registry.open(settings.load().home) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(tmp_path / name, seed=seed), name)
    file = tmp_path / "measure.py"
    file.write_text(
        "import json, sys\nw = float(sys.argv[2])\n"
        "if w == 1: sys.exit('no \\x1b[31mluck')\n"
        "print(json.dumps({'loss': (w - 0.5) ** 2, 'ppl': 20 + w}))\n"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(file))} {{path}} {{w}}"


def test_a_sweep_shows_every_point_and_names_the_best(run: Run, measure: str) -> None:
    words = ["sweep", "best", "a - {w}*b", "--over", "w=0:1:0.5", "--run", measure, "--metric", "loss"]
    done = run(*words, "--minimize")
    assert done.exit_code == 0, done.output
    assert "best  a - 0.5*b  is best@1" in done.stdout
    assert "exit code 1: no \\x1b[31mluck" in done.stdout
    assert "1 of 3 points failed" in done.stderr
    again = json.loads(run(*words, "--minimize", "--format", "json").stdout)
    assert (again["reused"], again["evaluated"], again["ref"], again["chosen"]) == (2, 1, "best@1", 2)
    assert run(*words, "--minimize", "--format", "quiet").stdout == "best@1\n"
    assert run("sweeps", "list", "--format", "quiet").stdout == "1\n"
    shown = json.loads(run("sweeps", "show", "1", "--format", "json").stdout)
    assert [point["state"] for point in shown["points"]] == ["ok", "ok", "failed"]
    assert (shown["computed"], shown["evaluated"], shown["reused"], shown["failed"]) == (None, 3, 0, 1)
    assert "3 points: 3 measured, 0 known, 1 failed" in run("sweeps", "show", "1").stdout
    assert run("sweeps", "show", "7").exit_code == 3
    assert "planned" in run(*words, "--minimize", "--dry-run").stdout


def test_a_search_that_is_only_planned_says_how_many_points_it_would_choose(run: Run, measure: str) -> None:
    words = ["sweep", "best", "a - {w}*b", "--over", "w=0:1", "--run", measure, "--metric", "loss:min"]
    done = run(*words, "--search", "bayes", "--budget", "5", "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "sweep  a - {w}*b  planned",
        "5 points, chosen one after another by what those before them give",
    ]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.usefixtures("measure")
def test_a_terminal_that_is_closed_ends_what_it_runs_unless_nohup_says_otherwise(
    run: Run, tmp_path: Path, ignored: bool
) -> None:
    file, pid, go = tmp_path / "slow.py", tmp_path / "pid", tmp_path / "go"
    file.write_text(
        "import os, pathlib, sys, time\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()) + '.')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "print('{\"loss\": 1}')\n"
    )
    command = shlex.join([sys.executable, str(file), "{path}"])
    words = [
        sys.executable,
        "-c",
        "from cli import main; main()",
        "sweep",
        "best",
        "a - {w}*b",
        "--over",
        "w=1",
    ]
    words += ["--run", command, "--metric", "loss:min", "--format", "quiet"]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGHUP, before)
        while not (pid.exists() and pid.read_text().endswith(".")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        if ignored:
            go.touch()
        out, err = process.communicate()
    assert err == ""
    if ignored:
        assert (process.returncode, out) == (0, "best@1\n")
        return
    assert (process.returncode, out) == (128 + signal.SIGHUP, "")
    assert not Path(f"/proc/{pid.read_text().rstrip('.')}").exists()
    assert [each["state"] for each in json.loads(run("sweeps", "list", "--format", "json").stdout)] == [
        "stopped"
    ]


def test_without_a_point_that_is_good_enough_it_fails_and_names_the_nearest(run: Run, measure: str) -> None:
    words = ["sweep", "best", "a - {w}*b", "--over", "w=0,0.5", "--run", measure, "--metric", "loss:min"]
    done = run(*words, "--constrain", "ppl < 19")
    assert done.exit_code == 1
    assert "the nearest is a - 0*b, with loss = 0.25, ppl = 20" in done.stderr
    assert run("show", "best").exit_code == 3


def test_which_way_is_better_has_to_be_said(run: Run, measure: str) -> None:
    done = run("sweep", "best", "a - {w}*b", "--over", "w=0,1", "--run", measure, "--metric", "loss")
    assert done.exit_code == 2
    assert "--minimize or --maximize" in done.stderr


def test_a_variable_that_is_given_twice_is_named(run: Run, measure: str) -> None:
    words = ["sweep", "best", "a - {w}*b", "--run", measure, "--metric", "loss:min"]
    done = run(*words, "--over", "w=0,1", "--over", "v=1", "--over", "w=2")
    assert done.exit_code == 2
    assert "w is given twice" in done.stderr


def test_versions_are_measured_and_it_is_recorded(run: Run, measure: str) -> None:
    command = measure.replace("{w}", "0.5")
    done = run("eval", "run", "a", "b", "--run", command, "--dataset", "d")
    assert done.exit_code == 0, done.output
    assert [row.split()[0] for row in done.stdout.splitlines()] == ["version", "a@1", "a@1", "b@1", "b@1"]
    assert run("eval", "list", "b").stdout.split()[0] == "dataset"
    found = json.loads(run("eval", "list", "b", "--format", "json").stdout)
    assert [(each["metric"], each["value"], each["dataset"]) for each in found] == [
        ("loss", 0, "d"),
        ("ppl", 20.5, "d"),
    ]
    again = run("eval", "run", "b", "a@1", "a", "b@1", "--run", command, "--format", "quiet")
    assert again.stdout.split() == [
        "b@1",
        "b@1",
        "a@1",
        "a@1",
    ]  # a line for each metric, and each version once
    failed = run("eval", "run", "a", "--run", measure.replace("{w}", "1"))
    assert failed.exit_code == 1
    assert "the evaluation of a@1 failed: exit code 1" in failed.stderr


def test_the_best_is_named_also_where_points_before_it_are_not_measured_yet(
    run: Run, fake: FakeRegistry
) -> None:
    def point(position: int, loss: float) -> dict[str, object]:
        text = str(position)
        return {
            "position": position,
            "values": {"w": text},
            "expression": f"a - {text}*b",
            "recipe": "sha256:0",
            "metrics": {"loss": loss},
            "state": "ok",
            "feasible": True,
        }

    fake.answers["sweep_result"] = Sweep.model_validate(
        {
            "id": 1,
            "name": "best",
            "expression": "a - {w}*b",
            "pins": {},
            "variables": {"w": "1:9:1"},
            "evaluator": "x",
            "metrics": [{"metric": "loss", "direction": "min"}],
            "search": "grid",
            "dataset": "local",
            "state": "stopped",
            "points": [point(2, 1), point(7, 0.5)],
            "chosen": 7,
        }
    )
    done = run("sweeps", "show", "1")
    assert done.exit_code == 0, done.output
    assert "best so far  a - 7*b" in done.stdout


@pytest.mark.usefixtures("measure")
def test_a_parent_without_evaluations_has_its_column_beside_the_version(run: Run) -> None:
    assert run("compose", "mix", "a + b").exit_code == 0
    assert run("eval", "add", "mix", "loss", "0.5", "--dataset", "x").exit_code == 0
    assert run("eval", "add", "a", "loss", "0.25", "--dataset", "x").exit_code == 0
    shown = run("eval", "compare", "mix").stdout.splitlines()
    assert shown[0].split()[-3:] == ["mix@1", "a@1", "b@1"]
    assert shown[1].split()[-4:] == ["0.5", "0.25", "(+0.25)", "none"]
