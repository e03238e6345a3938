from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registry import deltas
from registry.deltas import Delta, Dense, LowRank, Rescaling, Rows, dense
from registry.errors import Incompatible

SIZES = st.integers(1, 9)
LAW = settings(deadline=None, max_examples=50)


@st.composite
def lowrank_pairs(draw: st.DrawFn, count: int = 2) -> list[LowRank]:
    """LowRank deltas of one module with ranks up to beyond min(m, n)."""
    m, n = draw(SIZES), draw(SIZES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    made = []
    for _ in range(count):
        k, scale = draw(SIZES), draw(st.sampled_from([0.25, 1.0, 2.0, -3.5]))
        up, down = torch.randn((m, k), generator=generator), torch.randn((k, n), generator=generator)
        made.append(LowRank(up, down, scale))
    return made


@LAW
@given(lowrank_pairs())
def test_inner_product_is_that_of_the_dense_matrices(pair: list[LowRank]) -> None:
    a, b = pair
    expected = float((dense(a) * dense(b)).sum())
    assert deltas.inner(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@LAW
@given(lowrank_pairs(count=1))
def test_norm_is_that_of_the_dense_matrix(single: list[LowRank]) -> None:
    assert deltas.norm(single[0]) == pytest.approx(float(dense(single[0]).norm()), rel=1e-9, abs=1e-12)


@LAW
@given(lowrank_pairs(count=3), st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.4]), min_size=3, max_size=3))
def test_stacking_is_the_weighted_sum(three: list[LowRank], weights: list[float]) -> None:
    stacked = deltas.stack(list(zip(weights, three, strict=True)))
    expected = sum(w * dense(d) for w, d in zip(weights, three, strict=True))
    torch.testing.assert_close(dense(stacked), expected, rtol=1e-5, atol=1e-5)
    assert stacked.rank == (sum(d.rank for w, d in zip(weights, three, strict=True) if w) or 1)


def test_arguments_are_left_as_they_were() -> None:
    up, down = torch.ones(3, 2), torch.ones(2, 4)
    deltas.stack([(0.5, LowRank(up, down, 2.0)), (-1.0, LowRank(up, down))])
    assert torch.equal(up, torch.ones(3, 2))
    assert torch.equal(down, torch.ones(2, 4))


def test_comparing_a_delta_with_itself_finds_no_change() -> None:
    a = LowRank(torch.randn(300, 4), torch.randn(4, 200), 0.7)
    found = deltas.compare(a, a)
    assert found.cosine == pytest.approx(1)
    assert found.relative == pytest.approx(0, abs=1e-14)


def test_a_small_change_is_measured_in_full_precision() -> None:
    a = LowRank(torch.randn(30, 4, dtype=torch.float64), torch.randn(4, 20, dtype=torch.float64))
    found = deltas.compare(a, LowRank(a.up * (1 + 1e-10), a.down))
    assert found.relative == pytest.approx(
        1e-10, rel=1e-4
    )  # the square root of a Gram matrix would see 0 or 1e-8


def test_cosine_and_change_are_undefined_for_zero() -> None:
    zero, one = LowRank(torch.zeros(3, 1), torch.zeros(1, 2)), LowRank(torch.ones(3, 1), torch.ones(1, 2))
    found = deltas.compare(zero, one)
    assert (found.before, found.cosine, found.relative) == (0, None, None)
    assert found.after == pytest.approx(math.sqrt(6))
    assert deltas.compare(one, zero).relative == pytest.approx(1)


def test_rescalings_are_compared_by_their_offsets() -> None:
    a, b = (
        Rescaling(torch.tensor([0.0, 3.0]), feedforward=False),
        Rescaling(torch.tensor([4.0, 3.0]), feedforward=False),
    )
    found = deltas.compare(a, b)
    assert (found.before, found.after) == (3, 5)
    assert found.cosine == pytest.approx(0.6)
    assert found.relative == pytest.approx(4 / 3)
    assert deltas.inner(a, b) == 9


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LowRank(torch.ones(3, 1), torch.ones(1, 5)), "linear 3x5 does not fit linear 3x4"),
        (
            LowRank(torch.ones(3, 1), torch.ones(1, 4), form="embedding"),
            "embedding 3x4 does not fit linear 3x4",
        ),
        (
            LowRank(torch.ones(3, 1), torch.ones(1, 4), form="conv", kernel=(2, 2)),
            "conv 3x4 kernel 2x2 does not fit linear 3x4",
        ),
        (Rescaling(torch.ones(3), feedforward=False), "output rescaling of 3 does not fit linear 3x4"),
    ],
)
def test_deltas_of_different_spaces_are_not_mixed(other: Any, message: str) -> None:
    one: Delta = LowRank(torch.ones(3, 1), torch.ones(1, 4))
    for function in (deltas.inner, deltas.compare):
        with pytest.raises(Incompatible) as caught:
            function(one, other)
        assert caught.value.message == message


def test_sums_are_taken_in_float64_only_where_an_input_has_it() -> None:
    half = LowRank(torch.ones(3, 1).bfloat16(), torch.ones(1, 4).bfloat16())
    double = LowRank(torch.ones(3, 1), torch.ones(1, 4).double())
    assert deltas.stack([(1.0, half)]).up.dtype == torch.float32
    assert deltas.stack([(1.0, half), (1.0, double)]).up.dtype == torch.float64


def computed(weight: Tensor, asked: list[slice]) -> Dense:
    def read(rows: slice) -> Tensor:
        asked.append(rows)
        time.sleep(0.01)  # so that threads meet
        return weight[rows].clone()

    m, n = weight.shape
    return Dense(Rows((m, n), weight.dtype, weight.device, read), 2, "conv", (1, 2))


def test_rows_are_computed_when_they_are_asked_for_and_the_whole_once() -> None:
    weight, asked = torch.randn(6, 4), list[slice]()
    found = computed(weight, asked)
    assert (found.shape, deltas.describe(found)) == ((6, 4), "conv 6x4 kernel 1x2")
    assert found.to(torch.device("cpu")) is found
    assert found.to(torch.device("cpu:0")).rows(slice(2, 4)).equal(weight[2:4])
    assert asked == [slice(2, 4)]
    with ThreadPoolExecutor(4) as pool:
        wholes = list(pool.map(lambda _: found.weight, range(4)))
    assert all(whole is wholes[0] for whole in wholes)
    assert wholes[0].equal(weight)
    assert asked == [slice(2, 4), slice(0, 6)]


def test_a_sum_is_computed_row_by_row_where_all_its_terms_are() -> None:
    weight, asked = torch.randn(6, 4), list[slice]()
    one, low = computed(weight, asked), LowRank(torch.ones(6, 1), torch.ones(1, 4), 2.0, "conv", (1, 2))
    found = deltas.total([(0.5, one), (0.0, one), (1.0, one)])
    assert not asked
    assert found.rank == 4
    assert found.rows(slice(1, 3)).equal((0.5 * weight + weight)[1:3])
    for other in (low, Dense(dense(low), 1, "conv", (1, 2))):
        mixed = deltas.total([(0.5, one), (1.0, other)])
        assert isinstance(mixed.values, Tensor)
        torch.testing.assert_close(mixed.weight, (0.5 * weight + 2.0).to(mixed.weight.dtype))
    assert deltas.zero(one, torch.float64).shape == (6, 4)
