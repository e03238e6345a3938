from __future__ import annotations

import pytest
import torch

from registry import methods
from registry.errors import UsageError
from registry.methods import _sparsify
from tests.methods.elements import low, matrices, value


def test_ranks_are_those_of_magnitudes_in_each_row() -> None:
    rows = torch.tensor([[3.0, -1.0, 2.0, 1.0], [0.0, 0.0, -5.0, 4.0]])
    assert _sparsify.row_ranks(rows).tolist() == [[3, 0, 2, 1], [0, 1, 3, 2]]
    assert _sparsify.row_ranks(rows[:1]).tolist() == [[3, 0, 2, 1]]
    mixed = torch.randn(20, 50).round(decimals=1)
    assert torch.equal(_sparsify.row_ranks(mixed), _sparsify.row_ranks(mixed.double()))


def test_larger_elements_are_kept_oftener_and_the_average_is_right() -> None:
    (delta,) = matrices([[1.0, -2.0, 3.0, 4.0, -5.0]])
    draws = [
        value("della", [(1.0, delta)], density="0.5", epsilon="0.4", seed=seed)[0] for seed in range(800)
    ]
    found = torch.stack(draws)
    share = (found != 0).double().mean(0)
    torch.testing.assert_close(share, torch.linspace(0.1, 0.9, 5).double(), rtol=0, atol=0.06)
    torch.testing.assert_close(found.mean(0), delta.weight[0], rtol=0.35, atol=0)


def test_without_epsilon_it_is_dare_ties() -> None:
    given = [(1.0, low(9, 8, 2, 0)), (-0.5, low(9, 8, 3, 1))]
    della = value("della", given, density="0.4", epsilon=0)
    assert torch.equal(della, value("dare_ties", given, density="0.4"))


def test_one_column_is_kept_with_the_density() -> None:
    (delta,) = matrices([[float(i)] for i in range(1, 2001)])
    share = (value("della", [(1.0, delta)], density="0.3") != 0).double().mean()
    assert float(share) == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(("density", "epsilon"), [("0.9", "0.2"), ("0.1", "0.15"), ("1", "0.15")])
def test_probabilities_must_stay_between_0_and_1(density: str, epsilon: str) -> None:
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        methods.build("della", {"density": density, "epsilon": epsilon})
