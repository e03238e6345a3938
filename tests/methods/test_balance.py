from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from registry.deltas import Dense, LowRank, dense
from registry.peft_format import read
from tests.adapters import call, combination, compute, linear, make_lora
from tests.methods.cases import LAW, Stack, distance, low, merge, stacks, turned

ONE = stacks(least=1, most=1)


def balanced(delta: LowRank, weight: float = 1.0) -> LowRank:
    found = merge("balance", [delta], [weight]).delta
    assert isinstance(found, LowRank)
    return found


def only(stack: Stack) -> LowRank:
    delta = stack[0][0]
    assert delta is not None
    return delta


@LAW
@given(ONE, st.sampled_from([1.0, -0.7, 1e-20, 1e20]))
def test_the_delta_stays_what_it_was(stack: Stack, weight: float) -> None:
    delta = only(stack)
    assert distance(dense(balanced(delta, weight)), weight * dense(delta)) < 1e-12


@LAW
@given(ONE)
def test_both_factors_have_one_gram_matrix_and_it_holds_the_singular_values(stack: Stack) -> None:
    found = balanced(only(stack))
    assert found.scale == 1
    values = torch.linalg.svdvals(dense(found))[: found.rank]
    for gram in (found.up.T @ found.up, found.down @ found.down.T):
        assert float((gram - torch.diag(values)).norm()) <= 1e-12 * float(values.norm())
    assert float(found.up.norm()) == pytest.approx(float(found.down.norm()), rel=1e-12)


@LAW
@given(ONE)
def test_the_rank_is_that_of_the_delta(stack: Stack) -> None:
    delta = only(stack)
    found = merge("balance", [delta])
    assert found.report == {"rank": max(1, int(torch.linalg.matrix_rank(dense(delta), rtol=1e-13)))}


@LAW
@given(ONE, st.integers(0, 2**16))
def test_another_factoring_of_the_same_delta_gives_the_same_factors(stack: Stack, seed: int) -> None:
    delta = only(stack)
    values = torch.linalg.svdvals(dense(delta))
    values = values[values > 1e-12 * values[0]]
    gaps = -values.diff() / values[:1]
    assume(len(values) > 0 and float(values[-1] / values[0]) > 1e-3 and not bool((gaps < 1e-3).any()))
    one, other = balanced(delta), balanced(turned(delta, seed))
    top = one.up.abs().sort(dim=0, descending=True).values  # which entry decides a sign must not be in doubt
    assume(len(top) == 1 or bool((top[1] < 0.999 * top[0]).all()))
    assert distance(other.up, one.up) < 1e-7
    assert distance(other.down, one.down) < 1e-7


@LAW
@given(ONE)
def test_balancing_again_changes_nothing(stack: Stack) -> None:
    once = balanced(only(stack))
    assert distance(dense(balanced(once)), dense(once)) < 1e-12
    assert balanced(once).rank == once.rank


def test_flipped_signs_of_the_factors_do_not_show() -> None:
    delta = low(9, 7, 4, 0)
    flipped = LowRank(-delta.up, -delta.down, delta.scale)
    assert distance(balanced(flipped).up, balanced(delta).up) < 1e-12
    assert (balanced(delta).up.gather(0, balanced(delta).up.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_repeated_adapter_has_the_rank_of_one_and_an_adapter_less_itself_that_of_zero() -> None:
    delta = low(40, 30, 4, 0)
    twice = LowRank(torch.cat([delta.up, delta.up], 1), torch.cat([delta.down, delta.down]))
    assert balanced(twice).rank == 4
    nothing = LowRank(torch.zeros(5, 3), torch.ones(3, 4))
    assert balanced(nothing).rank == 1
    assert not dense(balanced(nothing)).any()


def test_the_form_of_the_module_is_kept() -> None:
    found = balanced(LowRank(torch.randn(6, 3), torch.randn(3, 12), form="conv", kernel=(2, 2)))
    assert (found.form, found.kernel) == ("conv", (2, 2))


@pytest.mark.parametrize("form", ["linear", "whole"])
def test_a_dense_delta_stays_dense(form: Any) -> None:
    delta = Dense(torch.randn(7, 5), 2, form=form)
    found = merge("balance", [delta], [-0.5]).delta
    assert isinstance(found, Dense)
    assert (found.form, found.rank) == (form, 2)
    torch.testing.assert_close(found.weight, -0.5 * delta.weight)


def test_any_expression_can_be_stored_with_balanced_factors(tmp_path: Path) -> None:
    a, b = (read(make_lora(tmp_path / name, seed=seed)) for seed, name in enumerate("ab"))
    ties = call("ties", linear((1, a)), linear((-0.5, b)), density="0.5")
    for plain in (combination((1, a), (-0.5, b)), combination((1, ties))):
        before = {item.module: item.delta for item in compute(plain, a, b)}
        for item in compute(combination((1, call("balance", plain.expression))), a, b):
            assert isinstance(item.delta, LowRank)
            torch.testing.assert_close(item.delta.up.norm(), item.delta.down.norm())
            assert distance(dense(item.delta), dense(before[item.module])) < 1e-6  # what goes in is float32
