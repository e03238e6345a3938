"""Adapters that PEFT made on a tiny model, what PEFT merges them to, and what is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from registry.deltas import dense
from registry.peft_format import StoredAdapter, read
from registry.recipe import Recipe
from tests.adapters import materialize

Deltas = dict[str, Tensor]
EXACT = 1e-6  # adapters are stored in float32


class Tiny(nn.Module):
    """Layers of every sort that LoRA adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v, self.head = nn.Linear(12, 16), nn.Linear(16, 10), nn.Linear(10, 4)
        self.line, self.cube = nn.Conv1d(3, 5, 3), nn.Conv3d(3, 5, 2)
        self.layers = nn.ModuleList(nn.ModuleDict({"k": nn.Linear(6, 6)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.v(torch.relu(self.q(x))))
        return out


def base() -> nn.Module:
    torch.manual_seed(1)
    return Tiny()


def lora(**options: Any) -> LoraConfig:
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"]}
    return LoraConfig(**(settings | options))


def trained(factory: Callable[[], nn.Module] = base, /, **configs: Any) -> Any:
    """A model with an adapter for each config, their weights random."""
    (first, config), *others = configs.items()
    model: Any = get_peft_model(factory(), config, adapter_name=first)
    for name, other in others:
        model.add_adapter(name, other)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "ia3_" in name:
            drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.data = drawn.abs() + 0.5 if "magnitude" in name else drawn + float("ia3_" in name)
    return model


def saved(model: Any, folder: Path) -> dict[str, StoredAdapter]:
    """The model's adapters, saved by PEFT and read by us."""
    model.save_pretrained(folder, save_embedding_layers=False)
    return {name: read(folder / name) for name in model.peft_config}


def adapted(model: Any, name: str) -> Iterator[tuple[str, Any]]:
    for path, layer in model.base_model.model.named_modules():
        if name in getattr(layer, "lora_A", ()) or name in getattr(layer, "ia3_l", ()):
            yield path, layer


def theirs(model: Any, name: str = "out") -> Deltas:
    """ΔW of an adapter, as PEFT has it."""
    return {
        path: layer.get_delta_weight(name).detach().double().flatten(1)
        for path, layer in adapted(model, name)
    }


def right(model: Any, weights: Mapping[str, float]) -> Deltas:
    """``Σ w·s·B·A`` in float64, straight from the factors."""
    total: Deltas = {}
    for name, weight in weights.items():
        for path, layer in adapted(model, name):
            up, down = (
                part[name].weight.detach().double().flatten(1) for part in (layer.lora_B, layer.lora_A)
            )
            total[path] = total.get(path, torch.zeros(())) + weight * layer.scaling[name] * up @ down
    return total


def ours(folder: Path, made: Recipe, adapters: Mapping[str, StoredAdapter]) -> Deltas:
    """ΔW of our result, as it is stored."""
    result = materialize(folder, made, *adapters.values())
    return {name: dense(result.delta(name)) for name in result.layout.modules}


def off(found: Deltas, expected: Deltas) -> float:
    """The relative error of the whole; a module that is missing is a zero one."""
    lost = [float((found.get(path, 0) - delta).square().sum()) for path, delta in expected.items()]
    return math.sqrt(sum(lost) / sum(float(delta.square().sum()) for delta in expected.values()))


def ratio(found: Deltas, expected: Deltas) -> float:
    return next(float(found[path].norm() / delta.norm()) for path, delta in expected.items())


def output(model: Any, name: str | None) -> Tensor:
    """What the model computes with an adapter, or with none."""
    x = torch.randn((5, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        if name is None:
            with model.disable_adapter():
                plain: Tensor = model(x)
                return plain
        model.set_adapter(name)
        out: Tensor = model(x)
    return out
