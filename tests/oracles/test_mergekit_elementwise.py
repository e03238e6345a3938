"""mergekit's in-memory merges, reproduced by documented settings; skipped where mergekit is not installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from registry.methods._random import Stream
from tests.methods.elements import MODULE, Masks, terms, three, value

api = pytest.importorskip(
    "mergekit.merge_methods.api",
    reason="mergekit 0.1.5 is not installed: pip install --no-deps mergekit==0.1.5",
)

GIVEN = [delta.scale * (delta.up @ delta.down) for delta in three(20, 15)]
WEIGHTS = [[0.7, -0.4, 1.3], [1, 1, 1], [-1, -1, -1]]
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


def theirs(method: str, weights: list[float] | None, **parameters: Any) -> Tensor:
    if weights is not None:
        parameters["weight"] = weights
    found: Tensor = api.merge_tensors(
        [torch.zeros_like(GIVEN[0]), *GIVEN], method, parameters=parameters, base_index=0
    )
    return found


@pytest.mark.parametrize("case", DETERMINISTIC + RANDOM)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("switches", [(True, True), (True, False), (False, True), (False, False)])
def test_as_mergekit(
    case: tuple[str, str, dict[str, str]],
    weights: list[float],
    switches: tuple[bool, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (method, name, options), (normalize, rescale) = case, switches
    monkeypatch.setattr(torch, "bernoulli", Masks([Stream(3, MODULE, position=i) for i in range(3)]))
    extra = {key: float(options[key]) for key in ("gamma", "epsilon") if key in options}
    expected = theirs(method, weights, density=0.37, normalize=normalize, rescale=rescale, **extra)
    chosen = {**options, "density": "0.37", "divisor": "signed" if normalize else "none"}
    chosen["rescale"] = "l1" if rescale else "none"
    found = value(name, terms(three(20, 15), weights), seed=3, **chosen)
    tolerance = 1e-5 if case in RANDOM else 1e-13  # it draws and masks in float32
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("density", ["1", "0.4"])
def test_sce(density: str) -> None:
    expected = theirs("sce", None, select_topk=float(density))
    found = value("sce", terms(three(20, 15), [1, 1, 1]), density=density, tie="positive")
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_where_its_cut_offs_are_absolute_ours_are_relative() -> None:
    """At LoRA's usual size mergekit's SCE weighs all inputs alike; the formula has no such size."""
    small = [delta * 1e-5 for delta in GIVEN]
    found = api.merge_tensors(
        [torch.zeros_like(small[0]), *small], "sce", parameters={"select_topk": 1.0}, base_index=0
    )
    ours = value("sce", terms(three(20, 15), [1e-5] * 3), density=1, tie="positive")
    right = theirs("sce", None, select_topk=1.0) * 1e-5
    torch.testing.assert_close(ours, right)
    assert float((found - right).norm() / right.norm()) > 0.1
