from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import LowRank
from tests.methods.cases import LAW, Stack, cut, distance, largest, low, merge, merged, stacks, turned, wholes


def dense_iso(matrices: list[Tensor], rank: int | None = None) -> Tensor:
    total = torch.stack(matrices).sum(0)
    u, s, v = cut(total, max(1e-6 * float(torch.linalg.matrix_norm(total, 2)), 1e-13 * largest(matrices)))
    u, s, v = u[:, :rank], s[:rank], v[:rank]
    return s.mean() * u @ v if len(s) else torch.zeros_like(total)


@LAW
@given(stacks(), st.sampled_from([None, 1, 3]))
def test_it_is_its_dense_definition(stack: Stack, rank: int | None) -> None:
    assert distance(merged("iso", *stack, rank=rank), dense_iso(wholes(*stack), rank)) < 1e-10


@LAW
@given(stacks())
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    first = merged("iso", deltas, weights)
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert distance(merged("iso", other, weights[::-1]), first) < 1e-10
    scaled = merged("iso", deltas, [-1e12 * w for w in weights])
    assert distance(scaled / -1e12, first) < 1e-10


def test_the_spectrum_is_flat_and_keeps_its_sum() -> None:
    deltas = [low(8, 7, 2, seed) for seed in range(2)]
    values = torch.linalg.svdvals(merged("iso", deltas))
    before = torch.linalg.svdvals(torch.stack(wholes(deltas)).sum(0))
    assert values[:4].tolist() == pytest.approx([float(before.sum()) / 4] * 4)
    assert float(values[4:].max()) < 1e-12
    assert merge("iso", deltas).report == {"rank": 4}


def test_a_delta_with_one_direction_comes_back() -> None:
    a = low(5, 4, 1, 0)
    assert distance(merged("iso", [a]), wholes([a])[0]) < 1e-14


def test_what_cancels_is_zero() -> None:
    a, b = low(5, 4, 2, 0), low(5, 4, 2, 1)
    assert not merged("iso", [a, turned(a, 1)], [1.0, -1.0]).any()
    found = merged("iso", [a, b, turned(b, 2)], [1.0, 1.0, -1.0])
    assert distance(found, merged("iso", [a])) < 1e-10


def test_rounding_of_the_inputs_is_not_raised_to_the_mean() -> None:
    a = low(9, 8, 2, 0)
    again = turned(low(9, 8, 2, 0), 4)
    rounded = LowRank(again.up.half(), again.down.half())
    assert merge("iso", [a, rounded]).report == {"rank": 2}
    assert merge("iso", [a, rounded], tolerance=0).report["rank"] > 2


def test_the_scale_multiplies_and_the_rank_is_bounded() -> None:
    deltas = [low(8, 7, 3, seed) for seed in range(2)]
    assert distance(merged("iso", deltas, scale="-2"), -2 * merged("iso", deltas)) < 1e-14
    assert methods.build("iso", {"rank": 2}).rank_bound([3, 3]) == 2
    assert methods.build("iso", {}).rank_bound([3, 3]) == 6
