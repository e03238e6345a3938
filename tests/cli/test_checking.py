"""``registry check``: what composing would do, and how the inputs get along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from registry.results import Check
from tests.adapters import LINEARS, make_lora
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    return local


def test_the_human_output_says_what_when_and_how_exactly(fake: FakeRegistry, run: Run) -> None:
    fake.answers["check"] = samples.check()
    out = run("check", "-0.4*toxic").stdout
    for fact in (
        "24 of 32×16",
        "an approximation of low rank in 2 modules; a merged model is exact",
        "reads 4.0 kB, writes up to 2.0 kB, about 5.3 TFLOP",
        "alpaca@7, toxic@3",
        "-0.465 (-0.500 to -0.430)",
        "0.340 (0.310 to 0.370)",
        "and 3 more; --format json has all",
        "--conflicts compares all",
    ):
        assert fact in out
    fake.answers["check"] = samples.check(exact=True, layout=samples.check().layout[2:], conflicts=())
    out = run("check", "-0.4*toxic").stdout
    assert "exact, up to one rounding" in out
    assert "alpaca@7" not in out


def test_the_modules_that_agree_least_come_first(fake: FakeRegistry, run: Run) -> None:
    fake.answers["check"] = samples.check()
    out = run("check", "-0.4*toxic").stdout
    _, _, worst = out.partition("where signs agree least")
    assert [line.split()[0] for line in worst.splitlines()[2:7]] == ["q.1", "q.2", "q.3", "q.4", "q.5"]


@pytest.mark.parametrize(
    ("words", "asked"), [([], None), (["--conflicts"], True), (["--no-conflicts"], False)]
)
def test_conflicts_are_a_choice(
    fake: FakeRegistry, run: Run, words: list[str], *, asked: bool | None
) -> None:
    fake.answers["check"] = samples.check()
    assert run("check", "-0.4*toxic", *words).exit_code == 0
    assert fake.asked["conflicts"] is asked


def test_json_has_every_module_and_every_pair(shelf: Registry, run: Run) -> None:
    done = run("check", "a - 0.4*b", "--format", "json")
    assert done.exit_code == 0
    assert Check.model_validate_json(done.stdout) == shelf.check("a - 0.4*b")
    found = json.loads(done.stdout)
    assert [row["module"] for row in found["layout"]] == sorted(LINEARS)
    assert [row["module"] for row in found["conflicts"][0]["modules"]] == sorted(LINEARS)
    assert set(found["cost"]) == {"read", "written", "operations"}


def test_a_real_check_reads_well_and_quiet_gives_the_inputs(shelf: Registry, run: Run) -> None:
    assert shelf.show("a").modules == 3
    done = run("check", "a - a + ties(a, b, density=0.5)")
    for fact in (
        "an approximation of low rank in 3 modules",
        "2 of 12×8, 1 of 6×8",
        "a@1, b@1",
        "signs agree",
    ):
        assert fact in done.stdout
    assert run("check", "a - 0.4*b", "--format", "quiet").stdout == "a@1\nb@1\n"
    none = run("check", "a - 0.4*b", "--no-conflicts").stdout
    assert "signs agree" not in none
    assert "exact" in none


def test_warnings_go_to_stderr(shelf: Registry, run: Run, tmp_path: Path) -> None:
    shelf.add(make_lora(tmp_path / "near", seed=0, alpha=7.9), "near")
    done = run("check", "a - near")
    assert done.stderr.startswith("warning: ")
    assert "takes away" in done.stderr
