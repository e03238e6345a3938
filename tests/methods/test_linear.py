from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from registry.deltas import LowRank, dense
from registry.errors import Incompatible
from tests.methods.elements import LAW, low, merge, three, value


@LAW
@given(weight=st.sampled_from([1.0, -1.0, 0.3, -2.5]), scale=st.sampled_from([2.0, -0.5]))
def test_one_input_alone_is_exact(weight: float, scale: float) -> None:
    delta = low(5, 4, 3, 0, scale)
    torch.testing.assert_close(value("linear", [(weight, delta), (1.0, None)]), weight * dense(delta))


def test_two_inputs_have_cross_terms() -> None:
    a, b = low(5, 4, 3, 0, 1.0), low(5, 4, 3, 1, 4.0)
    merged = merge("linear", [(0.25, a), (-1.0, b)])
    assert isinstance(merged, LowRank)
    torch.testing.assert_close(merged.up, 0.5 * a.up + 2 * b.up)
    torch.testing.assert_close(merged.down, 0.5 * a.down - 2 * b.down)


def test_ranks_must_be_equal() -> None:
    with pytest.raises(Incompatible, match="linear needs equal ranks"):
        merge("linear", [(1.0, delta) for delta in three()])


def test_weight_zero_is_nothing() -> None:
    a, other = low(5, 4, 3, 0), low(5, 4, 2, 1)
    torch.testing.assert_close(value("linear", [(1.0, a), (0.0, other)]), dense(a))
    assert not value("linear", [(0.0, a)]).any()
