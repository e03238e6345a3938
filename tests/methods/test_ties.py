from __future__ import annotations

from typing import Literal

import pytest
import torch
from peft.utils import merge_utils

from registry.deltas import dense
from tests.methods.elements import WEIGHTS, low, matrices, terms, three, value

A, B = matrices([[1, 2, -1]], [[1, -1, -3]])


@pytest.mark.parametrize(
    ("weights", "parameters", "expected"),
    [
        # by hand, and as mergekit 0.1.5 gives them
        ((1, 1), {"divisor": "signed"}, [1, 2, -2]),
        ((-1, -1), {"divisor": "signed"}, [1, 2, -2]),  # its normalization cancels the negation
        ((-1, -1), {"divisor": "none"}, [-2, -2, 4]),
        ((1, -1), {"divisor": "signed", "tie": "positive"}, [1, 3, -3]),
        # what is right
        ((1, 1), {}, [1, 2, -2]),
        ((-1, -1), {}, [-1, -2, 2]),
        ((-1, -1), {"divisor": "weight"}, [-1, -2, 2]),
        ((1, -1), {}, [0, 1.5, 3]),
        ((1, -1), {"tie": "positive"}, [1, 1.5, 3]),
        ((1, -1), {"elect": "unweighted"}, [0, 2, 1]),
        ((3, 1), {"divisor": "weight"}, [1, 2, -1.5]),
        ((1, 1), {"scale": "0.5"}, [0.5, 1, -1]),
        ((1, 1), {"sign": "frequency"}, [1, 0, -2]),
        ((1, 1), {"sign": "frequency", "tie": "positive"}, [1, 2, -2]),
    ],
)
def test_by_hand(weights: tuple[float, float], parameters: dict[str, str], expected: list[float]) -> None:
    found = value("ties", [(weights[0], A), (weights[1], B)], density=1, **parameters)
    assert found[0].tolist() == expected


def test_trimming_keeps_the_largest_and_of_equal_ones_the_first() -> None:
    (delta,) = matrices([[3, -1, 1], [-3, 1, 3]])
    assert value("ties", [(1.0, delta)], density="0.5").tolist() == [[3, 0, 0], [-3, 0, 3]]
    assert value("ties", [(1.0, delta)], density="0.34").tolist() == [[3, 0, 0], [-3, 0, 0]]
    assert value("ties", [(1.0, delta)], density="0.67").tolist() == [[3, -1, 0], [-3, 0, 3]]
    assert not value("ties", [(1.0, delta)], density="0.1").any()  # int(0.6) elements


def test_rescaling_restores_the_l1_norm_of_each_input() -> None:
    (delta,) = matrices([[3, -1, 1], [-3, 1, 3]])
    assert value("ties", [(1.0, delta)], density="0.5", rescale="l1").tolist() == [[4, 0, 0], [-4, 0, 4]]


def test_opposite_inputs_elect_nobody_whatever_their_weight() -> None:
    a = low(6, 5, 2, 0)
    for weight in (0.3, 0.1, 1.7):
        assert not value("ties", [(weight, a), (-weight, a)], density="0.7").any()


@pytest.mark.parametrize("sign", ["total", "frequency"])
@pytest.mark.parametrize("density", ["1", "0.37", "0.01"])
@pytest.mark.filterwarnings("ignore:The density")
def test_as_peft(sign: Literal["total", "frequency"], density: str) -> None:
    given = [dense(delta) for delta in three(40, 30)]
    expected = merge_utils.ties(given, torch.tensor(WEIGHTS, dtype=torch.float64), float(density), sign)
    found = value(
        "ties", terms(three(40, 30)), density=density, elect="unweighted", tie="positive", sign=sign
    )
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
