"""What the programs that an export is for make of its files, by rules of their own."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""``MaxLoRARanks`` of vLLM 0.26, vllm/config/lora.py."""


@dataclass
class _PeftHelper:
    """The fields that vLLM reads of adapter_config.json (vllm/lora/peft_helper.py); it ignores all others."""

    r: int
    lora_alpha: int
    target_modules: list[str] | str
    bias: str = "none"
    modules_to_save: list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False


def vllm_deltas(folder: Path, expected: set[str], *, max_lora_rank: int = 16) -> dict[str, Tensor]:
    """ΔW by module as vLLM would apply it, in float64, or ``ValueError`` where it refuses to load.

    The rules are those of vllm/lora/peft_helper.py, lora_model.py and utils.py: one scale for all, names by their last
    parts, the safetensors keys as the source of truth. ``expected`` are the last names of the modules that the model
    wraps.
    """
    assert max_lora_rank in VLLM_RANKS
    config = json.loads((folder / "adapter_config.json").read_text())
    known = {field.name: field for field in fields(_PeftHelper)}
    if missing := {name for name, field in known.items() if field.default is MISSING} - config.keys():
        raise ValueError(f"Missing required configuration fields: {missing}")
    helper = _PeftHelper(**{name: value for name, value in config.items() if name in known})
    if helper.modules_to_save:
        raise ValueError("vLLM only supports modules_to_save being None.")
    if helper.use_dora:
        raise ValueError("vLLM does not yet support DoRA.")
    if helper.bias != "none":
        raise ValueError("Adapter bias is not supported.")
    if helper.r > max_lora_rank:
        raise ValueError(f"LoRA rank {helper.r} is greater than max_lora_rank {max_lora_rank}.")
    scaling = helper.lora_alpha / (math.sqrt(helper.r) if helper.use_rslora else helper.r)
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, first = _vllm_name(name)
        if module.rsplit(".", 1)[-1] not in expected:
            raise ValueError(f"expected target modules in {expected} but received {module}")
        (down if first else up)[module] = tensor.double()
    # The buffers that adapters are copied into have max_lora_rank rows.
    for factors, rank in ((down, 0), (up, 1)):
        assert all(tensor.shape[rank] <= max_lora_rank for tensor in factors.values())
    return {module: scaling * up[module] @ down[module] for module in down}


def _vllm_name(name: str) -> tuple[str, bool]:
    """``parse_fine_tuned_lora_name``."""
    parts = name.split(".")
    start = 2 if name.startswith("base_model.model.") else 0
    if parts[-1] == "weight" and parts[-2] in {"lora_A", "lora_B"}:
        return ".".join(parts[start:-2]), parts[-2] == "lora_A"
    if parts[-1] in {"lora_embedding_A", "lora_embedding_B"}:
        return ".".join(parts[start:-1]), parts[-1] == "lora_embedding_A"
    raise ValueError(f"{name} is unsupported LoRA weight")


def off(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative error of a module; all must be there."""
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


def logits(model: Any) -> Tensor:
    """What a tiny language model says to a fixed text, in float64."""
    tokens = torch.arange(3, 19).reshape(2, 8)
    with torch.no_grad():
        found: Tensor = model.double()(tokens).logits
    return found
