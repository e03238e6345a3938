from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from tests.methods.cases import LAW, Stack, around, distance, largest, low, stacks, turned, wholes
from tests.methods.test_core import added, basis, elected, unique


def tied(matrices: list[Tensor]) -> Tensor:
    """KnOTS with an election, from the dense concatenation."""
    u = basis(torch.cat(matrices, dim=1))
    return u @ elected([u.T @ x for x in matrices])


@LAW
@given(stacks())
def test_it_is_its_dense_definition(stack: Stack) -> None:
    matrices = wholes(stack[0])
    wide = torch.cat(matrices, dim=1)
    if not wide.any() or not unique(wide):
        return
    if bool((torch.stack([basis(wide).T @ x for x in matrices]).sum(0).abs() < 1e-9).any()):
        return  # an election that rounding decides
    assert float((around("knots", stack[0], elected) - tied(matrices)).norm()) < 1e-10 * largest(matrices)


@LAW
@given(stacks())
def test_what_is_linear_is_what_it_is_outside(stack: Stack) -> None:
    matrices = wholes(stack[0])
    found = around("knots", stack[0], added)
    assert float((found - added(matrices)).norm()) < 1e-12 * (largest(matrices) or 1)


def test_it_does_not_depend_on_order_or_factors() -> None:
    deltas = [low(8, 7, 2, seed) for seed in range(3)]
    first = around("knots", deltas, elected)
    assert distance(around("knots", [turned(delta, 9) for delta in deltas], elected), first) < 1e-10
    assert distance(around("knots", deltas[::-1], elected), first) < 1e-10
    assert distance(first, elected(wholes(deltas))) > 1e-3  # and it is another method than outside


def test_the_inner_method_sees_one_row_for_each_direction() -> None:
    deltas = [low(8, 7, 2, seed) for seed in range(3)]
    seen: list[torch.Size] = []

    def watched(matrices: list[Tensor]) -> Tensor:
        seen.extend(x.shape for x in matrices)
        return added(matrices)

    around("knots", [*deltas, None], watched)
    assert seen == [torch.Size([6, 7])] * 4


def test_zero_adapters_stay_zero() -> None:
    a = low(5, 4, 2, 0)
    a.up.zero_()
    assert not around("knots", [a, None], elected).any()
