from __future__ import annotations

import math
from decimal import Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.errors import UsageError
from tests.methods.cases import LAW, Stack, distance, low, merge, merged, stacks, turned, vector, wholes

TIMES = st.sampled_from(["0", "0.25", "0.5", "0.9", "1"])


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    if not a.any() or not b.any():
        return (1 - t) * a + t * b
    cosine = float((a / a.norm()).flatten() @ (b / b.norm()).flatten())
    if abs(cosine) > 1 - 1e-12:
        return (1 - t) * a + t * b
    omega = math.acos(cosine)
    return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)


@LAW
@given(stacks(2, 2), TIMES)
def test_it_is_the_arc_between_the_dense_deltas(stack: Stack, t: str) -> None:
    a, b = wholes(*stack)
    assert distance(merged("slerp", *stack, t=t), arc(a, b, float(t))) < 1e-10


@LAW
@given(stacks(2, 2), TIMES)
def test_from_the_other_end_it_is_the_same_arc(stack: Stack, t: str) -> None:
    deltas, weights = stack
    other = [None if d is None else turned(d, 1) for d in deltas[::-1]]
    back = merged("slerp", other, weights[::-1], t=str(1 - Decimal(t)))
    assert distance(back, merged("slerp", deltas, weights, t=t)) < 1e-10


@LAW
@given(stacks(2, 2), TIMES, st.sampled_from([1e-20, -3.0, 1e20]))
def test_it_scales(stack: Stack, t: str, factor: float) -> None:
    deltas, weights = stack
    scaled = merged("slerp", deltas, [factor * w for w in weights], t=t)
    assert distance(scaled / factor, merged("slerp", deltas, weights, t=t)) < 1e-10


def test_the_ends_are_the_inputs() -> None:
    a, b = low(5, 4, 2, 0), low(5, 4, 3, 1)
    assert distance(merged("slerp", [a, b], t=0), wholes([a])[0]) < 1e-15
    assert distance(merged("slerp", [a, b], t=1), wholes([b])[0]) < 1e-15


def test_unit_deltas_stay_on_the_sphere() -> None:
    deltas = [low(5, 4, 2, seed) for seed in (0, 1)]
    weights = [1 / float(whole.norm()) for whole in wholes(deltas)]
    assert float(merged("slerp", deltas, weights, t="0.3").norm()) == pytest.approx(1)


@pytest.mark.parametrize("weight", [1.0, 3.0, -1.0, -0.5])
def test_along_one_line_the_chord_is_taken(weight: float) -> None:
    a = low(5, 4, 2, 0)
    found = merge("slerp", [a, a], [1.0, weight], t="0.25")
    assert found.report["cosine"] == pytest.approx(math.copysign(1, weight))
    assert (
        distance(merged("slerp", [a, a], [1.0, weight], t="0.25"), (0.75 + 0.25 * weight) * wholes([a])[0])
        < 1e-15
    )


def test_close_to_parallel_it_is_precise() -> None:
    a, b = low(6, 5, 2, 0), low(6, 5, 2, 1)
    near = methods.build("average", {}).merge([a, b], [1.0, 1e-7], methods.Site("q", ["a", "b"])).delta
    x, y = wholes([a, near])
    assert (
        distance(merged("slerp", [a, near], t="0.5"), arc(x / x.norm(), y / y.norm(), 0.5) * 0 + (x + y) / 2)
        < 1e-10
    )


def test_a_zero_or_missing_delta_has_no_direction() -> None:
    a = low(5, 4, 2, 0)
    found = merge("slerp", [a, None], t="0.25")
    assert found.report == {}
    assert distance(merged("slerp", [a, None], t="0.25"), 0.75 * wholes([a])[0]) < 1e-15
    assert not merged("slerp", [a, a], [0.0, 0.0]).any()


def test_vectors_are_interpolated_around_one() -> None:
    a, b = vector(0), vector(1)
    torch.testing.assert_close(merged("slerp", [a, b], t="0.3"), arc(a.offset, b.offset, 0.3))


@pytest.mark.parametrize("t", ["-0.1", "1.1"])
def test_the_parameter_stays_between_the_ends(t: str) -> None:
    with pytest.raises(UsageError, match="slerp: t: "):
        methods.build("slerp", {"t": t})
