from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from tests.methods.cases import LAW, Stack, distance, low, merge, merged, stacks, turned, vector, wholes


def dense_mean(matrices: list[Tensor], steps: int) -> Any:
    """``steps`` steps of gradient descent on the sphere of dense vectors, times the mean length."""
    live = [x.flatten() for x in matrices if x.any()]
    total = sum(float(x.norm()) for x in matrices)
    if not live:
        return matrices[0]
    units = [x / x.norm() for x in live]
    u = torch.stack(units).mean(0)
    if u.norm() < 1e-12:
        return torch.zeros_like(matrices[0])
    u = u / u.norm()
    for _ in range(steps):
        logs = []
        for x in units:
            rest = x - (u @ x) * u
            theta = math.atan2(float(rest.norm()), float(u @ x))
            logs.append(rest / rest.norm() * theta if rest.norm() > 1e-14 else torch.zeros_like(u))
        step = torch.stack(logs).mean(0)
        if step.norm() > 0:
            u = torch.cos(step.norm()) * u + torch.sin(step.norm()) * step / step.norm()
    return total / len(matrices) * u.view(matrices[0].shape)


def settled(stack: Stack) -> bool:
    """Whether the inputs are in general position: no two directions opposite, a mean direction."""
    units = [x.flatten() / x.norm() for x in wholes(*stack) if x.any()]
    mean = torch.stack(units).mean(0) if units else torch.zeros(1)
    return not units or (
        float(mean.norm()) > 1e-2 and all(float(mean @ u) > -0.9 * float(mean.norm()) for u in units)
    )


@LAW
@given(stacks())
def test_it_is_the_iteration_on_dense_vectors(stack: Stack) -> None:
    if settled(stack):
        found = merged("karcher", *stack, max_iter=3, tolerance="0.000000000000000001")
        assert distance(found, dense_mean(wholes(*stack), 3)) < 1e-10


@LAW
@given(stacks())
def test_order_factoring_and_scale_do_not_matter(stack: Stack) -> None:
    deltas, weights = stack
    if not settled(stack):
        return
    first = merged("karcher", deltas, weights, max_iter=3)
    other = [None if d is None else turned(d, 5) for d in deltas[::-1]]
    assert distance(merged("karcher", other, weights[::-1], max_iter=3), first) < 1e-10
    scaled = merged("karcher", deltas, [-1e12 * w for w in weights], max_iter=3)
    assert distance(scaled / -1e12, first) < 1e-10


def test_at_the_mean_the_logarithms_cancel() -> None:
    deltas = [low(6, 5, 2, seed) for seed in range(4)]
    units = [x.flatten() / x.norm() for x in wholes(deltas)]
    found = merge("karcher", deltas)
    u = merged("karcher", deltas).flatten()
    u = u / u.norm()
    logs = [torch.acos(u @ x) / torch.sin(torch.acos(u @ x)) * (x - (u @ x) * u) for x in units]
    assert float(torch.stack(logs).sum(0).norm()) < 1e-9
    assert found.report["step"] < 1e-10
    assert 1 < found.report["iterations"] < 100


def test_between_two_of_equal_length_it_is_the_middle_of_the_arc() -> None:
    deltas = [low(5, 4, 2, seed) for seed in (0, 1)]
    weights = [1 / float(whole.norm()) for whole in wholes(deltas)]
    expected = merged("slerp", deltas, weights, t="0.5")
    assert distance(merged("karcher", deltas, weights), expected) < 1e-10


def test_one_input_comes_back_and_copies_change_nothing() -> None:
    a = low(5, 4, 2, 0)
    assert distance(merged("karcher", [a]), wholes([a])[0]) < 1e-14
    assert distance(merged("karcher", [a, a, a]), wholes([a])[0]) < 1e-14
    assert distance(merged("karcher", [a, a], [1.0, 3.0]), 2 * wholes([a])[0]) < 1e-14


def test_a_missing_module_counts_in_the_mean_length_only() -> None:
    a = low(5, 4, 2, 0)
    assert distance(merged("karcher", [a, None]), wholes([a])[0] / 2) < 1e-14


def test_where_directions_cancel_there_is_no_mean() -> None:
    a = low(5, 4, 2, 0)
    assert not merged("karcher", [a, a], [1.0, -2.0]).any()
    assert not merged("karcher", [a, a], [0.0, 0.0]).any()


def test_an_opposite_direction_does_no_harm() -> None:
    a = low(5, 4, 2, 0)
    found = merged("karcher", [a, a, a], [1.0, 1.0, -1.0])
    assert found.isfinite().all()
    assert distance(found, wholes([a])[0]) < 1e-10


def test_it_stops_where_it_is_told() -> None:
    deltas = [low(6, 5, 2, seed) for seed in range(4)]
    assert merge("karcher", deltas, max_iter=2).report["iterations"] == 2
    assert merge("karcher", deltas, tolerance="0.5").report["iterations"] == 1


def test_vectors_have_a_mean_direction_too() -> None:
    a, b = vector(0), vector(1)
    found = merged("karcher", [a, b])
    assert float(found.norm()) == pytest.approx((float(a.offset.norm()) + float(b.offset.norm())) / 2)
    units = a.offset / a.offset.norm(), b.offset / b.offset.norm()
    torch.testing.assert_close(found / found.norm(), (units[0] + units[1]) / (units[0] + units[1]).norm())
