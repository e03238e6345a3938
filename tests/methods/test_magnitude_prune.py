from __future__ import annotations

import pytest
import torch
from peft.utils import merge_utils

from registry.deltas import dense
from tests.methods.elements import WEIGHTS, matrices, terms, three, value


def test_by_hand() -> None:
    a, b = matrices([[3, -1], [2, 0]], [[1, -5], [2, 2]])
    assert value("magnitude_prune", [(1.0, a), (-2.0, b)], density="0.5").tolist() == [[3, 10], [-2, 0]]
    found = value("magnitude_prune", [(1.0, a), (-2.0, b)], density="0.5", divisor="weight")
    torch.testing.assert_close(found, torch.tensor([[1, 10 / 3], [-2 / 3, 0]], dtype=torch.float64))


def test_divisors_by_hand() -> None:
    a, b = matrices([[6]], [[3]])
    assert float(value("magnitude_prune", [(1.0, a), (2.0, b)], density=1, divisor="weight")) == 4
    assert float(value("magnitude_prune", [(1.0, a), (2.0, b)], density=1, divisor="count")) == 6
    assert float(value("magnitude_prune", [(-1.0, a), (-2.0, b)], density=1, divisor="signed")) == 4
    assert float(value("magnitude_prune", [(1.0, a), (-1.0, b)], density=1, divisor="signed")) == 3


@pytest.mark.parametrize("density", ["1", "0.37", "0.01"])
@pytest.mark.filterwarnings("ignore:The density")
def test_as_peft(density: str) -> None:
    given = [dense(delta) for delta in three(40, 30)]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    expected = merge_utils.magnitude_prune(given, weights, float(density))
    found = value("magnitude_prune", terms(three(40, 30)), density=density)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
