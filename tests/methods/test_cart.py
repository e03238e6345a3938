from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.errors import UsageError
from tests.methods.cases import LAW, Stack, cut, distance, largest, low, merge, merged, stacks, turned, wholes


def dense_cart(matrices: list[Tensor], rank: int | None, keep: float | None, scale: float) -> Tensor:
    mean = torch.stack(matrices).mean(0)
    total = mean
    for x in matrices:
        u, s, v = cut(x - mean, 1e-13 * largest(matrices))
        q = -int(-keep * len(s) // 1) if keep is not None else rank
        total = total + scale * u[:, :q] @ torch.diag(s[:q]) @ v[:q]
    return total


@LAW
@given(stacks(), st.sampled_from([{"rank": 1}, {"rank": 3}, {"keep": "0.5"}, {"keep": "1"}]))
def test_it_is_its_dense_definition(stack: Stack, parameters: dict[str, Any]) -> None:
    matrices = wholes(*stack)
    keep = float(parameters["keep"]) if "keep" in parameters else None
    expected = dense_cart(matrices, parameters.get("rank"), keep, 0.7)
    size = largest(matrices) or 1.0  # of the inputs: the result may cancel
    assert float((merged("cart", *stack, scale="0.7", **parameters) - expected).norm()) < 1e-10 * size


@LAW
@given(stacks())
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    size = largest(wholes(*stack)) or 1.0
    first = merged("cart", deltas, weights, rank=1)
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert float((merged("cart", other, weights[::-1], rank=1) - first).norm()) < 1e-10 * size
    scaled = merged("cart", deltas, [-1e12 * w for w in weights], rank=1)
    assert float((scaled / -1e12 - first).norm()) < 1e-10 * size


@LAW
@given(stacks())
def test_with_nothing_cut_it_is_the_mean(stack: Stack) -> None:
    size = largest(wholes(*stack)) or 1.0
    mean = torch.stack(wholes(*stack)).mean(0)
    assert float((merged("cart", *stack, keep=1) - mean).norm()) < 1e-12 * size


def test_copies_change_nothing() -> None:
    a = low(8, 7, 2, 0)
    assert distance(merged("cart", [a, a, turned(a, 3)], rank=1), wholes([a])[0]) < 1e-12
    assert merge("cart", [a], rank=1).report == {"rank": 2}


@pytest.mark.parametrize("parameters", [{}, {"rank": 1, "keep": "0.5"}])
def test_how_much_is_kept_must_be_said(parameters: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give either rank or keep"):
        methods.build("cart", parameters)


def test_a_share_is_rounded_up() -> None:
    deltas = [low(11, 10, 1, seed) for seed in range(3)]  # less the mean each has rank 3
    two = merged("cart", deltas, rank=2)
    assert distance(merged("cart", deltas, keep="0.5"), two) < 1e-12
    assert distance(merged("cart", deltas, keep="0.7"), two) > 1e-3
