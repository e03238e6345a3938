"""mergekit's sums, means and arcs. It merges models; with a base model of zeros its models are our ΔW.

Where it and the formula part, the test says what is right.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from registry import kinds
from registry.deltas import LowRank, dense
from registry.errors import Incompatible
from tests.methods.cases import distance, low, merge, merged, wholes
from tests.oracles.conftest import Mergekit

SHAPES = [(20, 15, (1, 4, 2)), (1, 9, (1, 1, 3)), (7, 1, (2, 1, 1)), (6, 5, (9, 3, 5))]
WEIGHTS = [[0.7, -0.4, 1.3], [1.0, 1.0, 1.0], [-0.5, -0.5, -0.5]]
PRECISE = 1e-13


def trio(shape: tuple[int, int, tuple[int, ...]]) -> list[LowRank]:
    """Three inputs of mixed ranks and scales, some of more rank than the module has."""
    m, n, ranks = shape
    return [low(m, n, rank, seed, 0.5 + seed) for seed, rank in enumerate(ranks)]


def based(deltas: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(deltas[0]), *deltas]


def sum_of(deltas: list[LowRank], weights: list[float]) -> Tensor:
    return dense(kinds.load("lora").combine(list(zip(weights, deltas, strict=True))))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_task_arithmetic_and_linear_are_the_exact_sum(
    mergekit: Mergekit, shape: tuple[int, int, tuple[int, ...]], weights: list[float]
) -> None:
    deltas = trio(shape)
    found, models = sum_of(deltas, weights), wholes(deltas)
    theirs = mergekit.merge("task_arithmetic", based(models), base_index=0, weight=weights)
    assert distance(found, theirs) < PRECISE
    assert distance(found, mergekit.merge("linear", models, weight=weights, normalize=False)) < PRECISE


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_as_it_comes_is_the_average(
    mergekit: Mergekit, shape: tuple[int, int, tuple[int, ...]]
) -> None:
    deltas = trio(shape)
    theirs = mergekit.merge("linear", wholes(deltas), weight=[2.0, 2.0, 2.0])
    assert distance(merged("average", deltas), theirs) < PRECISE


def test_its_normalization_cancels_negation_and_ours_does_not_exist(mergekit: Mergekit) -> None:
    """``−a − b − c`` is minus ``a + b + c``; divided by the sum of its weights it is ``(a + b + c)/3``."""
    deltas = trio(SHAPES[0])
    theirs = mergekit.merge("linear", wholes(deltas), weight=[-1.0, -1.0, -1.0])
    assert distance(merged("average", deltas, [-1.0, -1.0, -1.0]), -theirs) < PRECISE


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS[:2])
@pytest.mark.parametrize("count", [2, 3])
def test_model_stock(
    mergekit: Mergekit, shape: tuple[int, int, tuple[int, ...]], weights: list[float], count: int
) -> None:
    deltas, chosen = trio(shape)[:count], weights[:count]
    theirs = mergekit.merge("model_stock", based(wholes(deltas, chosen)), base_index=0)
    assert distance(merged("model_stock", deltas, chosen), theirs) < 1e-12


def test_model_stock_of_small_deltas(mergekit: Mergekit) -> None:
    """mergekit divides by 1e-6 at least, so that small deltas never agree; the ratio has no such size."""
    deltas, small = trio(SHAPES[0]), [1e-5] * 3
    theirs = mergekit.merge("model_stock", based(wholes(deltas, small)), base_index=0)
    right = mergekit.merge("model_stock", based(wholes(deltas)), base_index=0) * 1e-5
    assert distance(merged("model_stock", deltas, small), right) < 1e-12
    assert distance(theirs, right) > 0.5


def test_model_stock_where_inputs_cancel(mergekit: Mergekit) -> None:
    """The formula has a pole there: mergekit keeps the base model, and so does ``clamp=true``."""
    a = low(5, 4, 2, 0)
    theirs = mergekit.merge("model_stock", based(wholes([a, a], [1.0, -1.0])), base_index=0)
    assert not theirs.any()
    assert torch.equal(merged("model_stock", [a, a], [1.0, -1.0], clamp=True), theirs)
    with pytest.raises(Incompatible):
        merge("model_stock", [a, a], [1.0, -1.0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_karcher(mergekit: Mergekit, shape: tuple[int, int, tuple[int, ...]], weights: list[float]) -> None:
    """mergekit takes the mean of whole models; of ΔW it is ours, where both iterate until they stand still."""
    deltas = trio(shape)
    theirs = mergekit.merge("karcher", wholes(deltas, weights), max_iter=500, tol=1e-13)
    found = merged("karcher", deltas, weights, max_iter=500, tolerance="0.0000000000001")
    assert distance(found, theirs) < 1e-12


def test_karcher_counts_a_zero_input_in_the_mean_length_alone(mergekit: Mergekit) -> None:
    a, b = low(5, 4, 2, 0), low(5, 4, 2, 1)
    zero = LowRank(torch.zeros_like(a.up), a.down)
    theirs = mergekit.merge("karcher", wholes([a, zero, b]), max_iter=500, tol=1e-13)
    for given in ([a, zero, b], [a, None, b]):
        assert distance(merged("karcher", given), theirs) < 1e-9


def test_karcher_of_small_deltas(mergekit: Mergekit) -> None:
    """mergekit leaves out what is shorter than ``tol``, 1e-5 as it comes; a direction has no such size."""
    deltas, small = trio(SHAPES[0]), [1e-8] * 3
    assert not mergekit.merge("karcher", wholes(deltas, small)).any()
    right = mergekit.merge("karcher", wholes(deltas), max_iter=500, tol=1e-13) * 1e-8
    assert distance(merged("karcher", deltas, small), right) < 1e-9


def test_karcher_where_directions_cancel(mergekit: Mergekit) -> None:
    """Every direction across is as good a mean as another. mergekit takes the first input's, we take none."""
    a = low(5, 4, 2, 0)
    assert distance(mergekit.merge("karcher", wholes([a, a], [1.0, -1.0])), dense(a)) < PRECISE
    assert not merged("karcher", [a, a], [1.0, -1.0]).any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", ["0", "0.25", "0.5", "0.9", "1"])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.7, -0.4]])
def test_slerp_and_nuslerp(
    mergekit: Mergekit, shape: tuple[int, int, tuple[int, ...]], t: str, weights: list[float]
) -> None:
    deltas = trio(shape)[:2]
    found, (a, b) = merged("slerp", deltas, weights, t=t), wholes(deltas, weights)
    assert distance(found, mergekit.merge("slerp", [a, b], base_index=0, t=float(t))) < 1e-12
    share = [3 - 3 * float(t), 3 * float(t)]  # NuSLERP's weights are normalized into t
    assert distance(found, mergekit.merge("nuslerp", based([a, b]), base_index=0, weight=share)) < 1e-12
    assert distance(found, mergekit.merge("nuslerp", [a, b], weight=share)) < 1e-12


@pytest.mark.parametrize("factor", [0.5, -2.0])
@pytest.mark.parametrize("t", ["0.25", "0.5"])
def test_slerp_along_one_line_is_the_chord(mergekit: Mergekit, factor: float, t: str) -> None:
    a = low(5, 4, 2, 0)
    models = wholes([a, a], [1.0, factor])
    share = [1 - float(t), float(t)]
    for theirs in (
        mergekit.merge("slerp", models, base_index=0, t=float(t)),
        mergekit.merge("nuslerp", based(models), base_index=0, weight=share),
    ):
        assert distance(merged("slerp", [a, a], [1.0, factor], t=t), theirs) < PRECISE


def test_slerp_of_a_zero_input_is_the_chord(mergekit: Mergekit) -> None:
    """A zero delta has no direction. mergekit takes it to stand at a right angle, and stretches the chord to an arc."""
    a = low(5, 4, 2, 0)
    theirs = mergekit.merge("slerp", [dense(a), torch.zeros_like(dense(a))], base_index=0, t=0.25)
    assert distance(theirs, math.cos(math.pi / 8) * dense(a)) < PRECISE
    assert distance(merged("slerp", [a, None], t="0.25"), 0.75 * dense(a)) < PRECISE


@pytest.mark.parametrize("difference", [0.03, 1e-3, 1e-6])
def test_slerp_of_nearly_parallel_deltas(mergekit: Mergekit, difference: float) -> None:
    """mergekit's ``slerp`` takes the chord from a cosine of 0.9995 on, its ``nuslerp`` the arc, as the formula says."""
    a, e = low(6, 5, 2, 0), low(6, 5, 2, 1)
    near = sum_of([a, e], [1.0, difference])
    b = LowRank(near, torch.eye(5, dtype=torch.float64))
    found = merged("slerp", [a, b], t="0.25")
    assert 0.9995 < merge("slerp", [a, b]).report["cosine"] < 1
    assert distance(found, mergekit.merge("nuslerp", [dense(a), near], weight=[0.75, 0.25])) < PRECISE
    chord = mergekit.merge("slerp", [dense(a), near], base_index=0, t=0.25)
    assert distance(chord, 0.75 * dense(a) + 0.25 * near) < PRECISE
    assert distance(found, chord) > 0.01 * difference**2
