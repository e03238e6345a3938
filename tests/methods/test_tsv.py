from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import LowRank
from registry.errors import UsageError
from tests.methods.cases import (
    LAW,
    Stack,
    cut,
    distance,
    isometry,
    low,
    merge,
    merged,
    stacks,
    turned,
    wholes,
)


def dense_tsv(matrices: list[Tensor], rank: int | None = None, keep: float | None = None) -> Tensor:
    pieces = []
    for x in matrices:
        u, s, v = cut(x, 1e-12 * float(torch.linalg.matrix_norm(x, 2)))
        q = max(1, min(x.shape) // len(matrices))
        if rank is not None:
            q = rank
        if keep is not None:
            q = -int(-keep * len(s) // 1)
        pieces.append((u[:, :q], s[:q], v[:q]))
    u, s, v = (torch.cat([p[i] for p in pieces], dim=d) for i, d in ((0, 1), (1, 0), (2, 0)))
    return isometry(u) @ torch.diag(s) @ isometry(v)


@LAW
@given(stacks(), st.sampled_from([{}, {"rank": 1}, {"rank": 3}, {"keep": "0.5"}, {"keep": "1"}]))
def test_it_is_its_dense_definition(stack: Stack, parameters: dict[str, Any]) -> None:
    keep = float(parameters["keep"]) if "keep" in parameters else None
    expected = dense_tsv(wholes(*stack), parameters.get("rank"), keep)
    assert distance(merged("tsv", *stack, **parameters), expected) < 1e-10


@LAW
@given(stacks())
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    first = merged("tsv", deltas, weights)
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert distance(merged("tsv", other, weights[::-1]), first) < 1e-10
    scaled = merged("tsv", deltas, [-1e12 * w for w in weights])
    assert distance(scaled / -1e12, first) < 1e-10


@LAW
@given(stacks(1, 1))
def test_one_input_comes_back(stack: Stack) -> None:
    assert distance(merged("tsv", *stack), wholes(*stack)[0]) < 1e-12


def test_inputs_that_do_not_interfere_are_added() -> None:
    a, b = low(4, 3, 2, 0), low(5, 6, 3, 1)
    up, down = torch.zeros(9, 2).double(), torch.zeros(2, 9).double()
    up[:4], down[:, :3] = a.up, a.down
    other_up, other_down = torch.zeros(9, 3).double(), torch.zeros(3, 9).double()
    other_up[4:], other_down[:, 3:] = b.up, b.down
    deltas = [LowRank(up, down), LowRank(other_up, other_down)]
    assert distance(merged("tsv", deltas), sum(wholes(deltas), torch.tensor(0.0))) < 1e-12


def test_copies_change_nothing() -> None:
    a = low(8, 7, 2, 0)
    assert distance(merged("tsv", [a, a, turned(a, 3)]), wholes([a])[0]) < 1e-12


def test_the_rank_is_bounded_and_reported() -> None:
    deltas = [low(8, 7, 3, seed) for seed in range(2)]
    assert merge("tsv", deltas, rank=2).report == {"rank": 4}
    method = methods.build("tsv", {"rank": 2})
    assert (method.rank_bound([3, 1]), methods.build("tsv", {}).rank_bound([3, 1])) == (3, 4)
    assert methods.build("tsv", {"keep": "0.5"}).rank_bound([3, 1]) == 3
    assert merge("tsv", [low(4, 4, 2, 0)], [0.0]).report == {"rank": 1}


def test_the_scale_multiplies() -> None:
    deltas = [low(8, 7, 3, seed) for seed in range(2)]
    assert distance(merged("tsv", deltas, scale="1.5"), 1.5 * merged("tsv", deltas)) < 1e-14


def test_rank_and_keep_exclude_one_another() -> None:
    with pytest.raises(UsageError, match="give rank or keep, not both"):
        methods.build("tsv", {"rank": 1, "keep": "0.5"})
