from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from registry.errors import Incompatible
from tests.methods.cases import LAW, Stack, distance, low, merge, merged, stacks, turned, vector, wholes


def ratio(matrices: list[Tensor]) -> tuple[float, float]:
    """``c`` and ``1 + (N − 1)·c`` of dense matrices."""
    pairs = [
        float((a * b).sum() / (a.norm() * b.norm())) if a.any() and b.any() else 0.0
        for a, b in combinations(matrices, 2)
    ]
    c = sum(pairs) / len(pairs)
    return c, 1 + (len(matrices) - 1) * c


@LAW
@given(stacks(2))
def test_it_is_the_mean_times_the_ratio(stack: Stack) -> None:
    matrices = wholes(*stack)
    c, pole = ratio(matrices)
    if pole > 1e-3:
        mean = torch.stack(matrices).mean(0)
        t = len(matrices) * c / pole
        assert float((merged("model_stock", *stack) - t * mean).norm()) < 1e-10 * float(mean.norm() or 1)
        clamped = merged("model_stock", *stack, clamp=True)
        assert float((clamped - max(0.0, t) * mean).norm()) < 1e-10 * float(mean.norm() or 1)


@LAW
@given(stacks(2))
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    if ratio(wholes(*stack))[1] < 1e-3:
        return
    first = merged("model_stock", deltas, weights)
    size = sum(float(x.norm()) for x in wholes(*stack)) or 1.0
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert float((merged("model_stock", other, weights[::-1]) - first).norm()) < 1e-10 * size
    scaled = merged("model_stock", deltas, [-1e12 * w for w in weights])
    assert float((scaled / -1e12 - first).norm()) < 1e-10 * size


def test_copies_change_nothing() -> None:
    a = low(5, 4, 2, 0)
    assert distance(merged("model_stock", [a, a, a]), wholes([a])[0]) < 1e-14
    assert merge("model_stock", [a, a]).report == {"cosine": pytest.approx(1), "t": pytest.approx(1)}


def test_a_module_that_one_input_has_goes_to_the_base() -> None:
    assert not merged("model_stock", [low(5, 4, 2, 0), None]).any()


def test_inputs_that_cancel_are_refused_unless_clamped() -> None:
    a = low(5, 4, 2, 0)
    with pytest.raises(Incompatible, match=r"in module h\.0\.q"):
        merge("model_stock", [a, a], [1.0, -1.0])
    assert not merged("model_stock", [a, a], [1.0, -1.0], clamp=True).any()


def test_disagreement_turns_the_mean_around_unless_clamped() -> None:
    a, b = low(5, 4, 2, 0), low(5, 4, 2, 1)
    against = [1.0, -3.0] if ratio(wholes([a, b]))[0] > 0 else [1.0, 3.0]
    assert merge("model_stock", [a, b], against).report["t"] < 0
    assert merge("model_stock", [a, b], against, clamp=True).report["t"] == 0


def test_vectors_have_cosines_too() -> None:
    a, b = vector(0), vector(1)
    c = float(a.offset @ b.offset / (a.offset.norm() * b.offset.norm()))
    expected = 2 * c / (1 + c) * (a.offset + b.offset) / 2
    torch.testing.assert_close(merged("model_stock", [a, b]), expected)
