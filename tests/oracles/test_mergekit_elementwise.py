"""mergekit's element-wise merges of ΔW, reproduced by documented settings. Its masks draw our random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registry.deltas import dense
from registry.methods._random import Stream, uniform
from tests.methods.elements import MODULE, terms, three, value
from tests.oracles.conftest import Mergekit

GIVEN = [dense(delta) for delta in three(20, 15)]
BASE = torch.zeros_like(GIVEN[0])
WEIGHTS = [[0.7, -0.4, 1.3], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]
DETERMINISTIC: list[tuple[str, str, dict[str, str]]] = [
    ("ties", "ties", {"tie": "positive"}),
    ("breadcrumbs", "breadcrumbs", {"gamma": "0.1"}),
    ("breadcrumbs_ties", "breadcrumbs", {"gamma": "0.1", "elect": "weighted", "tie": "positive"}),
]
RANDOM: list[tuple[str, str, dict[str, str]]] = [
    ("dare_linear", "dare", {}),
    ("dare_ties", "dare_ties", {"tie": "positive"}),
    ("della", "della", {"tie": "positive", "epsilon": "0.2"}),
    ("della_linear", "della", {"elect": "none", "epsilon": "0.2"}),
]
SEED = 3
DRAWS = [uniform(Stream(SEED, MODULE, position=i), BASE.numel()) for i in range(3)]


@pytest.mark.parametrize("case", DETERMINISTIC + RANDOM)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("switches", [(True, True), (True, False), (False, True), (False, False)])
def test_as_mergekit(
    mergekit: Mergekit,
    case: tuple[str, str, dict[str, str]],
    weights: list[float],
    switches: tuple[bool, bool],
) -> None:
    (method, name, options), (normalize, rescale) = case, switches
    extra: dict[str, float] = {key: float(options[key]) for key in ("gamma", "epsilon") if key in options}
    expected = mergekit.merge(
        method,
        [BASE, *GIVEN],
        base_index=0,
        draws=DRAWS if case in RANDOM else [],
        weight=weights,
        normalize=normalize,
        rescale=rescale,
        density=0.37,
        **{"lambda": -1.5, **extra},
    )
    chosen = {**options, "density": "0.37", "divisor": "signed" if normalize else "none", "scale": "-1.5"}
    chosen["rescale"] = "l1" if rescale else "none"
    found = value(name, terms(three(20, 15), weights), seed=SEED, **chosen)
    tolerance = 1e-5 if case in RANDOM else 1e-13  # it draws and masks in float32
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("density", ["1", "0.4"])
def test_sce(mergekit: Mergekit, density: str) -> None:
    expected = sce(mergekit, GIVEN, select_topk=float(density))
    found = value("sce", terms(three(20, 15), [1, 1, 1]), density=density, tie="positive")
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_where_its_cut_offs_are_absolute_ours_are_relative(mergekit: Mergekit) -> None:
    """At LoRA's usual size mergekit's SCE weighs all inputs alike; the formula has no such size."""
    small = [delta * 1e-5 for delta in GIVEN]
    found = sce(mergekit, small)
    ours = value("sce", terms(three(20, 15), [1e-5] * 3), density=1, tie="positive")
    right = sce(mergekit, GIVEN) * 1e-5
    torch.testing.assert_close(ours, right)
    assert float((found - right).norm() / right.norm()) > 0.1


def sce(mergekit: Mergekit, deltas: list[Tensor], select_topk: float = 1.0) -> Tensor:
    return mergekit.merge("sce", [BASE, *deltas], base_index=0, select_topk=select_topk)
