from __future__ import annotations

import pytest

from registry import methods
from registry.errors import UsageError
from tests.methods.elements import matrices, value


def test_by_hand() -> None:
    (delta,) = matrices([[10, -9, 8, -7, 6], [5, -4, 3, -2, 1]])
    found = value("breadcrumbs", [(1.0, delta)], density="0.4", gamma="0.2")
    assert found.tolist() == [[0, 0, 8, -7, 6], [5, 0, 0, 0, 0]]
    assert (
        value("breadcrumbs", [(2.0, delta), (-2.0, delta)], density="0.4", gamma="0.2").tolist()
        == [[0] * 5] * 2
    )


def test_of_equal_elements_the_first_count_as_larger() -> None:
    (delta,) = matrices([[1, 1, -1, 1, 1, 1, 1, 1, 1, 1]])
    found = value("breadcrumbs", [(1.0, delta)], density="0.3", gamma="0.2")
    assert found.tolist() == [[0, 0, -1, 1, 1, 0, 0, 0, 0, 0]]


def test_a_small_tensor_loses_no_outlier() -> None:
    (delta,) = matrices([[4, 3, 2, 1]])
    assert value("breadcrumbs", [(1.0, delta)], density="0.5").tolist() == [[4, 3, 0, 0]]  # int(0.04) go


def test_signs_can_be_elected() -> None:
    a, b = matrices([[3, 3]], [[1, -2]])
    found = value("breadcrumbs", [(1.0, a), (1.0, b)], density=1, gamma=0, elect="weighted", divisor="count")
    assert found.tolist() == [[2, 3]]


def test_shares_must_not_overlap() -> None:
    with pytest.raises(UsageError, match="density \\+ gamma must not be more than 1"):
        methods.build("breadcrumbs", {"density": 1})
