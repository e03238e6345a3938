from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from registry import methods
from registry.deltas import LowRank
from tests.methods.cases import LAW, Stack, distance, low, merge, merged, stacks, turned, vector, wholes


@LAW
@given(stacks())
def test_it_is_the_mean_of_the_weighted_deltas(stack: Stack) -> None:
    expected = sum(wholes(*stack), torch.tensor(0.0)) / len(stack[0])
    assert distance(merged("average", *stack), expected) < 1e-10


@LAW
@given(stacks(), st.randoms(use_true_random=False))
def test_order_and_factoring_do_not_matter(stack: Stack, random: st.DataObject) -> None:
    deltas, weights = stack
    order = list(range(len(deltas)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = [None if (d := deltas[i]) is None else turned(d, i) for i in order]
    before, after = merged("average", deltas, weights), merged("average", other, [weights[i] for i in order])
    assert distance(after, before) < 1e-10


def test_one_input_comes_back_and_copies_change_nothing() -> None:
    a = low(5, 4, 2, 0)
    assert distance(merged("average", [a]), wholes([a])[0]) == 0
    assert distance(merged("average", [a, a, a]), wholes([a])[0]) < 1e-15


def test_vectors_are_averaged_around_one() -> None:
    a, b = vector(0), vector(1)
    torch.testing.assert_close(
        merged("average", [a, b, None], [1.0, -2.0, 1.0]), (a.offset - 2 * b.offset) / 3
    )


def test_it_is_stacked_exactly_in_the_accumulation_dtype() -> None:
    a, b = low(6, 5, 2, 0, dtype=torch.float32), low(6, 5, 3, 1, dtype=torch.float32)
    delta = merge("average", [a, b]).delta
    assert isinstance(delta, LowRank)
    assert (delta.rank, delta.up.dtype) == (5, torch.float32)
    assert methods.build("average", {}).rank_bound([2, 3]) == 5
