"""What each method says of itself, and the page that is made of it."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from registry import expression, methods
from registry.expression import Call, Node, Scaled, Sum
from registry.methods import Domain
from registry.methods.__main__ import page
from registry.methods._describe import describe, everything
from registry.results import MethodInfo

ROOT = Path(__file__).parents[2]
OPERATORS = ["sum", "difference", "scaling", "negation"]
NAMES = methods.family.names()
every = pytest.mark.parametrize("name", [*OPERATORS, *NAMES])


def calls(node: Node) -> list[Call]:
    """The calls in an expression, outermost first."""
    match node:
        case Call(arguments=parts):
            return [node, *(call for part in parts for call in calls(part))]
        case Sum(terms=parts):
            return [call for part in parts for call in calls(part)]
        case Scaled(operand=operand):
            return calls(operand)
        case _:
            return []


def test_all_methods_and_operators_are_told() -> None:
    assert [method.name for method in everything()] == [*OPERATORS, *NAMES]


@every
def test_every_fact_is_there(name: str) -> None:
    method = describe(name)
    for fact in (
        "summary",
        "formula",
        "definition",
        "source",
        "domain",
        "kinds",
        "inputs",
        "cost",
        "example",
    ):
        assert getattr(method, fact), fact
    assert "\n" not in method.summary
    assert len(method.summary) <= 85
    assert method.summary.endswith(".")
    assert method.domain in get_args(Domain)
    assert re.fullmatch(r"O\(.*\).*", method.cost)
    assert re.search(r"arXiv \d{4}\.\d{4,5}|\(\d{4}\)|\d{4};|PEFT \d", method.source), "a paper or a release"
    for peer in (method.in_peft, method.in_mergekit, method.in_adapters):
        assert peer is None or peer.strip()


@every
def test_every_parameter_is_told_with_its_type_default_and_meaning(name: str) -> None:
    for parameter in describe(name).parameters:
        assert parameter.description, parameter.name
        assert re.search("integer|number|one of|true or false", parameter.type)
        assert not (parameter.required and parameter.default)
        assert parameter.default is None or not parameter.choices or parameter.default in parameter.choices


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_that_are_told_build_the_method(name: str) -> None:
    told = describe(name).parameters
    fields = methods.family.load(name).model_fields
    assert {parameter.name for parameter in told} == set(fields)
    for parameter in told:
        assert parameter.required == fields[parameter.name].is_required()
        default = fields[parameter.name].default
        if parameter.default is not None:
            told_default = {"true": True, "false": False}.get(parameter.default, parameter.default)
            assert (Decimal(told_default) if isinstance(default, int | Decimal) else told_default) == default


@every
def test_the_example_is_a_sound_expression_that_uses_it(name: str) -> None:
    found = calls(expression.parse(describe(name).example))
    assert not found if name in OPERATORS else found[0].method == name
    for call in found:
        built = methods.build(call.method, dict(call.parameters))
        least, most = (1, 1) if built.spread else built.arity
        assert least <= len(call.arguments) <= (most or 99)


def test_types_are_told_in_words() -> None:
    told = {parameter.name: parameter for parameter in describe("della").parameters}
    assert next(iter(told)) == "density", "what is required comes first"
    assert told["density"].type == "0 < number ≤ 1"
    assert told["rank"].type == "integer ≥ 1"
    assert told["epsilon"].type == "0 ≤ number < 1"
    assert told["scale"].type == "number"
    assert told["on"].choices == ("delta", "factors")
    assert told["epsilon"].default == "0.15"
    assert describe("robust_merge").parameters[-1].default == "false"
    assert {m.name: m.inputs for m in everything()} | {
        "slerp": "2", "sce": "2 or more", "factors": "a sum", "core": "a call of another method", "ties": "1 or more",
    } == {m.name: m.inputs for m in everything()}  # fmt: skip


def test_the_page_is_the_one_that_is_generated() -> None:
    written = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert written == page() + "\n", "run: python -m registry.methods > docs/methods.md"


@pytest.mark.parametrize("name", ["ties", "sum"])
def test_the_page_has_a_row_and_a_section_for_each(name: str) -> None:
    rows = [line for line in page().splitlines() if line.startswith(f"| [{name}](#{name}) |")]
    assert len(rows) == 1
    assert len(re.split(r"(?<!\\)\|", rows[0])) == 11  # nine cells between ten bars
    assert f"\n## {name}\n" in page()


def test_telling_costs_no_torch() -> None:
    program = (
        "import runpy, sys; runpy.run_module('registry.methods', run_name='__main__'); "
        "print(sorted({'torch', 'numpy', 'sqlalchemy', 'lark'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, encoding="utf-8",
        env={"PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.stderr.strip() == "[]"
    assert done.stdout == page() + "\n"


def test_what_is_told_is_a_result() -> None:
    for method in everything():
        assert MethodInfo.model_validate_json(method.model_dump_json()) == method
