"""PEFT's ``add_weighted_adapter``, reproduced on ΔW: factor by factor, and on the dense delta before its SVD."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from registry import methods
from registry.deltas import LowRank, dense
from registry.methods import Site
from registry.methods._random import Stream
from tests.methods.elements import Masks

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
PEFT = {"elect": "unweighted", "tie": "positive"}
CASES: list[tuple[str, str, dict[str, str]]] = [
    ("linear", "linear", {}),
    ("ties", "ties", PEFT),
    ("dare_linear", "dare", {}),
    ("dare_ties", "dare_ties", PEFT),
    ("magnitude_prune", "magnitude_prune", {}),
]
SCALES = {"a": 16, "b": 4}  # alpha; the rank is 4
EXACT = [0.25, -4.0]  # √|w·s| is 1 and 2: PEFT holds these roots in float32


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.conv = nn.Conv2d(3, 6, 3)
        self.q = nn.Linear(8, 12)


def merged_by_peft(weights: list[float], **options: Any) -> tuple[Any, dict[str, dict[str, LowRank]]]:
    """The model with adapters a, b and the merged ``out``, and the inputs as deltas, all in float64."""
    torch.manual_seed(5)
    targets = ["table", "conv", "q"]
    configs = {
        name: LoraConfig(r=4, lora_alpha=alpha, target_modules=targets) for name, alpha in SCALES.items()
    }
    model: Any = get_peft_model(Base().double(), configs["a"], adapter_name="a")
    model.add_adapter("b", configs["b"])
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter.data, dtype=torch.float64)
    inputs = {
        name: {n: low_rank(model.base_model.model.get_submodule(name), n) for n in "ab"} for name in targets
    }
    model.add_weighted_adapter(["a", "b"], weights, "out", **options)
    return model, inputs


def low_rank(layer: Any, name: str) -> LowRank:
    kernel: tuple[int, ...] = ()
    if name in layer.lora_embedding_A:
        down, up = layer.lora_embedding_A[name].data, layer.lora_embedding_B[name].data
    else:
        down, up = layer.lora_A[name].weight.data, layer.lora_B[name].weight.data
        kernel = tuple(down.shape[2:])
    return LowRank(up.flatten(1).clone(), down.flatten(1).clone(), layer.scaling[name], kernel=kernel)


def delta(model: Any, name: str) -> torch.Tensor:
    found: torch.Tensor = model.base_model.model.get_submodule(name).get_delta_weight("out")
    return found.T if name == "table" else found.flatten(1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("weights", "tolerance"), [(EXACT, 1e-13), ([0.7, -0.4], 1e-6)])
def test_factor_by_factor(
    case: tuple[str, str, dict[str, str]],
    weights: list[float],
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    combination, name, parameters = case
    order = ["table", "conv", "q"]  # in which PEFT meets them; of each module first the A's
    streams = [Stream(3, module, position=i, part=part) for module in order for part in "AB" for i in (0, 1)]
    if combination.startswith("dare"):
        monkeypatch.setattr(torch, "bernoulli", Masks(streams))
    model, inputs = merged_by_peft(weights, combination_type=combination, density=0.4)
    options = {} if name == "linear" else {"on": "factors", **parameters, "density": "0.4"}
    for module, given in inputs.items():
        merged = methods.build(name, options).merge(
            list(given.values()), weights, Site(module, ["a", "b"], 3)
        )
        torch.testing.assert_close(dense(merged.delta), delta(model, module), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("combination", "name", "parameters"), CASES[1:])
def test_on_the_delta(
    combination: str, name: str, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full rank PEFT's SVD changes nothing. The convolution and the embedding are transposed there or not."""
    if combination.startswith("dare"):
        streams = [Stream(3, "q", position=i) for i in (0, 1)]
        monkeypatch.setattr(torch, "bernoulli", Masks([Stream(0, "")] * 4 + streams))
    model, inputs = merged_by_peft(
        [0.5, -1.5], combination_type=f"{combination}_svd", density=0.4, svd_rank=6, svd_full_matrices=False
    )
    method = methods.build(name, {**parameters, "density": "0.4", "rank": 6})
    whole = dense(method.merge(list(inputs["q"].values()), [0.5, -1.5], Site("q", ["a", "b"], 3)).delta)
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    best = left[:, :6] * values[:6] @ right[:6]
    torch.testing.assert_close(delta(model, "q"), best, rtol=1e-10, atol=1e-10)
