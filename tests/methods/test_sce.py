from __future__ import annotations

import pytest
import torch

from tests.methods.elements import low, matrices, value


def test_by_hand() -> None:
    a, b = matrices([[2, 1, 0, -2]], [[2, -1, 4, -2]])
    # all kept: mean squares 9/4 and 25/4; the second element ties, so nobody wins it
    expected = torch.tensor([[2, 0, 4, -2]], dtype=torch.float64)
    torch.testing.assert_close(value("sce", [(1.0, a), (1.0, b)], density=1), expected)
    # half of the two elements that vary: only the third, where the second input alone is not zero
    expected = torch.tensor([[0, 0, 4, 0]], dtype=torch.float64)
    torch.testing.assert_close(value("sce", [(1.0, a), (1.0, b)], density="0.5"), expected)


def test_coefficients_are_mean_squares() -> None:
    a, b = matrices([[1, 3]], [[2, 4]])
    ca, cb = 1 + 9, 4 + 16
    expected = torch.tensor([[(ca * 1 + cb * 2), (ca * 3 + cb * 4)]], dtype=torch.float64) / (ca + cb)
    torch.testing.assert_close(value("sce", [(1.0, a), (1.0, b)], density=1), expected)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_it_does_not_depend_on_the_unit(size: float) -> None:
    given = [(1.0, low(9, 8, 2, 0)), (3.0, low(9, 8, 3, 1))]
    found = value("sce", [(w * size, d) for w, d in given], density="0.5")
    torch.testing.assert_close(found / size, value("sce", given, density="0.5"))


def test_a_missing_module_varies_against_zero() -> None:
    (a,) = matrices([[3, 0, 1]])
    assert value("sce", [(1.0, a), (1.0, None)], density="0.5").tolist() == [[3, 0, 0]]
