"""A float64 model with a layer of every sort that PEFT adapts, adapters that PEFT trained on it by chance, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from registry import Registry

SORTS = ["table", "line", "turned", "one", "two", "three"]
IDS = torch.arange(24).reshape(3, 8) % 11
LORA: Mapping[str, dict[str, Any]] = {
    "a": {"r": 4, "lora_alpha": 6, "target_modules": [*SORTS, "head"]},
    "b": {
        "r": 3,
        "lora_alpha": 7,
        "target_modules": SORTS,
        "rank_pattern": {"line": 6},
        "alpha_pattern": {"two": 1},
    },
}
IA3: Mapping[str, dict[str, Any]] = {
    name: {"target_modules": ["line", "turned", "head"], "feedforward_modules": ["turned"]} for name in "ab"
}


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        turned: Any = Conv1D
        self.table = nn.Embedding(11, 6)
        self.line, self.turned = nn.Linear(6, 8), turned(10, 8)
        self.one, self.two = nn.Conv1d(10, 4, 3, padding=1), nn.Conv2d(4, 3, (2, 3), padding=1)
        self.three, self.head = nn.Conv3d(3, 5, (1, 2, 2)), nn.Linear(5, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.turned(torch.tanh(self.line(self.table(ids))))  # (batch, 8, 10)
        x = torch.tanh(self.one(x.transpose(1, 2))).reshape(-1, 4, 2, 4)
        x = torch.tanh(self.three(torch.tanh(self.two(x)).unsqueeze(2)))  # (batch, 5, 1, 2, 3)
        out: Tensor = self.head(x.flatten(2).mean(2))
        return out


def base() -> nn.Module:
    torch.manual_seed(4)
    return Everything().double()


def loras(**changed: Any) -> Any:
    return trained({name: LoraConfig(**{**options, **changed}) for name, options in LORA.items()})


def vectors() -> Any:
    return trained({name: IA3Config(**options) for name, options in IA3.items()})


def trained(configs: Mapping[str, Any]) -> Any:
    """The model with an adapter for each config, their weights random."""
    (first, config), *others = configs.items()
    model: Any = get_peft_model(base(), config, adapter_name=first)
    for name, other in others:
        model.add_adapter(name, other)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "ia3_" in name:
            drawn = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = drawn + float("ia3_" in name)
    return model.eval()


def shelved(model: Any, shelf: Registry, folder: Path) -> None:
    """The model's adapters, saved by PEFT and added to a registry."""
    model.save_pretrained(folder, save_embedding_layers=False)
    for name in model.peft_config:
        shelf.add(folder / name, name, base="tiny/everything")


def composed(shelf: Registry, expression: str, folder: Path) -> Any:
    """What the registry makes of an expression, loaded by PEFT."""
    shelf.compose("composed", expression)
    shelf.checkout("composed", folder)
    return PeftModel.from_pretrained(base(), folder).double().eval()


def deltas(model: Any, adapter: str = "default") -> dict[str, Tensor]:
    """ΔW by module, as PEFT has it."""
    return {
        name: layer.get_delta_weight(adapter).detach()
        for name, layer in model.base_model.model.named_modules()
        if adapter in getattr(layer, "lora_A", ()) or adapter in getattr(layer, "lora_embedding_A", ())
    }


def ells(model: Any, adapter: str = "default") -> dict[str, Tensor]:
    """(IA)³'s vectors by module."""
    return {
        name: layer.ia3_l[adapter].detach()
        for name, layer in model.base_model.model.named_modules()
        if adapter in getattr(layer, "ia3_l", ())
    }


def output(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS)
    return found
