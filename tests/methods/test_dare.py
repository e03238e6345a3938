from __future__ import annotations

import pytest
import torch
from peft.utils import merge_utils

from registry.deltas import dense
from registry.methods._random import Stream
from tests.methods.elements import MODULE, WEIGHTS, Masks, low, terms, three, value


def test_over_seeds_the_average_is_the_exact_sum() -> None:
    delta = low(30, 40, 2, 0)
    mean = sum(value("dare", [(1.0, delta)], density="0.5", seed=seed) for seed in range(200)) / 200
    assert float((mean - dense(delta)).norm() / dense(delta).norm()) < 3 / 200**0.5


def test_the_share_kept_is_the_density() -> None:
    found = value("dare", [(1.0, low(200, 300, 1, 0))], density="0.2", rescale="none")
    assert float((found != 0).double().mean()) == pytest.approx(0.2, abs=0.01)


def test_kept_elements_are_divided_by_the_density_or_matched_in_norm_or_left() -> None:
    delta = low(20, 10, 1, 0)
    whole = dense(delta)
    plain, scaled, matched = (
        value("dare", [(1.0, delta)], density="0.25", rescale=rescale)
        for rescale in ("none", "density", "l1")
    )
    assert torch.equal(plain, whole * (plain != 0))
    torch.testing.assert_close(scaled, plain * 4)
    torch.testing.assert_close(matched.abs().sum(), whole.abs().sum())
    torch.testing.assert_close(matched / matched.abs().sum(), plain / plain.abs().sum())


def test_a_higher_density_keeps_what_a_lower_one_kept() -> None:
    few, more = (value("dare", [(1.0, low(20, 10, 1, 0))], density=d, rescale="none") for d in ("0.3", "0.6"))
    assert not (few.bool() & ~more.bool()).any()


def test_as_peft_given_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [dense(delta) for delta in three(40, 30)]
    monkeypatch.setattr(torch, "bernoulli", Masks([Stream(3, MODULE, position=i) for i in range(3)]))
    expected = merge_utils.dare_linear(given, torch.tensor(WEIGHTS, dtype=torch.float64), 0.3)
    found = value("dare", terms(three(40, 30)), density="0.3", seed=3)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
