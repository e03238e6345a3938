"""A merged checkpoint, loaded by transformers, computes what PEFT computes with base and adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from registry.checkpoint import open_base
from registry.merge import MergedModel, merge_into_base
from tests.models import VOCABULARY, load_tensors, read_adapter, tiny_bert, tiny_gpt2, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")

TOKENS = torch.arange(1, 41).reshape(2, 20) * 7 % VOCABULARY

LLAMA_LORA: Any = {"target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj"]}
BOTH_ENDS: Any = {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}
GPT2_LORA: Any = {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}
GPT2_ENDS: Any = {"target_modules": ["c_attn", "wte", "lm_head"], "fan_in_fan_out": True}
BERT_LORA: Any = {"target_modules": ["query", "dense", "word_embeddings", "position_embeddings"]}
LLAMA_IA3: Any = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
GPT2_IA3: Any = {
    "target_modules": ["c_attn", "mlp.c_proj"],
    "feedforward_modules": ["mlp.c_proj"],
    "fan_in_fan_out": True,
}
BERT_IA3: Any = {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}


def train_randomly(auto: Any, base: Path, config: Any, out: Path) -> Tensor:
    """Save an adapter with random weights; what PEFT computes with it on ``TOKENS``."""
    model = get_peft_model(auto.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "ia3_" in name:
                noise = torch.randn(parameter.shape, generator=generator) * 0.3
                parameter.copy_(noise + (1.0 if "ia3_" in name else 0.0))
    model.save_pretrained(out, save_embedding_layers=False)
    return forward(PeftModel.from_pretrained(auto.from_pretrained(base), out))


def forward(model: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.eval()(input_ids=TOKENS)[0]
    return result


def merge(base: Path, adapter_folder: Path, out: Path, **options: Any) -> MergedModel:
    adapter = read_adapter(adapter_folder)
    out.mkdir()
    return merge_into_base(
        open_base(base),
        kind=adapter.kind,
        modules=adapter.modules,
        deltas=adapter.delta,
        out=out,
        device=torch.device("cpu"),
        fan_in_fan_out=adapter.config.get("fan_in_fan_out"),
        **options,
    )


def check(auto: Any, base: Path, config: Any, folder: Path) -> MergedModel:
    expected = train_randomly(auto, base, config, folder / "adapter")
    result = merge(base, folder / "adapter", folder / "merged")
    before, loaded = forward(auto.from_pretrained(base)), auto.from_pretrained(folder / "merged")
    assert (expected - before).abs().max() > 0.1  # the adapter does something
    torch.testing.assert_close(forward(loaded), expected, rtol=1e-4, atol=2e-4)
    return result


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("targets", [LLAMA_LORA, BOTH_ENDS], ids=["inside", "ends"])
def test_llama_lora(tmp_path: Path, tied: bool, shards: int, targets: Any) -> None:
    base = tiny_llama(tmp_path / "base", tied=tied, shards=shards)
    config = LoraConfig(r=4, lora_alpha=8, use_rslora=True, **targets)
    result = check(AutoModelForCausalLM, base, config, tmp_path)
    assert result.untied == (tied and targets is BOTH_ENDS)


@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_an_adapter_on_one_end_of_a_tied_llama_leaves_the_other_end_alone(tmp_path: Path, end: str) -> None:
    base = tiny_llama(tmp_path / "base", tied=True)
    check(AutoModelForCausalLM, base, LoraConfig(r=4, target_modules=[end]), tmp_path)
    tensors, before = load_tensors(tmp_path / "merged"), load_tensors(base)["model.embed_tokens.weight"]
    other = {"embed_tokens": "lm_head.weight", "lm_head": "model.embed_tokens.weight"}[end]
    assert torch.equal(tensors[other], before)
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("targets", [GPT2_LORA, GPT2_ENDS], ids=["inside", "ends"])
def test_gpt2_lora(tmp_path: Path, prefix: bool, targets: Any) -> None:
    base = tiny_gpt2(tmp_path / "base", prefix=prefix)
    check(AutoModelForCausalLM, base, LoraConfig(r=4, **targets), tmp_path)


def test_gpt2_lora_of_the_body_alone(tmp_path: Path) -> None:
    base = tiny_gpt2(tmp_path / "base")
    check(AutoModel, base, LoraConfig(r=4, **GPT2_LORA), tmp_path)


def test_bert_lora(tmp_path: Path) -> None:
    result = check(AutoModel, tiny_bert(tmp_path / "base"), LoraConfig(r=4, **BERT_LORA), tmp_path)
    assert not result.untied


def test_bert_with_a_tied_masked_language_model_head(tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base", masked=True)
    assert check(AutoModelForMaskedLM, base, LoraConfig(r=4, **BERT_LORA), tmp_path).untied


def test_llama_ia3(tmp_path: Path) -> None:
    check(AutoModelForCausalLM, tiny_llama(tmp_path / "base"), IA3Config(**LLAMA_IA3), tmp_path)


@pytest.mark.parametrize("prefix", [True, False])
def test_gpt2_ia3(tmp_path: Path, prefix: bool) -> None:
    base = tiny_gpt2(tmp_path / "base", prefix=prefix)
    check(AutoModelForCausalLM, base, IA3Config(**GPT2_IA3), tmp_path)


def test_bert_ia3_scales_biases(tmp_path: Path) -> None:
    check(AutoModel, tiny_bert(tmp_path / "base"), IA3Config(**BERT_IA3), tmp_path)


def test_bfloat16_output_is_the_float32_merge_rounded_once(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", dtype="bfloat16")
    train_randomly(AutoModelForCausalLM, base, LoraConfig(r=4, **LLAMA_LORA), tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path / "narrow")
    merge(base, tmp_path / "adapter", tmp_path / "wide", dtype="float32")
    narrow, wide = load_tensors(tmp_path / "narrow"), load_tensors(tmp_path / "wide")
    assert {t.dtype for t in narrow.values()} == {torch.bfloat16}
    assert {t.dtype for t in wide.values()} == {torch.float32}
    for name, tensor in wide.items():
        assert torch.equal(narrow[name], tensor.bfloat16()), name
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "wide")
    assert model.dtype == torch.float32
