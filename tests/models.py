"""Tiny random base models, saved as transformers saves them, and adapters trained on them by nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.deltas import Delta
from registry.kinds import Kind, Module, TensorInfo, family

VOCABULARY = 96
SIZE = 32


def tiny_llama(folder: Path, *, tied: bool = False, shards: int = 1, dtype: str = "float32") -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZE,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=tied,
    )
    return _save(LlamaForCausalLM, config, folder, shards, dtype)


def tiny_gpt2(folder: Path, *, prefix: bool = True) -> Path:
    """``prefix=False`` stores the body's tensors without ``transformer.``, as the first GPT-2 uploads do."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=SIZE,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    _save(GPT2LMHeadModel, config, folder)
    if not prefix:
        rewrite(folder, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()})
    return folder


def tiny_bert(folder: Path, *, masked: bool = False) -> Path:
    """An encoder alone, or one with its masked-language-model head."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return _save(BertForMaskedLM if masked else BertModel, config, folder)


def _save(model_class: Any, config: Any, folder: Path, shards: int = 1, dtype: str = "float32") -> Path:
    torch.manual_seed(0)
    model = model_class(config)
    for name, parameter in model.named_parameters():
        if "bias" in name or name.endswith("weight"):  # biases of zero would hide that they are scaled
            torch.nn.init.normal_(parameter, std=0.2)
    model = model.to(getattr(torch, dtype))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=max(1, size // shards) if shards > 1 else "5GB")
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a single-file checkpoint."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder: Path, **values: Any) -> None:
    """Set entries of a checkpoint's config; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint folder."""
    return {k: t for path in sorted(folder.glob("*.safetensors")) for k, t in load_file(path).items()}


@dataclass(frozen=True)
class Adapter:
    """An adapter read from a PEFT folder by its kind."""

    kind: Kind
    modules: Mapping[str, Module]
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]

    def delta(self, module: str) -> Delta:
        found = self.modules[module]
        return self.kind.delta(found, {role: self.tensors[name] for role, name in found.tensors.items()})


def read_adapter(folder: Path) -> Adapter:
    config = json.loads((folder / "adapter_config.json").read_text())
    stored = load_file(folder / "adapter_model.safetensors")
    tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in stored.items()}
    infos = {k: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for k, t in tensors.items()}
    kind = family.load(config["peft_type"].lower())()
    return Adapter(kind, kind.layout(config, infos).modules, tensors, config)
