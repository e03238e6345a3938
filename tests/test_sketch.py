"""Sketches: linear in ΔW, blind to how it is factored, and as near to its inner products as they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import deltas, sketch
from registry.deltas import Delta, Dense, LowRank, Rescaling, dense, stack
from registry.sketch import SIZE, Sketch, from_bytes

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6))


def low_rank(seed: int, m: int, n: int, k: int, scale: float = 1.0) -> LowRank:
    drawn = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(size, generator=drawn, dtype=torch.float64) for size in ((m, k), (k, n)))
    return LowRank(up, down, scale)


def numbers(delta: Delta, name: str = "layer") -> sketch.Vector:
    """The sketch of one module before anything is rounded."""
    return np.fft.irfft(sketch.transformed(name, delta), SIZE)


def by_definition(weight: torch.Tensor, name: str, space: str) -> sketch.Vector:
    """``s[(h(i) + g(j)) mod D] += σ(i)·τ(j)·ΔW[i, j]``, one element after the other."""
    (down, signs), (right, others) = (
        sketch._hashes(name, space, side, size)
        for side, size in zip(("rows", "columns"), weight.shape, strict=True)
    )
    found = np.zeros(SIZE)
    for i, row in enumerate(weight.tolist()):
        for j, value in enumerate(row):
            found[(down[i] + right[j]) % SIZE] += signs[i] * others[j] * value
    return found


def near(one: sketch.Vector, other: sketch.Vector) -> bool:
    return bool(np.abs(one - other).max() <= 1e-12 * (1 + np.abs(other).max()))


@settings(max_examples=15, deadline=None)
@given(SEEDS, SIZES, st.floats(-3, 3))
def test_factors_and_the_whole_matrix_have_the_sketch_that_is_defined(
    seed: int, size: tuple[int, int, int], scale: float
) -> None:
    delta = low_rank(seed, *size, scale)
    expected = by_definition(dense(delta), "layer", deltas.describe(delta))
    assert near(numbers(delta), expected)
    assert near(numbers(Dense(dense(delta), delta.rank)), expected)


def test_a_large_matrix_is_hashed_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Dense(dense(low_rank(0, 37, 20, 3)), 3)
    expected = numbers(whole)
    monkeypatch.setattr(sketch, "_BLOCK", 100)
    assert near(numbers(whole), expected)


@settings(max_examples=15, deadline=None)
@given(SEEDS, SEEDS, SIZES, st.floats(-2, 2))
def test_the_sketch_of_a_sum_is_the_sum_of_sketches(
    one: int, other: int, size: tuple[int, int, int], weight: float
) -> None:
    a, b = low_rank(one, *size), low_rank(other, *size)
    assert near(numbers(stack([(1.0, a), (weight, b)])), numbers(a) + weight * numbers(b))


@settings(max_examples=15, deadline=None)
@given(SEEDS, SIZES)
def test_how_a_matrix_is_factored_does_not_show(seed: int, size: tuple[int, int, int]) -> None:
    delta = low_rank(seed, *size, scale=0.5)
    gauge = torch.linalg.qr(low_rank(seed + 1, size[2], size[2], size[2]).up).Q + 2 * torch.eye(size[2])
    other = replace(delta, up=delta.up @ gauge, down=torch.linalg.solve(gauge, delta.down))
    assert np.abs(numbers(other) - numbers(delta)).max() <= 1e-9 * (1 + np.abs(numbers(delta)).max())


def test_a_vector_of_factors_is_hashed_entry_by_entry() -> None:
    a, b = (
        Rescaling(torch.tensor(values, dtype=torch.float64), True) for values in ([0.5, 0, 1], [0, 2.0, 1])
    )
    both = Rescaling(a.offset + b.offset, True)
    assert near(numbers(a) + numbers(b), numbers(both))
    assert np.count_nonzero(np.abs(numbers(a)) > 1e-12) == 2


def test_inner_products_are_estimated_without_bias_and_with_the_error_that_is_said() -> None:
    """Over 200 draws of the hashes, which a module's name decides; five standard errors of the mean."""
    a, b = low_rank(0, 30, 20, 4), low_rank(1, 30, 20, 4)
    b = stack([(0.6, a), (0.8 * deltas.norm(a) / deltas.norm(b), b)])
    true = deltas.inner(a, b)
    found = np.array([numbers(a, str(name)) @ numbers(b, str(name)) for name in range(200)])
    assert abs(found.mean() - true) < 5 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize(("modules", "rank", "times"), [(6, 3, 1.2), (1, 1, 2.0)])
@pytest.mark.parametrize("cosine", [0.0, 0.8])
def test_cosines_have_the_error_that_is_said(cosine: float, modules: int, rank: int, times: float) -> None:
    """A module of rank one that is alone has more of it: up to √3 times as much."""
    errors = []
    for seed in range(40):
        pairs = [
            (low_rank(1000 * seed + i, 60, 50, rank), low_rank(-1000 * seed - i - 1, 60, 50, rank))
            for i in range(modules)
        ]
        one = [(f"{seed}.{i}", a) for i, (a, _) in enumerate(pairs)]
        other = [
            (f"{seed}.{i}", stack([(cosine, a), (math.sqrt(1 - cosine**2), b)]))
            for i, (a, b) in enumerate(pairs)
        ]
        first, second = sketch.of(one), sketch.of(other)
        true = sum(deltas.inner(a, b) for (_, a), (_, b) in zip(one, other, strict=True))
        true /= first.norm * second.norm
        (estimate,) = sketch.cosines(first, second.direction[None])
        errors.append((estimate - true) / sketch.standard_error(true))
    spread = math.sqrt(float(np.mean(np.square(errors))))
    assert 0.6 < spread < times * 1.25
    assert np.abs(errors).max() < 10  # what a search takes for sure


def test_a_multiple_has_a_cosine_of_one_and_a_negation_of_minus_one() -> None:
    a = low_rank(3, 20, 30, 2)
    query = sketch.of([("q", a)])
    others = np.stack([sketch.of([("q", replace(a, scale=factor))]).direction for factor in (0.01, -7.0)])
    assert sketch.cosines(query, others) == pytest.approx([1, -1], abs=1e-5)


def test_modules_of_other_names_shapes_or_forms_have_nothing_in_common() -> None:
    a = low_rank(5, 24, 24, 3)
    query = sketch.of([("q", a)])
    for name, other in (
        ("k", a),
        ("q", replace(a, form="conv", kernel=(1, 1))),
        ("q", low_rank(5, 24, 25, 3)),
    ):
        (found,) = sketch.cosines(query, sketch.of([(name, other)]).direction[None])
        assert abs(found) < 0.1


def test_the_length_is_exact_over_all_modules() -> None:
    modules: list[tuple[str, Delta]] = [(str(seed), low_rank(seed, 9, 7, 2, 1.5)) for seed in range(4)]
    modules.append(("ia3", Rescaling(torch.tensor([0.5, -0.25]), False)))
    expected = math.sqrt(sum(float(dense(delta).square().sum()) for _, delta in modules))
    assert sketch.of(modules).norm == pytest.approx(expected, rel=1e-12)


def test_factors_that_cancel_have_no_direction() -> None:
    a = low_rank(6, 50, 40, 3)
    for nothing in (stack([(1.0, a), (-1.0, a)]), replace(a, scale=0.0)):
        found = sketch.of([("q", nothing)])
        assert found.norm == 0
        assert not found.direction.any()
        assert sketch.cosines(sketch.of([("q", a)]), found.direction[None]) == [0]


@given(st.floats(0, 1e30), st.text(max_size=50).filter(lambda text: text.isprintable()))
def test_what_is_stored_is_read_back(norm: float, left_out: str) -> None:
    stored = Sketch(norm, np.linspace(-1, 1, SIZE).astype(np.float16), left_out)
    found = from_bytes(stored.to_bytes())
    assert found is not None
    assert (found.norm, found.left_out) == (norm, left_out)
    assert np.array_equal(found.direction, stored.direction)


@given(st.integers(0, 8 * (12 + 2 * SIZE + 4) - 1), st.integers(0, 12 + 2 * SIZE + 4))
def test_what_was_changed_or_cut_is_not_taken_for_a_sketch(bit: int, length: int) -> None:
    stored = Sketch(2.5, np.ones(SIZE, np.float16), "part").to_bytes()
    damaged = bytearray(stored)
    damaged[bit // 8] ^= 1 << bit % 8
    assert from_bytes(bytes(damaged)) is None
    assert length == len(stored) or from_bytes(stored[:length]) is None


def test_a_sketch_stays_what_it_was() -> None:
    """A catalog keeps them: what is changed here needs another ``ALGORITHM``."""
    up, down = torch.arange(6.0).reshape(3, 2) - 2, torch.arange(8.0).reshape(2, 4) / 4 - 1
    found = sketch.of([("model.q", LowRank(up, down, 0.5)), ("model.k", Rescaling(torch.ones(2), True))])
    places = np.argsort(-np.abs(found.direction.astype(float)), kind="stable")[:5]
    assert (sketch.ALGORITHM, SIZE, len(found.to_bytes())) == (1, 4096, 8204)
    assert [int(place) for place in places] == PLACES
    assert found.direction[places].astype(float) == pytest.approx(NUMBERS, rel=1e-3)


PLACES = [683, 990, 2868, 3645, 1374]
NUMBERS = [0.42041, 0.42041, 0.42041, -0.42041, -0.36792]
