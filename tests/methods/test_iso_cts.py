from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.cases import (
    LAW,
    Stack,
    cut,
    distance,
    isometry,
    largest,
    low,
    merge,
    merged,
    stacks,
    turned,
    wholes,
)


def dense_iso_cts(matrices: list[Tensor], percent: int) -> Tensor:
    total = torch.stack(matrices).sum(0)
    floor = 1e-6 * largest([total, *matrices])
    k = min(len(cut(torch.cat(matrices, dim=dim), floor)[1]) for dim in (0, 1))
    own = (k - percent * k // 100) // len(matrices)
    u, s, v = cut(total, floor)
    c = min(k - own * len(matrices), len(s))
    pieces = [(u[:, :c], s[:c], v[:c])]
    for x in matrices:
        rest = cut(x - u[:, :c] @ u[:, :c].T @ x, floor)
        pieces.append((rest[0][:, :own], rest[1][:own], rest[2][:own]))
    left, values, right = (torch.cat([p[i] for p in pieces], dim=d) for i, d in ((0, 1), (1, 0), (2, 0)))
    return values.mean() * isometry(left) @ isometry(right) if len(values) else torch.zeros_like(total)


def close(found: Tensor, expected: Tensor, stack: Stack) -> bool:
    """To the size of the inputs: with one spectrum for all, an input and its negative cancel to rounding."""
    return float((found - expected).norm()) < 1e-10 * (largest(wholes(*stack)) or 1.0)


@LAW
@given(stacks(), st.sampled_from([0, 40, 80, 100]))
def test_it_is_its_dense_definition(stack: Stack, percent: int) -> None:
    found = merged("iso_cts", *stack, common=f"{percent / 100}")
    assert close(found, dense_iso_cts(wholes(*stack), percent), stack)


@LAW
@given(stacks())
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    first = merged("iso_cts", deltas, weights, common="0.5")
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert close(merged("iso_cts", other, weights[::-1], common="0.5"), first, stack)
    scaled = merged("iso_cts", deltas, [-1e12 * w for w in weights], common="0.5")
    assert close(scaled / -1e12, first, stack)


@LAW
@given(stacks(1, 1))
def test_of_one_input_it_is_iso(stack: Stack) -> None:
    assert distance(merged("iso_cts", *stack), merged("iso", *stack)) < 1e-10


def test_with_common_directions_alone_it_is_iso() -> None:
    deltas = [low(9, 8, 2, seed) for seed in range(3)]
    assert distance(merged("iso_cts", deltas, common=1), merged("iso", deltas)) < 1e-10


def test_the_spectrum_is_flat_where_the_directions_are_independent() -> None:
    deltas = [low(12, 11, 3, seed) for seed in range(2)]
    values = torch.linalg.svdvals(merged("iso_cts", deltas, common="0.5"))
    rank = int(merge("iso_cts", deltas, common="0.5").report["rank"])
    assert values[:rank].tolist() == pytest.approx([float(values[0])] * rank)


def test_the_scale_multiplies_and_zero_stays_zero() -> None:
    deltas = [low(8, 7, 3, seed) for seed in range(2)]
    assert distance(merged("iso_cts", deltas, scale="-2"), -2 * merged("iso_cts", deltas)) < 1e-14
    assert not merged("iso_cts", deltas, [0.0, 0.0]).any()
