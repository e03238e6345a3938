"""The algebra, as numbers: what an expression evaluates to is what its matrices say, to float64's rounding.

That equal expressions have equal recipes is tested with the recipes; here they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import Registry, recipe
from registry.deltas import dense
from registry.peft_format import read
from tests.adapters import Q0, call, linear, lora_deltas, make_lora
from tests.methods.strategies import (
    FEW,
    LAW,
    NAMES,
    WEIGHTS,
    Expression,
    calling,
    computation,
    held,
    leaf,
    leaves,
    lora,
    low,
    three,
    trees,
    vectors,
)

EXACT = 1e-14
kinds = pytest.mark.parametrize("kind", [lora, vectors])
Kind = Callable[[str], st.SearchStrategy[object]]


def agree(found: Mapping[str, Tensor], expression: Expression, tolerance: float = EXACT) -> None:
    """The modules are those of all operands; each is its matrix, to the rounding of what was added."""
    assert found.keys() == expression.matrices.keys()
    for name, matrix in expression.matrices.items():
        assert float((found[name] - matrix).norm()) <= tolerance * expression.sizes[name], name


def law(kind: object, check: Callable[[list[Expression], st.DataObject], None]) -> None:
    """``check`` on three adapters of a kind."""

    @LAW
    @given(three(kind), st.data())  # type: ignore[arg-type]
    def holds(leaves: list[Expression], data: st.DataObject) -> None:
        check(leaves, data)

    holds()


@kinds
def test_an_expression_is_what_its_matrices_say(kind: Kind) -> None:
    def check(leaves: list[Expression], data: st.DataObject) -> None:
        expression = data.draw(trees(leaves))
        agree(expression.computed(), expression)

    law(kind, check)


@kinds
def test_the_laws_of_a_vector_space(kind: Kind) -> None:
    def check(leaves: list[Expression], data: st.DataObject) -> None:
        x, y, z = (data.draw(trees(leaves)) for _ in range(3))
        w, v, minus = data.draw(WEIGHTS), data.draw(WEIGHTS), -x
        for one, other in [
            (x + y, y + x),
            ((x + y) + z, x + (y + z)),
            (w * (x + y), w * x + w * y),
            ((w + v) * x, w * x + v * x),
            (w * (v * x), (w * v) * x),
            (x - y, -(y - x)),
            (Decimal(1) * x, x),
            (-minus, x),
            ((x + y) - y, x + Decimal(0) * y),
        ]:
            found = one.computed()
            agree(found, other)
            again = other.computed()
            assert all(torch.equal(found[name], again[name]) for name in found)

    law(kind, check)


@kinds
def test_what_cancels_is_exactly_zero_and_keeps_its_modules(kind: Kind) -> None:
    def check(leaves: list[Expression], data: st.DataObject) -> None:
        x = data.draw(trees(leaves))
        for nothing in (x - x, Decimal(0) * x):
            found = nothing.computed()
            assert found.keys() == x.matrices.keys()
            assert not any(matrix.any() for matrix in found.values())

    law(kind, check)


@kinds
def test_zero_changes_nothing(kind: Kind) -> None:
    def check(leaves: list[Expression], data: st.DataObject) -> None:
        x, y = data.draw(trees(leaves)), data.draw(trees(leaves))
        before, found = x.computed(), (x + (y - y)).computed()
        assert found.keys() == x.matrices.keys() | y.matrices.keys()
        for name, matrix in found.items():
            assert torch.equal(matrix, before[name]) if name in before else not matrix.any()

    law(kind, check)


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_added_like_adapters(name: str) -> None:
    """Dense results and factored ones alike."""
    stack = [low(7, 5, 3, seed) for seed in range(3)]
    adapters = held(*stack)
    one = calling(name, [("0.5", adapters[0]), (1, adapters[1])])
    other = calling(name, [(1, adapters[2]), ("-0.5", adapters[0])])

    @FEW
    @given(trees([*leaves(adapters), one, other]))
    def holds(expression: Expression) -> None:
        agree(expression.computed(), expression, 1e-13)

    holds()
    for expression in (one + other, Decimal(2) * one - other - Decimal("0.25") * leaf("c", adapters[2])):
        agree(expression.computed(), expression, 1e-13)
    cancelled = (one - one).computed()
    assert not any(matrix.any() for matrix in cancelled.values())


@LAW
@given(three(lora), st.data(), st.integers(1, 12))
def test_the_best_of_a_rank_is_as_far_as_eckart_and_young_say(
    leaves: list[Expression], data: st.DataObject, rank: int
) -> None:
    expression = data.draw(trees(leaves))
    made = recipe.linear([(Decimal(1), call("truncate", expression.pinned, rank=rank))])
    found = computation(made, expression.adapters.values())
    for name, matrix in expression.matrices.items():
        cut, size = found.module(name), expression.sizes[name] or 1.0
        lost = float(torch.linalg.svdvals(matrix)[rank:].norm())
        assert float((dense(cut.delta) - matrix).norm()) == pytest.approx(lost, abs=1e-13 * size)
        if float(matrix.norm()) > 1e-9 * size:  # else what is left is rounding
            assert cut.report["error"] == pytest.approx(lost / float(matrix.norm()), abs=1e-6)


def test_text_is_pinned_computed_stored_and_read_back(local: Registry, tmp_path: Path) -> None:
    """From the text of an expression to a folder, through the whole of the registry."""
    modules = {Q0: (12, 8), "h.0.one": (1, 7), "h.0.tall": (9, 1)}
    operands = []
    for i, name in enumerate("abc"):
        chosen = {module: shape for j, (module, shape) in enumerate(modules.items()) if j != i}
        folder = tmp_path / name
        make_lora(folder, modules=chosen, r=i + 2, seed=i, rslora=i == 1, dtype=torch.float64)
        local.add(folder, name)
        matrices = lora_deltas(folder)
        sizes = {module: float(matrix.norm()) for module, matrix in matrices.items()}
        operands.append(Expression(name, linear((1, read(folder))), matrices, sizes, {}))

    @FEW
    @given(trees(operands))
    def holds(expression: Expression) -> None:
        out = tmp_path / local.compose("found", expression.text).ref
        if not out.exists():
            local.checkout("found", out)
        stored = read(out)
        agree({module: dense(stored.delta(module)) for module in stored.layout.modules}, expression, 1e-13)

    holds()
