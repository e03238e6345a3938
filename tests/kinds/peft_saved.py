"""Adapters of any type as PEFT makes and saves them, and the ΔW that PEFT takes from them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn

from registry.deltas import LowRank, dense
from registry.peft_format import StoredAdapter, read


class Layers(nn.Module):
    """Layers of all sorts, most of unequal sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(24, 36)
        self.prime = nn.Linear(7, 13)
        self.conv = nn.Conv2d(4, 6, (3, 2))
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.point = nn.Conv2d(4, 6, 1)
        self.series = nn.Conv1d(4, 6, 5)


def make(
    config: Any, *, base: nn.Module | None = None, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Any:
    """A model of these layers with an adapter of random values: none of its parts is zero."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(base or Layers(), config).to(dtype)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn_like(parameter.data)
    return model


def save(model: Any, folder: Path) -> StoredAdapter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return read(folder)


def delta_in_peft(model: Any, name: str) -> Tensor:
    """ΔW ``(m, n)`` in float64."""
    layer = model.base_model.model.get_submodule(name)
    found: Tensor = layer.get_delta_weight("default").detach().double()
    return found.flatten(1)


def worst_error(model: Any, stored: StoredAdapter) -> float:
    """The largest difference from PEFT's ΔW over all modules, relative to its largest entry."""
    worst = 0.0
    for name, module in stored.layout.modules.items():
        expected, delta = delta_in_peft(model, name), stored.delta(name)
        assert isinstance(delta, LowRank)
        assert (delta.shape, delta.rank, delta.form) == (module.shape, module.rank, module.form)
        worst = max(worst, float((dense(delta) - expected).abs().max() / expected.abs().max()))
    return worst


TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 3e-2}
"""Relative to the largest entry; PEFT itself computes in the stored type."""
