"""methods: needs no catalog, and opens none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from registry import Registry
from registry.results import MethodInfo
from tests.cli.conftest import Run
from tests.test_imports import imported_by


def test_all_methods_are_listed_with_domain_parameters_and_summary(run: Run) -> None:
    done = run("methods")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["method", "summary", "domain", "kinds", "parameters"]
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert list(rows) == [method.name for method in Registry.methods()]
    assert "TIES: trim, elect a sign, average those that agree." in rows["ties"]
    assert "element-wise" in rows["ties"]
    assert "density, on, rank, scale, divisor, elect, sign, tie, rescale" in rows["ties"]
    assert "vector space" in rows["sum"]


def test_one_method_is_told_in_full(run: Run) -> None:
    done = run("methods", "dare")
    assert (done.exit_code, done.stderr) == (0, "")
    method = Registry.method("dare")
    for fact in (
        method.summary, method.formula, method.source, method.cost, method.example, method.in_peft, method.in_mergekit,
        "—", "0 < number ≤ 1, required: the share of elements kept", "one of density, l1, none, by default density",
        "Over seeds, the average is the exact sum.",
    ):  # fmt: skip
        assert fact
        assert fact in done.stdout


def test_an_operator_is_told_too(run: Run) -> None:
    done = run("methods", "negation")
    assert "`ℓ = 2 − ℓ₁`" in done.stdout
    assert "parameters" not in done.stdout


def test_as_json_it_is_the_model(run: Run) -> None:
    found = json.loads(run("methods", "--format", "json").stdout)
    assert [MethodInfo.model_validate(item) for item in found] == list(Registry.methods())
    one = run("methods", "tsv", "--format", "json").stdout
    assert MethodInfo.model_validate_json(one) == Registry.method("tsv")


def test_quiet_gives_names(run: Run) -> None:
    assert run("methods", "--format", "quiet").stdout.split() == [m.name for m in Registry.methods()]
    assert run("methods", "tsv", "--format", "quiet").stdout == "tsv\n"


@pytest.mark.parametrize("name", ["tsvv", "_core", "__main__", ""])
def test_an_unknown_method_is_one_line_with_the_known_ones(run: Run, name: str) -> None:
    done = run("methods", name)
    assert (done.exit_code, done.stdout) == (7, "")
    first, second = done.stderr.splitlines()
    assert first == f"error: unknown merge method {name!r}"
    assert second.startswith("hint: known are: average, balance, ")


def test_no_catalog_is_opened_and_nothing_heavy_imported(tmp_path: Path) -> None:
    for words in (["methods"], ["methods", "ties"], ["methods", "--format", "json"]):
        found = imported_by(words, tmp_path / "home")
        assert not found & {"torch", "numpy", "sqlalchemy", "alembic", "huggingface_hub", "lark"}
    assert not (tmp_path / "home").exists()
    assert "registry" in sys.modules
