"""Sweeps: every point once, measured once, the best one a version; whatever ends in between, the same again goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from registry import Registry
from registry.decimals import format_decimal
from registry.errors import ExpressionError, NotFound, Refused, RegistryError, StorageFailure, UsageError
from registry.results import Sweep
from registry.verbs import _bayes, _points, compose
from tests.adapters import make_lora
from tests.catalog.drafts import statements

W = {"w": "0:1:0.1"}
Seen = list[dict[str, Decimal]]


@pytest.fixture
def pair(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    return catalog


@pytest.fixture
def duo(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    return local


def parabola(seen: Seen) -> Callable[[Path, Mapping[str, Decimal]], dict[str, float]]:
    """A loss whose smallest value is at 0.3; notes what it was asked."""

    def measure(path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        assert (path / "adapter_model.safetensors").is_file()
        seen.append(dict(values))
        w = float(values["w"])
        return {"loss": (w - 0.3) ** 2, "ppl": 20 + w}

    return measure


def script(folder: Path, text: str) -> str:
    """A command that runs this Python with the adapter's folder and the value as its arguments."""
    file = folder / "measure.py"
    file.write_text(f"import json, os, sys, time, pathlib\n{text}\n")
    return f"{sys.executable} {file} {{path}} {{w}}"


def sweep(catalog: Registry, seen: Seen, over: Mapping[str, str] = W, **more: object) -> Sweep:
    options = {"metric": "loss", "minimize": True, "evaluator": "parabola@1", **more}
    return catalog.sweep("best", "a - {w}*b", over=over, evaluate=parabola(seen), **options)  # type: ignore[arg-type]


def test_the_best_point_becomes_a_version_that_compose_would_have_made(
    pair: Registry, tmp_path: Path
) -> None:
    seen: Seen = []
    done = sweep(pair, seen)
    assert (done.state, len(done.points), done.computed, done.evaluated, len(seen)) == (
        "done",
        11,
        11,
        11,
        11,
    )
    assert done.chosen == 4
    assert done.points[3].values == {"w": "0.3"}
    version = pair.show("best")
    assert done.ref == version.ref == "best@1"
    assert version.recipe is not None
    assert (version.recipe.expression, version.recipe.resolved) == ("a - 0.3*b", "a@1 - 0.3*b@1")
    assert {(each.metric, each.dataset) for each in version.evaluations} == {
        ("loss", "local"),
        ("ppl", "local"),
    }
    assert pair.compose("other", "a - 0.3*b").digest == version.digest
    assert pair.sweep_result(1).model_dump(include={"points", "chosen", "ref"}) == done.model_dump(
        include={"points", "chosen", "ref"}
    )
    assert pair.verify_database().ok
    assert list(tmp_path.glob("home/.*registry-partial")) == []


def test_the_same_again_measures_and_writes_nothing(pair: Registry) -> None:
    seen: Seen = []
    first = sweep(pair, seen)
    events = len(pair.events())
    again = sweep(pair, seen)
    assert len(seen) == 11
    assert (again.id, again.ref, again.created) == (first.id, first.ref, False)
    assert (again.computed, again.evaluated, again.reused) == (0, 0, 11)
    assert len(pair.events()) == events


def test_a_finer_grid_computes_and_measures_only_what_is_new(
    duo: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Seen = []
    sweep(duo, seen, {"w": "0:1:0.5"})
    computed = []
    real = compose.compute

    def counted(*arguments: object, **named: object) -> object:
        computed.append(arguments)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("registry.verbs.sweep.compute", counted)
    finer = sweep(duo, seen, {"w": "0:1:0.25"})
    assert [each["w"] for each in seen[3:]] == [Decimal("0.25"), Decimal("0.75")]
    assert len(computed) == finer.computed == finer.evaluated == 2
    assert finer.reused == 3
    recorded = duo.sweep_result(finer.id or 0)
    assert (recorded.computed, recorded.evaluated, recorded.reused) == (None, 2, 3)
    assert finer.ref == "best@2"


def test_another_evaluator_measures_again_but_computes_nothing(duo: Registry) -> None:
    seen: Seen = []
    sweep(duo, seen)
    other = sweep(duo, seen, evaluator="parabola@2")
    assert (other.computed, other.evaluated) == (0, 11)
    assert sweep(duo, seen, again=True).evaluated == 11
    assert sweep(duo, seen, evaluator=None).evaluated == sweep(duo, seen, evaluator=None).evaluated == 11


def test_an_alias_that_moves_meanwhile_changes_nothing(duo: Registry, tmp_path: Path) -> None:
    duo.set_alias("b", "prod", 1)
    duo.add(make_lora(tmp_path / "b2", seed=7), "b")

    def moving(_path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        duo.set_alias("b", "prod", 2)
        return {"loss": float(values["w"])}

    done = duo.sweep(
        "best", "a - {w}*b@prod", over={"w": "0.5,1"}, evaluate=moving, metric="loss", minimize=True
    )
    assert done.pins == {"a": "a@1", "b@prod": "b@1"}
    recipe = duo.show("best").recipe
    assert recipe is not None
    assert recipe.resolved == "a@1 - 0.5*b@1"


def test_several_variables_make_a_grid_and_equal_points_are_measured_once(duo: Registry) -> None:
    seen: Seen = []

    def measure(_path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        seen.append(dict(values))
        return {"loss": float(values["u"] * values["v"])}

    done = duo.sweep(
        "best",
        "{u}*({v}*a) + b",
        over={"u": [1, "0.5"], "v": "0.5,1"},
        evaluate=measure,
        metric="loss",
        minimize=True,
    )
    assert [each.values for each in done.points] == [
        {"u": "1", "v": "0.5"}, {"u": "1", "v": "1"}, {"u": "0.5", "v": "0.5"}, {"u": "0.5", "v": "1"},
    ]  # fmt: skip
    assert len(seen) == 3  # 1 x 0.5 is 0.5 x 1
    assert done.chosen == 3


def test_two_weights_that_add_up_to_one_are_one_variable(duo: Registry) -> None:
    seen: Seen = []
    done = duo.sweep(
        "best",
        "{w}*a + {1-w}*b",
        over={"w": "0:1:0.25"},
        evaluate=parabola(seen),
        metric="loss",
        minimize=True,
    )
    said = [point.expression for point in done.points]
    assert said == ["0*a + 1*b", "0.25*a + 0.75*b", "0.5*a + 0.5*b", "0.75*a + 0.25*b", "1*a + 0*b"]
    assert (done.chosen, done.ref) == (2, "best@1")
    assert duo.compose("other", "0.25*a + 0.75*b").digest == duo.show("best").digest


@given(
    st.decimals("0", "9", places=3),
    st.decimals("-1e9", "1e9", places=9, allow_nan=False, allow_infinity=False),
)
def test_a_number_less_a_variable_is_exact(whole: Decimal, value: Decimal) -> None:
    text = f"{{ {whole} - w }}*a"
    _points.check_template(text, ["w"])
    assert Decimal(_points.filled(text, {"w": value}).removesuffix("*a")) == whole - value


def test_failures_are_recorded_and_tried_again(duo: Registry, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    run = script(
        tmp_path,
        f"w = float(sys.argv[2])\n"
        f"if w > 0.5 and not os.path.exists({str(flag)!r}): sys.exit('no \\x1b[31mluck')\n"
        "print('words'); print(json.dumps({'loss': -w})); print()",
    )
    done = duo.sweep(
        "best", "a - {w}*b", over={"w": "0,0.5,1"}, run=run, metric="loss", minimize=True, retries=1
    )
    assert [each.state for each in done.points] == ["ok", "ok", "failed"]
    assert (done.failed, done.chosen, done.points[2].attempts) == (1, 2, 2)
    assert done.points[2].error == "exit code 1: no \\x1b[31mluck"
    flag.touch()
    again = duo.sweep(
        "best", "a - {w}*b", over={"w": "0,0.5,1"}, run=run, metric="loss", minimize=True, retries=1
    )
    assert (again.id, again.evaluated, again.failed, again.chosen) == (done.id, 1, 0, 3)
    assert duo.verify_database().ok


@pytest.mark.parametrize(
    ("prints", "told"),
    [
        ("pass", "it printed nothing"),
        ("print('done')", "no JSON object of numbers: done"),
        ("print('[1]')", "no JSON object"),
        ("print({'loss': 1})", "print(json.dumps(…))): {'loss': 1}"),
        ("print(json.dumps({'loss': 1}, indent=1))", "write it on one line"),
        ('print(\'{"loss": {"a": 1}}\')', "its loss is {'a': 1}, not a finite number"),
        ('print(\'{"loss": 1, "": 1}\')', "no usable name: the metric is empty"),
        (
            'print(\'{"loss": 1, "a\\\\u001b[31m": 1}\')',
            "no usable name: the metric holds control characters",
        ),
        ("print('{}')", "it gave 0 metrics, not 1 to 1000"),
        ("print('no such dataset'); sys.exit(3)", "exit code 3: no such dataset"),
        ("print('some log'); sys.exit('no luck')", "exit code 1: no luck"),
        ("print('{\"loss\": NaN}')", "its loss is nan, not a finite number"),
        ("print('{\"loss\": true}')", "its loss is True"),
        ('print(\'{"loss": "1"}\')', "its loss is '1'"),
        ("print('{\"loss\": 1' + '0' * 400 + '}')", "its loss is"),
        ("print('x' * 10_000_000)", "no JSON object"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
def test_what_is_no_metric_fails_and_says_why(duo: Registry, tmp_path: Path, prints: str, told: str) -> None:
    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, run=script(tmp_path, prints), metric="loss:max")
    assert (done.chosen, done.ref, done.points[0].state) == (None, None, "failed")
    assert told in str(done.points[0].error)
    assert done.advice == f"a - 1*b: {done.points[0].error}"
    with pytest.raises(NotFound):
        duo.show("best")


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_metric_that_nobody_gives_ends_it_at_the_first_point(
    duo: Registry, tmp_path: Path, jobs: int
) -> None:
    log = tmp_path / "log"
    run = script(
        tmp_path,
        f"with open({str(log)!r}, 'a') as file: file.write(sys.argv[2] + '\\n')\n"
        "print(json.dumps({'loss': float(sys.argv[2]), 'ppl': 20}))",
    )
    options: dict[str, Any] = {"over": W, "run": run, "minimize": True, "jobs": jobs}
    with pytest.raises(Refused, match="gives no lose; it gives loss, ppl") as told:
        duo.sweep("best", "a - {w}*b", metric="lose", **options)
    assert "--metric" in str(told.value.hint)
    asked = log.read_text().split()
    assert 1 <= len(asked) <= 2 * jobs
    stopped = duo.sweep_result(1)
    assert stopped.state == "stopped"
    kept = {point.values["w"] for point in stopped.points if point.metrics}
    assert kept
    log.unlink()
    done = duo.sweep("best", "a - {w}*b", metric="loss", **options)
    assert (done.chosen, done.evaluated, done.reused) == (1, 11 - len(kept), len(kept))
    assert set(log.read_text().split()) == {point.values["w"] for point in done.points} - kept


def test_a_point_alone_that_gives_no_metric_fails_alone(duo: Registry, tmp_path: Path) -> None:
    run = script(tmp_path, "print(json.dumps({'ppl' if sys.argv[2] == '0.5' else 'loss': 1}))")
    done = duo.sweep("best", "a - {w}*b", over={"w": "0,0.5,1"}, run=run, metric="loss:max")
    assert [each.state for each in done.points] == ["ok", "failed", "ok"]
    assert done.points[1].error == "it gives no loss; it gives ppl"


def test_what_nobody_knows_in_braces_is_refused_and_said_to_be_text_is_text(
    duo: Registry, tmp_path: Path
) -> None:
    for place in ("W", "ref", "HOME"):
        with pytest.raises(UsageError, match=rf"the command names \{{{place}\}}") as told:
            duo.sweep("best", "a - {w}*b", over=W, run=f"eval {{path}} ${{{place}}}", metric="loss:max")
        assert told.value.hint == (f"there is {{path}}, {{w}}; the text itself is written {{{{{place}}}}}")
    with pytest.raises(UsageError, match=r"the command names \{w\}"):
        duo.run_evaluation(["a"], run="eval {path} {w}")
    said = tmp_path / "said"
    run = script(tmp_path, f"open({str(said)!r}, 'w').write(repr(sys.argv[2:]))\nprint('{{\"loss\": 1}}')")
    run += """ '{{w}}' '{"w":{w}, "other": {"x": 1}}' '{}' '{1}' '{a,b}' '${{HOME}}'"""
    done = duo.sweep("best", "a - {w}*b", over={"w": "0.5"}, run=run, metric="loss:max")
    assert done.failed == 0
    assert said.read_text() == repr(
        ["0.5", "{w}", '{"w":0.5, "other": {"x": 1}}', "{}", "{1}", "{a,b}", "${HOME}"]
    )


def test_another_attempt_gets_the_adapter_as_it_was(duo: Registry, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = (
        "import hashlib\npath = pathlib.Path(sys.argv[1])\n"
        "seen = sorted((each.name, hashlib.sha256(each.read_bytes()).hexdigest()) for each in path.iterdir())\n"
        f"with open({str(log)!r}, 'a') as file: file.write(json.dumps(seen) + '\\n')\n"
        "for each in path.iterdir(): each.write_text('spoilt')\n"
        "(path / 'more').write_text('left')\nsys.exit('again')"
    )
    run = script(tmp_path, text)
    done = duo.sweep("best", "a - {w}*b", over={"w": "0.5"}, run=run, metric="loss:max", retries=2)
    assert (done.failed, done.points[0].attempts) == (1, 3)
    first, *others = map(json.loads, log.read_text().splitlines())
    assert others == [first, first]
    assert [name for name, _ in first] == ["adapter_config.json", "adapter_model.safetensors"]
    log.unlink()
    with pytest.raises(RegistryError, match="again"):
        duo.run_evaluation(["a"], run=run.removesuffix(" {w}"), retries=1)
    first, *others = map(json.loads, log.read_text().splitlines())
    assert others == [first]


@pytest.mark.parametrize("text", ["a - {w}*b", "{w}*a + {1-w}*b", "truncate(a - {w}*b, rank=2)"])
def test_every_point_has_the_bytes_that_compose_gives(
    duo: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    seen: dict[Decimal, bytes] = {}

    def measure(path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        seen[values["w"]] = (path / "adapter_model.safetensors").read_bytes()
        return {"loss": float(values["w"])}

    done = duo.sweep("best", text, over={"w": "0,0.2,0.4,0.7,1,0.1"}, evaluate=measure, metric="loss:max")
    assert done.computed == len(seen) == 6
    with Registry.open(tmp_path / "other") as other:
        for name in "ab":
            other.add(tmp_path / name, name)
        for point in done.points:
            made = other.compose("one", point.expression)
            other.checkout(made.ref, tmp_path / f"point{point.position}")
            value = Decimal(point.values["w"])
            assert seen[value] == (tmp_path / f"point{point.position}/adapter_model.safetensors").read_bytes()
        monkeypatch.setattr("registry.verbs.compose.compute", None)  # each is known here by its recipe
        for point in done.points:
            assert (
                duo.compose("known", point.expression).digest == other.compose("one", point.expression).digest
            )


def test_a_time_limit_ends_the_whole_process_group(duo: Registry, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run = script(
        tmp_path,
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\ntime.sleep(600)",
    )
    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, run=run, metric="loss:max", timeout=3)
    assert done.points[0].state == "timeout"
    assert "longer than 3 s" in str(done.points[0].error)
    assert gone(int(pid.read_text()))


def gone(pid: int) -> bool:
    """Whether a process has ended, or is about to."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


KILLED = """
import sys
from pathlib import Path
from registry import Registry
with Registry.open() as catalog:
    catalog.sweep("best", "a - {w}*b", over={"w": "0:1:0.1"}, run=sys.argv[1], metric="loss", minimize=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_goes_on_where_it_was(duo: Registry, tmp_path: Path, how: signal.Signals) -> None:
    hold, pid, log = tmp_path / "hold", tmp_path / "pid", tmp_path / "log"
    hold.touch()
    run = script(
        tmp_path,
        f"w = sys.argv[2]\nwith open({str(log)!r}, 'a') as file: file.write(w + '\\n')\n"
        f"if w == '0.4' and os.path.exists({str(hold)!r}):\n"
        f"    pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)\n"
        "print(json.dumps({'loss': (float(w) - 0.7) ** 2}))",
    )
    # Who started the tests may have it ignored, which a process hands on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, run], stderr=subprocess.DEVNULL, env={**os.environ, "REGISTRY_HOME": str(tmp_path / "home")}
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    assert process.wait() != 0
    if how == signal.SIGINT:
        assert gone(int(pid.read_text()))
        assert duo.sweeps()[0].state == "stopped"
    else:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert [each.values["w"] for each in duo.sweep_result(1).points][:4] == ["0", "0.1", "0.2", "0.3"]
    hold.unlink()
    done = duo.sweep("best", "a - {w}*b", over=W, run=run, metric="loss", minimize=True)
    assert (done.id, done.state, done.points[7].position) == (1, "done", done.chosen)
    assert done.evaluated == 7
    assert sorted(log.read_text().split()) == sorted([*(f"{n / 10:g}" for n in range(11)), "0.4"])
    assert list((tmp_path / "home").glob(".*registry-partial")) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_who_loses_the_database_goes_on_where_it_was(postgres_url: str, tmp_path: Path, jobs: int) -> None:
    """Every connection is ended while a point is measured, and the one that holds the turn among them."""
    seen: list[str] = []
    ended: list[int] = []
    engine = create_engine(postgres_url)

    def measure(_path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        seen.append(str(values["w"]))
        if values["w"] == Decimal("0.4") and not ended:
            with engine.connect() as connection:
                found = connection.scalars(
                    text(
                        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
                ended.append(found.one())
        return {"loss": (float(values["w"]) - 0.7) ** 2}

    def once() -> Sweep:
        with Registry.open(tmp_path / "home", database_url=postgres_url) as catalog:
            return catalog.sweep(
                "best", "a - {w}*b", over=W, evaluate=measure, evaluator="one", metric="loss", minimize=True, jobs=jobs
            )  # fmt: skip

    with Registry.open(tmp_path / "home", database_url=postgres_url) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(tmp_path / name, seed=seed), name)
    with suppress(StorageFailure):
        once()
    assert ended[0] >= 1
    before = len(seen)
    done = once()
    engine.dispose()
    assert (done.state, done.chosen, done.failed) == ("done", 8, 0)
    assert len(seen) <= 11 + 2 * jobs
    assert len(seen) - before == done.evaluated
    with Registry.open(tmp_path / "home", database_url=postgres_url) as catalog:
        assert len(catalog.sweeps()) == len(catalog.log("best")) == 1
        assert catalog.verify_database().ok
    assert not list(tmp_path.glob("home/.point*"))


def test_what_ended_beside_what_went_wrong_is_kept(duo: Registry) -> None:
    """A function is not interrupted: what it gives after Ctrl-C, or after an error elsewhere, has cost its time."""
    seen: list[Decimal] = []
    broken, together = threading.Event(), threading.Barrier(3)

    def measure(_: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        seen.append(values["w"])
        if not broken.is_set():
            together.wait(60)
            if not values["w"]:
                broken.set()
                raise KeyboardInterrupt
            broken.wait(60)
        return {"loss": float(values["w"])}

    options: dict[str, Any] = {
        "over": {"w": "0,1,2"},
        "evaluate": measure,
        "evaluator": "m",
        "metric": "loss:min",
    }
    with pytest.raises(KeyboardInterrupt):
        duo.sweep("best", "a - {w}*b", jobs=3, **options)
    assert {each.values["w"] for each in duo.sweep_result(1).points} == {"1", "2"}
    done = duo.sweep("best", "a - {w}*b", jobs=3, **options)
    assert (done.evaluated, done.reused, seen[3:]) == (1, 2, [Decimal(0)])


def test_two_at_once_measure_every_point_once(pair: Registry) -> None:
    seen: Seen = []
    done: list[Sweep] = []
    both = [threading.Thread(target=lambda: done.append(sweep(pair, seen, jobs=2))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(seen) == 11
    assert {each.ref for each in done} == {"best@1"}
    assert len(pair.sweeps("BEST")) == 1


def test_constraints_and_what_is_nearest_to_them(duo: Registry) -> None:
    seen: Seen = []
    done = sweep(duo, seen, constrain=["ppl < 20.2"])
    assert done.points[1].feasible
    assert not done.points[2].feasible
    assert done.chosen == 2
    none = sweep(duo, seen, constrain=["ppl < 19"])
    assert (none.chosen, none.ref, none.evaluated) == (None, None, 0)
    assert str(none.advice).startswith("the nearest is a - 0*b, with ")


def test_a_search_finds_what_a_grid_would_and_is_the_same_by_its_seed(duo: Registry) -> None:
    pytest.importorskip("optuna")
    first, second, third = Seen(), Seen(), Seen()
    options: dict[str, Any] = {"search": "bayes", "budget": 20, "over": {"w": "0:1"}}
    one = sweep(duo, first, evaluator="one", seed=5, **options)
    other = sweep(duo, second, evaluator="two", seed=5, **options)
    assert first == second
    assert [each.values for each in one.points] == [each.values for each in other.points]
    assert abs(float(one.points[(one.chosen or 0) - 1].values["w"]) - 0.3) < 0.1
    again = sweep(duo, first, evaluator="one", seed=5, **options)
    assert (again.evaluated, again.id) == (0, one.id)
    assert [each.values for each in sweep(duo, third, evaluator="three", seed=6, **options).points] != [
        each.values for each in one.points
    ]


def test_a_search_that_comes_to_other_points_records_them_with_what_they_gave(duo: Registry) -> None:
    """Afresh, with other ``jobs``, it is the same sweep, of which it asks for other points."""
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"search": "bayes", "budget": 14, "over": {"w": "0:1"}}
    one = sweep(duo, [], **options)
    two = sweep(duo, [], jobs=4, again=True, **options)
    assert two.id == one.id
    assert [each.values for each in two.points] != [each.values for each in one.points]
    stored = duo.sweep_result(two.id or 0)
    assert (stored.points[13].values, stored.chosen) == (two.points[13].values, two.chosen)
    grid = sweep(duo, [], {"w": ",".join(each.values["w"] for each in (*one.points, *two.points))})
    for each in (*stored.points, *grid.points):
        assert each.metrics is not None
        assert each.metrics["ppl"] == 20 + float(each.values["w"])
        assert each.expression == f"a - {each.values['w']}*b"
        assert duo.check(each.expression).recipe_digest == each.recipe


def test_a_search_begins_with_what_was_measured_of_its_own_recipes_only(
    duo: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    begun: list[list[Mapping[str, Decimal]]] = []

    class Noted(_bayes.Bayes):
        def __init__(self, *arguments: Any, known: Any, **named: Any) -> None:
            told = list(known)
            begun.append([values for values, _ in told])
            super().__init__(*arguments, known=told, **named)

    monkeypatch.setattr(_bayes, "Bayes", Noted)
    sweep(duo, [], {"w": "0.2,0.4"})
    sweep(duo, [], {"w": "0.3"}, rank=1)
    options: dict[str, Any] = {"search": "bayes", "budget": 1, "over": {"w": "0:1"}}
    sweep(duo, [], **options)
    sweep(duo, [], rank=1, **options)
    sweep(duo, [], dtype="float16", **options)
    plain, truncated, rounded = ([values["w"] for values in each][:2] for each in begun)
    assert (plain, truncated[:1], rounded) == ([Decimal("0.2"), Decimal("0.4")], [Decimal("0.3")], [])


@pytest.mark.parametrize(
    ("low", "high"), [("0", "0.0000001"), ("0", "1e25"), ("1e25", "10000000000000000000000001")]
)
def test_a_search_has_many_values_in_any_range(low: str, high: str) -> None:
    pytest.importorskip("optuna")
    variable = _points.variable("w", f"{low}:{high}")
    search = _bayes.Bayes([variable], _points.objectives(["loss:min"], minimize=True), [], seed=0, known=[])
    found = {values["w"] for batch in search.batches(10, 10) for _, values in batch}
    assert all(Decimal(low) <= each <= Decimal(high) for each in found)
    assert len(found) == 10 or float(low) == float(high)


def test_points_that_are_there_twice_cost_no_look_at_all_the_others(duo: Registry) -> None:
    """``{v}*{w}`` of each pair of values is there twice; recording it reads these two, and not the whole sweep."""
    read = []
    for count in (3, 6):
        values = ",".join(map(str, range(1, count + 1)))
        with statements(duo._database) as seen:
            duo.sweep(
                f"best{count}", "{v}*({w}*b)", over={"v": values, "w": values}, metric="loss:min",
                evaluate=lambda _, values: {"loss": float(values["v"] * values["w"])},
            )  # fmt: skip
        read.append([each for each, _ in seen if each.endswith("ORDER BY sweep_points.position")])
    assert len(read[0]) == len(read[1])


def test_known_points_are_recorded_by_as_many_looks_however_many_they_are(pair: Registry) -> None:
    seen: Seen = []
    looks = []
    for name, values in (("few", "0:1:0.5"), ("many", "0:1:0.1")):
        sweep(pair, seen, {"w": values})
        with statements(pair._database) as asked:
            again = pair.sweep(
                name,
                "a - {w}*b",
                over={"w": values},
                evaluate=parabola(seen),
                evaluator="parabola@1",
                metric="loss:min",
            )
        assert (again.evaluated, again.reused) == (0, len(again.points))
        looks.append(len([each for each, _ in asked if each.startswith("SELECT")]))
    assert looks[0] == looks[1]


MOODY: dict[str, Any] = {
    "over": {"w": "0:1"},
    "metric": "loss:min",
    "evaluator": "moody",
    "record": False,
    "search": "bayes",
    "budget": 16,
}


def moody(seen: Seen, fails: int | None = None) -> Callable[[Path, Mapping[str, Decimal]], dict[str, float]]:
    """A loss from which one can tell the value; fails once, at that call."""

    def measure(_: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        seen.append(dict(values))
        if len(seen) == fails:
            raise ValueError("out of memory")
        return {"loss": abs(float(values["w"]) - 0.3), "w": float(values["w"])}

    return measure


@pytest.mark.parametrize("change", [{"jobs": 4}, {"fails": None}])
def test_a_search_goes_on_with_the_points_it_has_and_keeps_their_values(
    duo: Registry, change: dict[str, Any]
) -> None:
    """By what it is told then it would ask for others; what is recorded of a point is of that point."""
    pytest.importorskip("optuna")
    fails = 3 if "fails" in change else None
    first = duo.sweep("best", "a - {w}*b", evaluate=moody([], fails), **MOODY)
    more = {name: value for name, value in change.items() if name != "fails"}
    second = duo.sweep("best", "a - {w}*b", evaluate=moody([]), **MOODY, **more)
    assert second.id == first.id
    assert second.evaluated == (0 if fails is None else 1)
    assert [each.values for each in second.points] == [each.values for each in first.points]
    stored = duo.sweep_result(first.id or 0)
    for each, kept in zip(second.points, stored.points, strict=True):
        assert kept.metrics is not None
        assert (kept.values, kept.expression, kept.recipe) == (each.values, each.expression, each.recipe)
        assert kept.metrics["w"] == float(kept.values["w"])
    assert stored.chosen == second.chosen


def test_a_search_that_measures_afresh_records_new_points_as_they_are(duo: Registry) -> None:
    pytest.importorskip("optuna")
    first = duo.sweep("best", "a - {w}*b", evaluate=moody([], 10), **MOODY)
    second = duo.sweep("best", "a - {w}*b", evaluate=moody([]), again=True, **MOODY)
    assert [each.values for each in second.points] != [each.values for each in first.points]
    for kept in duo.sweep_result(first.id or 0).points:
        assert (kept.metrics or {})["w"] == float(kept.values["w"])
        assert kept.expression == f"a - {kept.values['w']}*b"


@pytest.mark.parametrize("metric", [["loss:min"], ["loss:min", "ppl:min"]])
@pytest.mark.parametrize("constrain", [[], ["ppl < 20.9"]])
def test_a_search_turns_away_from_points_that_fail(
    duo: Registry, metric: list[str], constrain: list[str]
) -> None:
    """They lie beside the best ones; who learns nothing of them looks there most of the time."""
    pytest.importorskip("optuna")

    def measure(path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        if Decimal("0.4") < values["w"] < Decimal("0.74"):
            raise ValueError("out of memory")
        return parabola([])(path, values)

    options: dict[str, Any] = {"search": "bayes", "budget": 40, "constrain": constrain, "record": False}
    done = duo.sweep("best", "a - {w}*b", over={"w": "0:1"}, evaluate=measure, metric=metric, **options)
    failed = [each.state == "failed" for each in done.points[20:]]
    assert sum(failed) <= 7
    assert done.chosen is not None


@pytest.mark.parametrize("over", ["0:0.000001", "0.1:0.1000005", "1e-30:2e-30", "-3e30:1e30", "1e25:1.1e25"])
def test_a_search_of_a_range_of_any_size_finds_different_points_in_it(duo: Registry, over: str) -> None:
    pytest.importorskip("optuna")
    seen: Seen = []
    low, high = map(Decimal, over.split(":"))
    done = sweep(duo, seen, over={"w": over}, search="bayes", budget=6, record=False)
    assert len({each.values["w"] for each in done.points}) == 6
    assert all(low <= Decimal(each.values["w"]) <= high for each in done.points)
    assert all(each.state == "ok" for each in done.points)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"over": {"v": "0:1:0.1"}}, ExpressionError, "no values are given for {w}"),
        ({"over": {**W, "v": "1"}}, UsageError, "v is not in the expression"),
        ({"over": {}}, UsageError, "no variable"),
        ({"over": {"w": "0:1:0"}}, UsageError, "does not come from 0 to 1"),
        ({"over": {"w": "0:1:-1"}}, UsageError, "does not come from 0 to 1"),
        ({"over": {"w": "0:1"}}, UsageError, "no step"),
        ({"over": {"w": "0:1:0.00001"}}, UsageError, "100001 values"),
        ({"over": {"w": "0:x:1"}}, UsageError, "'x' is no number"),
        ({"over": {"path": "1"}}, UsageError, "cannot be the name"),
        ({"metric": "a:min", "constrain": ["ppl ~ 3"]}, UsageError, "no constraint"),
        ({"budget": 3}, UsageError, "a budget"),
        ({"jobs": 0}, UsageError, "jobs"),
        ({"retries": -1}, UsageError, "retries are 0 or more, not -1"),
        ({"over": {"w": 0.5}}, UsageError, "w=0.5 is neither a range nor a list"),
        ({"over": {"w": []}}, UsageError, "no values are given for w"),
        ({"over": {"w": " "}}, UsageError, "no values are given for w"),
        ({"over": {"w": "0.5,1e39"}}, ExpressionError, "is not a finite 32-bit float"),
        ({"minimize": None}, UsageError, "nothing says whether less or more of 'loss' is better"),
        *(
            ({"constrain": each}, UsageError, "is no constraint$")
            for each in (
                "ppl == 21",
                "ppl != 2",
                "1 < ppl < 2",
                "ppl => 1",
                "ppl<2 and loss>0",
                "ppl < 2, loss = 1",
            )
        ),
        ({"timeout": 3.0}, UsageError, "no time limit"),
        ({"run": "true {path}"}, UsageError, "a command or a function"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything(
    duo: Registry, change: dict[str, object], error: type[RegistryError], told: str
) -> None:
    seen: Seen = []
    with pytest.raises(error, match=told.replace("{", r"\{")):
        sweep(duo, seen, **change)  # type: ignore[arg-type]
    assert seen == []
    assert duo.sweeps() == ()


@pytest.mark.parametrize(
    ("over", "hint"),
    [
        ("0:1:0", "a step that is not 0, such as 0.1"),
        ("1:0:0.1", "the step goes the other way: --over w=1:0:-0.1"),
        ("0.2:0.8:-0.05", "the step goes the other way: --over w=0.2:0.8:0.05"),
    ],
)
def test_of_a_range_that_leads_nowhere_the_hint_says_how_it_would(
    duo: Registry, over: str, hint: str
) -> None:
    with pytest.raises(UsageError, match="does not come from") as refused:
        sweep(duo, [], over={"w": over})
    assert refused.value.hint == hint


@pytest.mark.parametrize("place", ["{w-1}", "{1-v}", "{1+w}", "{1..0-w}", "{1 - }", "{}", "{1-w}}"])
def test_what_is_no_place_of_a_variable_is_refused(duo: Registry, place: str) -> None:
    with pytest.raises(ExpressionError, match=r"no values are given|a lone"):
        duo.sweep("best", f"{{w}}*a - {place}*b", over=W, run="true {path}", metric="loss:max")


def test_what_is_missing_is_told_before_a_sweep_is_begun(
    duo: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Seen = []
    with pytest.raises(NotFound):
        sweep(duo, seen, base_path=tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="needs Optuna"):
        sweep(duo, seen, over={"w": "0:1"}, search="bayes", budget=3)
    assert (seen, duo.sweeps()) == ([], ())


@pytest.mark.parametrize("program", ["no-such-program", "./no-such-program", "/etc"])
def test_a_program_that_cannot_be_run_is_told_once(duo: Registry, program: str) -> None:
    with pytest.raises(UsageError, match=f"^{program} cannot be run: ") as caught:
        duo.sweep("best", "a - {w}*b", over=W, run=f"{program} {{path}}", metric="loss:max", retries=3)
    assert caught.value.message.count(program) == 1
    (left,) = duo.sweeps()
    assert (left.state, duo.sweep_result(left.id or 0).points) == ("stopped", ())
    with pytest.raises(UsageError, match="cannot be run"):
        duo.run_evaluation("a", run=f"{program} {{path}}")


def test_what_cannot_be_called_is_refused(duo: Registry) -> None:
    with pytest.raises(UsageError, match=r"^what measures cannot be called: \{'loss': 1\}"):
        duo.sweep("best", "a - {w}*b", over=W, evaluate={"loss": 1}, metric="loss:min")  # type: ignore[arg-type]
    assert duo.sweeps() == ()


def test_a_command_that_names_no_adapter_is_refused(duo: Registry) -> None:
    with pytest.raises(UsageError, match="does not say where the adapter comes in"):
        duo.sweep("best", "a - {w}*b", over=W, run="python eval.py", metric="loss:max")
    with pytest.raises(UsageError, match="split into words"):
        duo.sweep("best", "a - {w}*b", over=W, run="python 'eval.py {path}", metric="loss:max")


def test_a_dry_run_tells_what_is_known_and_writes_nothing(duo: Registry) -> None:
    seen: Seen = []
    planned = sweep(duo, seen, dry_run=True)
    assert (planned.id, {each.state for each in planned.points}) == (None, {"new"})
    sweep(duo, seen, {"w": "0,1"}, record=False)
    states = [each.state for each in sweep(duo, seen, dry_run=True).points]
    assert states == ["known", *["new"] * 9, "known"]
    assert len(seen) == 2
    with pytest.raises(NotFound):
        duo.show("best")


def test_collected_points_are_computed_again_for_the_version_only(duo: Registry) -> None:
    seen: Seen = []
    sweep(duo, seen, record=False)
    assert duo.gc(apply=True).blobs
    done = sweep(duo, seen)
    assert (done.evaluated, done.computed, done.ref) == (0, 1, "best@1")
    assert all(each.ok for each in duo.verify())


def test_versions_are_measured_by_a_command(duo: Registry, tmp_path: Path) -> None:
    file = tmp_path / "measure.py"
    file.write_text(
        "import json, sys, os\nprint(json.dumps({'size': os.path.getsize(sys.argv[1] + '/adapter_model.safetensors')}))"
    )
    made = duo.run_evaluation(["a", "b@1"], run=f"{sys.executable} {file} {{path}}", dataset="d", split="s")
    assert [(each.ref, each.metric, each.dataset, each.split) for each in made] == [
        ("a@1", "size", "d", "s"), ("b@1", "size", "d", "s"),
    ]  # fmt: skip
    assert made[0].value > 0
    with pytest.raises(RegistryError, match="the evaluation of a@1 failed: exit code 1"):
        duo.run_evaluation("a", run="false {path}")
    assert len(duo.evaluations("a")) == 1
    assert [
        each.ref for each in duo.run_evaluation(["a", "a@1"], run=f"{sys.executable} {file} {{path}}")
    ] == ["a@1"]


Losses = st.dictionaries(st.integers(1, 30), st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=25)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(Losses)
def test_the_front_is_what_nothing_beats(found: dict[int, tuple[float, ...]]) -> None:
    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    expected = {at for at, each in found.items() if not any(beats(other, each) for other in found.values())}
    assert _points.front(found) == expected


@given(st.decimals(-5, 5, places=2), st.integers(0, 50), st.decimals("0.01", 3, places=2))
def test_a_range_has_its_stop_and_only_exact_steps(start: Decimal, count: int, step: Decimal) -> None:
    stop = start + count * step
    variable = _points.variable("w", f"{start}:{stop}:{step}")
    assert variable.values == tuple(start + at * step for at in range(count + 1))


def test_a_step_that_goes_a_little_beyond_the_stop_ends_before_it() -> None:
    variable = _points.variable("w", f"0:1:0.{'3' * 37}4")
    assert [format_decimal(each)[:5] for each in variable.values] == ["0", "0.333", "0.666"]


def test_a_constraint_is_written_as_it_was_typed() -> None:
    for typed in ("acc >= 0.79", "ppl < 21", "loss <= -0.1", "rate < 1e-07"):
        assert str(_points.constraint(typed)) == typed
    assert _points.constraint(str(_points.constraint("x < 0.1"))).bound == 0.1


def test_sweeps_are_listed_by_as_many_statements_however_many_there_are(duo: Registry) -> None:
    counts = []
    for number in range(3):
        sweep(duo, [], {"w": f"0.{number}"})
        with statements(duo._database) as seen:
            listed = duo.sweeps()
        counts.append(len(seen))
        assert [each.ref for each in listed] == [f"best@{at}" for at in range(number + 1, 0, -1)]
    assert counts[0] == counts[2]


def test_metrics_of_a_command_are_json(tmp_path: Path, duo: Registry) -> None:
    run = script(tmp_path, "print(json.dumps({'loss': 1, 'other': 2.5}))")
    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, run=run, metric=["loss:min", "other:max"])
    assert json.loads(done.model_dump_json())["points"][0]["metrics"] == {"loss": 1.0, "other": 2.5}
    assert done.points[0].front


@pytest.mark.parametrize(
    "prints",
    [
        "print(json.dumps({'loss': 0.5, 'a\\u2028b\\x85 損失': 1}, ensure_ascii=False))",
        "sys.stdout.write('10 %\\r50 %\\r' + json.dumps({'loss': 0.5}))",
        "sys.stdout.buffer.write(b'\\xff\\xfe\\0\\n{\"loss\": 0.5}\\r\\n \\n')",
        "print('log\\n' * 10**6); print('warning\\n' * 10**6, file=sys.stderr); print('{\"loss\": 0.5}')",
        "print(json.dumps({'loss': 0.5} | {f'{n}-'.ljust(200, 'é'): n for n in range(999)}, ensure_ascii=False))",
    ],
)
def test_the_last_line_is_found_whatever_is_around_or_in_it(
    duo: Registry, tmp_path: Path, prints: str
) -> None:
    run = f"env PYTHONIOENCODING=utf-8 {script(tmp_path, prints)}"
    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, run=run, metric="loss:min", record=False)
    assert done.points[0].error is None
    assert (done.points[0].metrics or {})["loss"] == 0.5


class Wrapped:
    """A number as NumPy and PyTorch give it."""

    shape = ()

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        return self._value


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (Wrapped(0.5), None),
        (np.float32(0.5), None),
        (np.array(0.5), None),
        (torch.tensor(0.5, requires_grad=True), None),
        (Decimal("0.5"), None),
        (Fraction(1, 2), None),
        (np.array([0.5]), "its loss is array([0.5]), not a finite number"),
        (np.True_, "not a finite number"),
        (Wrapped("0.5"), "not a finite number"),
        (Decimal("sNaN"), "its loss is Decimal('sNaN'), not a finite number"),
        (torch.tensor(float("nan")), "its loss is tensor(nan), not a finite number"),
        (torch.empty((), device="meta"), "RuntimeError: "),
    ],
)
def test_a_function_may_give_its_numbers_as_libraries_do(
    duo: Registry, gives: object, told: str | None
) -> None:
    def measure(*_: object) -> Any:
        return {"loss": gives}

    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, evaluate=measure, metric="loss:min", record=False)
    if told is None:
        assert done.points[0].metrics == {"loss": 0.5}
    else:
        assert told in str(done.points[0].error)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (None, "it gave None, not a mapping of names to numbers"),
        (0.5, "it gave 0.5, not a mapping"),
        ([("loss", 1)], "it gave [('loss', 1)], not a mapping"),
        ({1: 2}, "the name of a metric is 1, not a text"),
        (SystemExit("cannot load"), "SystemExit: cannot load"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_a_function_that_gives_no_metrics_fails_at_its_point(duo: Registry, gives: object, told: str) -> None:
    def measure(_: Path, values: Mapping[str, Decimal]) -> Any:
        if values["w"] == 1:
            return {"loss": 1}
        if isinstance(gives, BaseException):
            raise gives
        return gives

    done = duo.sweep("best", "a - {w}*b", over={"w": "0,1"}, evaluate=measure, metric="loss:min")
    assert [each.state for each in done.points] == ["failed", "ok"]
    assert told in str(done.points[0].error)
    assert (done.chosen, done.ref) == (2, "best@1")


def test_a_function_that_changes_its_values_changes_nothing_else(duo: Registry) -> None:
    def measure(_: Path, values: Any) -> dict[str, float]:
        return {"loss": float(values.pop("w"))}

    done = duo.sweep("best", "a - {w}*b", over={"w": "0.25,0.5"}, evaluate=measure, metric="loss:min")
    assert [each.values for each in done.points] == [{"w": "0.25"}, {"w": "0.5"}]
    assert duo.sweep_result(done.id or 0).points[0].values == {"w": "0.25"}


@pytest.mark.parametrize("where", [{"dataset": "imdb"}, {"split": "test"}])
def test_what_was_measured_on_one_dataset_is_not_recorded_for_another(
    duo: Registry, where: dict[str, Any]
) -> None:
    first, second, third = Seen(), Seen(), Seen()
    one = sweep(duo, first)
    other = sweep(duo, second, **where)
    assert (other.computed, other.evaluated, len(second)) == (0, 11, 11)
    assert (one.ref, other.ref) == ("best@1", "best@1")
    assert sweep(duo, third, **where, over={"w": "0:1:0.05"}).evaluated == 10


def test_a_command_that_is_told_of_other_values_measures_again(duo: Registry, tmp_path: Path) -> None:
    """``a - -0.5*b`` is ``a + 0.5*b``: one adapter, and two things that the command may say of it."""
    run = script(tmp_path, "print(json.dumps({'loss': float(sys.argv[2])}))")
    duo.sweep("best", "a - {w}*b", over={"w": "-0.5,0.5"}, run=run, metric="loss:max")
    other = duo.sweep("best", "a + {w}*b", over={"w": "-0.5,0.5"}, run=run, metric="loss:max")
    assert [each.metrics for each in other.points] == [{"loss": -0.5}, {"loss": 0.5}]
    assert (other.computed, other.evaluated) == (0, 2)
    blind = script(tmp_path, "print(json.dumps({'loss': 1}))").replace(" {w}", "")
    duo.sweep("best", "a - {w}*b", over={"w": "-0.5,0.5"}, run=blind, metric="loss:max")
    last = duo.sweep("best", "a + {w}*b", over={"w": "-0.5,0.5"}, run=blind, metric="loss:max")
    assert (last.evaluated, last.reused) == (0, 2)


def test_secrets_that_a_command_has_or_prints_are_not_recorded(
    duo: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, key = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7", "sk-of-a-service-0815"
    monkeypatch.setenv("SOME_SERVICE_API_KEY", key)
    run = script(
        tmp_path, "sys.exit('x' * 480 + ' ' + os.environ['SOME_SERVICE_API_KEY'] + ' ' + sys.argv[3])"
    )
    done = duo.sweep("best", "a - {w}*b", over={"w": "1"}, run=f"{run} {token}", metric="loss:max")
    told = str(done.points[0].error)
    assert "***" in told
    assert "***" in done.evaluator
    shown = duo.sweep_result(done.id or 0).model_dump_json() + done.model_dump_json()
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*.db*"))
    assert kept
    for secret in (token, key, token[-10:], key[-10:]):
        assert secret not in shown
        assert secret.encode() not in kept


def test_a_version_names_the_sweep_that_chose_it(pair: Registry) -> None:
    done = sweep(pair, [])
    assert pair.show("best").sweep == done.id
    assert pair.show("a").sweep is None
    again = sweep(pair, [], constrain=["ppl < 100"])
    assert (again.id != done.id, again.ref) == (True, "best@1")
    assert pair.show("best").sweep == done.id  # the first that chose it


def test_a_command_that_spoils_its_folder_spoils_nothing_else(duo: Registry, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    run = script(
        tmp_path,
        "import shutil\npath = pathlib.Path(sys.argv[1])\n"
        "for each in path.iterdir():\n    os.chmod(each, 0o600)\n    each.open('r+b').write(b'spoilt')\n"
        f"shutil.rmtree(path)\npath.symlink_to({str(precious)!r})\n"
        "print(json.dumps({'loss': 1}))",
    )
    done = duo.sweep("best", "a - {w}*b", over={"w": "0.25,0.5"}, run=run, metric="loss:max")
    assert done.failed == 0
    assert all(each.ok for each in duo.verify("best"))
    assert (precious / "file").exists()
    assert not list(tmp_path.glob("home/.point*"))


def test_what_was_measured_of_another_expression_is_nothing_to_begin_a_search_with(duo: Registry) -> None:
    """Not even where its values make no sense in this one."""
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"metric": "loss:min", "evaluator": "parabola@1", "record": False}
    duo.sweep("best", "a - {w}*b", over={"w": "0.25,0.5"}, evaluate=parabola([]), **options)
    done = duo.sweep(
        "best", "truncate(a - 0.5*b, rank={w})", over={"w": "1:3:1"}, search="bayes", budget=3,
        evaluate=lambda _, values: {"loss": float(values["w"])}, **options,
    )  # fmt: skip
    assert all(each.state == "ok" for each in done.points)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_search_that_would_ask_for_what_does_not_compose_is_refused_before_it_begins(
    duo: Registry, dry_run: bool
) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(UsageError, match=r"rank: .*integer"):
        duo.sweep(
            "best", "truncate(a - b, rank={r})", over={"r": "2:8"}, search="bayes", budget=4,
            evaluate=parabola([]), metric="loss:min", dry_run=dry_run,
        )  # fmt: skip
    assert duo.sweeps() == ()
