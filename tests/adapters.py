"""Tiny adapters, made on the spot: PEFT folders with random weights, as PEFT itself would save them.

>>> make_lora(tmp_path / "a", modules={"h.0.attn": (6, 4)}, r=2, alpha=4)          # one Linear(4, 6)
>>> make_lora(tmp_path / "b", seed=1, ranks={"h.0.attn": 8}, rslora=True, config={"use_dora": True})
>>> make_ia3(tmp_path / "c", modules={"h.0.attn": 6}, feedforward={"h.0.mlp": 16})
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry import evaluate, peft_format, recipe
from registry.evaluate import Evaluated
from registry.peft_format import CONFIG, TENSORS, StoredAdapter

Q0, V0, Q1 = (f"model.layers.{layer}.self_attn.{name}_proj" for layer, name in ((0, "q"), (0, "v"), (1, "q")))
LINEARS: Mapping[str, tuple[int, ...]] = {Q0: (12, 8), V0: (6, 8), Q1: (12, 8)}
"""Modules of an imaginary model: weight shapes, ``(out, in)``."""

RESCALED: Mapping[str, int] = {"model.layers.0.self_attn.k_proj": 12, "model.layers.1.self_attn.k_proj": 12}
FEEDFORWARD: Mapping[str, int] = {"model.layers.0.mlp.down_proj": 16}
PREFIX = "base_model.model."


def make_lora(
    folder: Path,
    *,
    modules: Mapping[str, tuple[int, ...]] = LINEARS,
    embeddings: Mapping[str, tuple[int, int]] | None = None,
    r: int = 4,
    alpha: float = 8,
    ranks: Mapping[str, int] | None = None,
    alphas: Mapping[str, float] | None = None,
    rslora: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    base: str | None = "tiny/base",
    prefix: str = PREFIX,
    infix: str = "",
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    """A LoRA folder. ``modules`` holds weight shapes: two numbers for a Linear, more for a convolution.

    ``embeddings`` holds ``(V, D)``. ``ranks`` and ``alphas`` become the patterns. ``config`` overrides entries,
    ``extra`` adds tensors (by full name) or replaces those of the same name.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    tensors: dict[str, Tensor] = {}
    for name, (out, *inner) in modules.items():
        rank, ones = (ranks or {}).get(name, r), [1] * (len(inner) - 1)
        tensors[f"{prefix}{name}.lora_A{infix}.weight"] = draw(rank, *inner)
        tensors[f"{prefix}{name}.lora_B{infix}.weight"] = draw(out, rank, *ones)
    for name, (vocabulary, width) in (embeddings or {}).items():
        rank = (ranks or {}).get(name, r)
        tensors[f"{prefix}{name}.lora_embedding_A{infix}"] = draw(rank, vocabulary)
        tensors[f"{prefix}{name}.lora_embedding_B{infix}"] = draw(width, rank)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": None,
        "target_modules": sorted({name.rpartition(".")[2] for name in (*modules, *(embeddings or {}))}),
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": dict(ranks or {}),
        "alpha_pattern": dict(alphas or {}),
        "use_rslora": rslora,
        "use_dora": False,
        "bias": "none",
        "lora_dropout": 0.05,
        "init_lora_weights": True,
        "inference_mode": True,
        "fan_in_fan_out": False,
        "modules_to_save": None,
    }
    return write_adapter(folder, {**settings, **(config or {})}, {**tensors, **(extra or {})})


def make_ia3(
    folder: Path,
    *,
    modules: Mapping[str, int] = RESCALED,
    feedforward: Mapping[str, int] = FEEDFORWARD,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    base: str | None = "tiny/base",
    prefix: str = PREFIX,
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    """An (IA)³ folder; ``modules`` scale their outputs, ``feedforward`` their inputs, by as many features."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, size in modules.items():
        tensors[f"{prefix}{name}.ia3_l"] = (1 + 0.3 * torch.randn((size, 1), generator=generator)).to(dtype)
    for name, size in feedforward.items():
        tensors[f"{prefix}{name}.ia3_l"] = (1 + 0.3 * torch.randn((1, size), generator=generator)).to(dtype)
    settings = {
        "peft_type": "IA3",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": None,
        "target_modules": sorted({name.rpartition(".")[2] for name in (*modules, *feedforward)}),
        "feedforward_modules": sorted({name.rpartition(".")[2] for name in feedforward}),
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_ia3_weights": True,
        "modules_to_save": None,
    }
    return write_adapter(folder, {**settings, **(config or {})}, {**tensors, **(extra or {})})


def make_opaque(folder: Path, *, peft_type: str = "OFT", config: Mapping[str, Any] | None = None) -> Path:
    """An adapter of a type that is cataloged but not composed."""
    tensors = {f"{PREFIX}{Q0}.oft_r": torch.ones(4, 2)}
    return write_adapter(folder, {"peft_type": peft_type, "r": 2, **(config or {})}, tensors)


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """A PEFT folder with exactly this config and these tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS, {"format": "pt"}
    )
    return folder


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """A folder's tensors under the names they have in the file."""
    return load_file(folder / TENSORS)


def lora_deltas(folder: Path) -> dict[str, Tensor]:
    """ΔW of a folder of Linear modules in float64, straight from the definition; ignores patterns' wildcards."""
    config, tensors = json.loads((folder / CONFIG).read_text()), load_tensors(folder)
    deltas = {}
    for key, down in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name, up = (
            key.removeprefix(PREFIX).removesuffix(".lora_A.weight"),
            tensors[key.replace("lora_A", "lora_B")],
        )
        rank, alpha = down.shape[0], config["alpha_pattern"].get(name, config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
        deltas[name] = scale * up.double() @ down.double()
    return deltas


def combination(
    *terms: tuple[str | float, StoredAdapter | recipe.Call], dtype: Any = "float32"
) -> recipe.Recipe:
    """The recipe ``Σ weight · operand`` over read adapters and calls."""
    adapters = [operand for _, operand in terms if isinstance(operand, StoredAdapter)]
    kind = adapters[0].kind if adapters else "lora"
    return recipe.Recipe(kind=kind, algorithm=1, dtype=dtype, expression=linear(*terms))


def call(method: str, *arguments: recipe.Sum, **parameters: Any) -> recipe.Call:
    """A call of a merge method with today's algorithm and explicit parameters."""
    from registry import methods

    built = methods.build(method, parameters)
    return recipe.Call(
        method=method, algorithm=built.algorithm, parameters=built.explicit(), arguments=tuple(arguments)
    )


def linear(*terms: tuple[str | float, StoredAdapter | recipe.Call]) -> recipe.Sum:
    """``Σ weight · operand`` in canonical form."""
    return recipe.linear(
        (Decimal(str(w)), recipe.Input(digest=o.digest) if isinstance(o, StoredAdapter) else o)
        for w, o in terms
    )


def compute(made: recipe.Recipe, *adapters: StoredAdapter, **options: Any) -> list[Evaluated]:
    """Evaluate a recipe on the CPU."""
    readers = {adapter.digest: adapter for adapter in adapters}
    return list(evaluate.modules(made, readers, device=torch.device("cpu"), **options))


def materialize(folder: Path, made: recipe.Recipe, *adapters: StoredAdapter) -> StoredAdapter:
    """Evaluate a recipe on the CPU and write it."""
    return peft_format.write(
        folder,
        kind=made.kind,
        modules=(items := compute(made, *adapters)),
        names=[item.module for item in items],
        dtype=made.dtype,
        base_model=adapters[0].base_model,
        inputs_config=[adapter.config for adapter in adapters],
    )
