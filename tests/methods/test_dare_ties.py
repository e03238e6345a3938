from __future__ import annotations

from typing import Literal

import pytest
import torch
from peft.utils import merge_utils

from registry.deltas import dense
from registry.methods._random import Stream
from tests.methods.elements import MODULE, WEIGHTS, Masks, terms, three, value


def test_it_is_ties_of_what_dare_leaves() -> None:
    given = terms(three(20, 10))
    alone = [value("dare", [(0.0, None) if i != j else (1.0, d) for j, (_, d) in enumerate(given)], density="0.4")
             for i in range(3)]  # fmt: skip
    votes = torch.stack([w * part for w, part in zip(WEIGHTS, alone, strict=True)]).sum(0)
    agree = [(w * part).sign() == votes.sign() for w, part in zip(WEIGHTS, alone, strict=True)]
    count = torch.stack(agree).sum(0).clamp(min=1)
    expected = sum(w * p * a for w, p, a in zip(WEIGHTS, alone, agree, strict=True)) / count
    torch.testing.assert_close(value("dare_ties", given, density="0.4"), expected)


@pytest.mark.parametrize("sign", ["total", "frequency"])
def test_as_peft_given_the_same_masks(
    monkeypatch: pytest.MonkeyPatch, sign: Literal["total", "frequency"]
) -> None:
    given = [dense(delta) for delta in three(40, 30)]
    monkeypatch.setattr(torch, "bernoulli", Masks([Stream(3, MODULE, position=i) for i in range(3)]))
    expected = merge_utils.dare_ties(given, torch.tensor(WEIGHTS, dtype=torch.float64), 0.3, sign)
    options = {"density": "0.3", "elect": "unweighted", "tie": "positive", "sign": sign}
    found = value("dare_ties", terms(three(40, 30)), seed=3, **options)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
