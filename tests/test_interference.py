"""Interference against its formulas on dense matrices: cosine, overlap of subspaces, agreement of signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry.deltas import Delta, Dense, LowRank, Rescaling, dense
from registry.errors import Incompatible
from registry.interference import ELEMENTS, Interference, pairwise
from tests.methods.cases import LAW, Stack, low, stacks, turned, vector


def between(a: Delta | None, b: Delta | None, weights: Sequence[float] = (1.0, 1.0)) -> Interference:
    return pairwise([a, b], weights)[0, 1]


def numbers(found: Interference) -> list[float]:
    return [-9.0 if value is None else float(value) for value in astuple(found)]


def close(found: Interference, expected: Sequence[float | None]) -> bool:
    pairs = zip(astuple(found)[:4], expected, strict=True)
    return all((a is None) == (b is None) and (a is None or abs(a - (b or 0)) < 1e-7) for a, b in pairs)


def cosine(a: Tensor, b: Tensor) -> float | None:
    lengths = float(a.norm() * b.norm())
    return float((a * b).sum()) / lengths if lengths else None


def overlap(a: Tensor, b: Tensor) -> float | None:
    """φ of the column spaces, from the projections on them: ``tr(PₐP_b) / min(rₐ, r_b)``."""
    bases = []
    for x in (a, b):
        u, s, _ = torch.linalg.svd(x)
        bases.append(u[:, : int((s > 1e-6 * s.max()).sum())])
    rank = min(basis.shape[1] for basis in bases)
    projections = [basis @ basis.T for basis in bases]
    return float((projections[0] * projections[1]).sum()) / rank if rank else None


def agreement(a: Tensor, b: Tensor) -> float | None:
    both = (a != 0) & (b != 0)
    return float((a.sign() == b.sign())[both].double().mean()) if bool(both.any()) else None


def expected(a: Tensor, b: Tensor) -> list[float | None]:
    return [cosine(a, b), overlap(a, b), overlap(a.T, b.T), agreement(a, b)]


@LAW
@given(stacks(least=2))
def test_every_measure_is_what_its_formula_says(stack: Stack) -> None:
    deltas, weights = stack
    found = pairwise(deltas, weights)
    present = [i for i, delta in enumerate(deltas) if delta is not None]
    assert list(found) == [(i, j) for i in present for j in present if i < j]
    for (i, j), each in found.items():
        one, other = deltas[i], deltas[j]
        assert one is not None
        assert other is not None
        a, b = (dense(delta) * (1 if w >= 0 else -1) for delta, w in ((one, weights[i]), (other, weights[j])))
        assert close(each, expected(a, b)), (each, expected(a, b))
        assert not each.sampled


@LAW
@given(stacks(least=2, most=2), st.integers(0, 99))
def test_only_the_deltas_matter_and_not_how_they_are_factored(stack: Stack, seed: int) -> None:
    deltas, weights = stack
    again = [None if delta is None else turned(delta, seed) for delta in deltas]
    for pair, found in pairwise(deltas, weights).items():
        other = pairwise(again, weights)[pair]
        assert numbers(other) == pytest.approx(numbers(found), abs=1e-6)


def test_of_a_weight_only_the_sign_matters() -> None:
    a, b = low(9, 7, 2, 0), low(9, 7, 3, 1)
    plain, flipped = between(a, b), between(a, b, (3.0, -0.4))
    assert plain.cosine is not None
    assert plain.agreement is not None
    assert flipped.cosine == pytest.approx(-plain.cosine)
    assert flipped.agreement == pytest.approx(1 - plain.agreement)
    assert (flipped.columns, flipped.rows) == pytest.approx((plain.columns, plain.rows))
    assert numbers(between(a, b, (-1, -2))) == pytest.approx(numbers(plain))
    assert numbers(between(a, b, (1, 0))) == pytest.approx(numbers(plain))


def test_a_delta_and_itself_are_one() -> None:
    a = low(40, 30, 4, 0, dtype=torch.bfloat16)
    assert numbers(between(a, a)) == pytest.approx([1, 1, 1, 1, 0])
    assert numbers(between(a, a, (1, -1))) == pytest.approx([-1, 1, 1, 0, 0])


def test_spaces_inside_one_another_overlap_whole_and_orthogonal_ones_not_at_all() -> None:
    axes = torch.eye(8, dtype=torch.float64)
    one, two = LowRank(axes[:, :1], axes[:1]), LowRank(axes[:, :3], axes[3:6])
    found = between(one, two)
    assert (found.columns, found.rows) == pytest.approx((1, 0))
    assert found.cosine == pytest.approx(0)
    assert found.agreement is None  # no element is non-zero in both


def test_elements_that_are_zero_in_one_are_not_counted() -> None:
    a = torch.tensor([[1.0, -1, 2, 0], [0, 0, 3, 1]])
    b = torch.tensor([[2.0, 1, 1, 5], [1, 0, -2, 0]])
    eye = torch.eye(2)
    assert between(LowRank(eye, a), LowRank(eye, b)).agreement == pytest.approx(2 / 4)
    assert between(LowRank(eye, a), LowRank(eye, b), (1, -1)).agreement == pytest.approx(2 / 4)
    assert between(Dense(a, 2), Dense(b, 2)).agreement == pytest.approx(2 / 4)


def test_a_zero_delta_has_no_direction() -> None:
    a, zero = low(6, 5, 2, 0), LowRank(torch.zeros(6, 2), torch.ones(2, 5))
    up, down = low(6, 5, 2, 3).up, low(6, 5, 2, 3).down
    cancelled = LowRank(torch.cat([up, -up], dim=1) / 3, torch.cat([down, down]) * 0.7)
    for nothing in (zero, cancelled):
        assert astuple(between(a, nothing)) == (None, None, None, None, False)


def test_ia3_is_compared_by_what_its_vectors_add_to_one() -> None:
    a, b = vector(0, 50), vector(1, 50)
    found = between(a, b, (1, -1))
    assert close(found, [cosine(a.offset, -b.offset), None, None, agreement(a.offset, -b.offset)])
    untouched = Rescaling(torch.zeros(50), feedforward=False)
    assert astuple(between(a, untouched)) == (None, None, None, None, False)


def test_a_dense_delta_has_a_cosine_and_signs_but_no_subspace() -> None:
    a, whole = low(30, 20, 3, 0), dense(low(30, 20, 20, 1))
    for other in (Dense(whole, 20), Dense(whole.float(), 20)):
        for found in (between(a, other), between(other, a)):
            assert close(
                found, [cosine(dense(a), dense(other)), None, None, agreement(dense(a), dense(other))]
            )
    assert between(Dense(whole, 20), Dense(whole, 20)).cosine == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1500, 1300), (70, 9000), (9000, 3), (1, 2 * ELEMENTS)])
def test_of_a_large_delta_signs_are_sampled_and_the_rest_is_exact(shape: tuple[int, int]) -> None:
    a, b = low(*shape, 4, 0), low(*shape, 4, 1)
    b = LowRank(a.up + b.up, a.down + b.down)
    found, (x, y) = between(a, b), (dense(a), dense(b))
    assert found.sampled == (x.numel() > ELEMENTS)
    assert found.cosine == pytest.approx(cosine(x, y), abs=1e-9)
    assert found.agreement == pytest.approx(agreement(x, y), abs=0.02)
    assert between(a, b) == found
    across = between(a, Dense(y, min(shape)))
    assert across.cosine == pytest.approx(cosine(x, y), abs=0.02)


def test_no_whole_matrix_is_ever_formed() -> None:
    shape = (120_000, 100_000)  # 96 GB in float64
    found = between(low(*shape, 1, 0), low(*shape, 1, 1))
    assert found.sampled
    assert found.agreement == pytest.approx(0.5, abs=0.1)


def test_a_missing_module_has_no_pair_and_one_input_none_at_all() -> None:
    a, b = low(6, 5, 2, 0), low(6, 5, 2, 1)
    assert list(pairwise([None, a, None, b], [1, 1, 1, 1])) == [(1, 3)]
    assert pairwise([a], [1]) == pairwise([None, a], [1, 1]) == pairwise([], []) == {}


@pytest.mark.parametrize(
    "other",
    [low(5, 6, 2, 0), vector(0), LowRank(torch.ones(6, 1), torch.ones(1, 5), form="embedding")],
)
def test_deltas_of_other_spaces_are_refused(other: Delta) -> None:
    with pytest.raises(Incompatible):
        between(low(6, 5, 2, 0), other)
