"""Adapters of Llama-7B's shapes, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

HIDDEN, INNER = 4096, 11008
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
BASE = "benchmark/llama-7b"


def modules(layers: int) -> Iterator[tuple[str, int, int]]:
    """Name, output and input size of every linear layer."""
    for layer in range(layers):
        for name, (m, n) in MODULES.items():
            yield f"model.layers.{layer}.{name}", m, n


def write_adapter(folder: Path, *, layers: int, rank: int, seed: int) -> Path:
    """A LoRA on all of them with random factors, in float32."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, m, n in modules(layers):
        tensors[f"base_model.model.{name}.lora_A.weight"] = 0.02 * torch.randn(rank, n, generator=generator)
        tensors[f"base_model.model.{name}.lora_B.weight"] = 0.02 * torch.randn(m, rank, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in MODULES}),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
