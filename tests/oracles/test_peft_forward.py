"""What we compute is what real PEFT computes: adapters saved by PEFT go in, and PEFT loads what comes out.

Base models are tiny, random and built from their configs; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from registry.peft_format import CONFIG, StoredAdapter, read
from tests.adapters import call, combination, linear, materialize

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

IDS = torch.tensor([[3, 14, 15, 9, 2, 6]])
Factory = Callable[[], nn.Module]
Deltas = dict[str, Tensor]


def llama() -> nn.Module:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    model: nn.Module = LlamaForCausalLM(config).double().train(mode=False)
    return model


def gpt2() -> nn.Module:
    torch.manual_seed(12)
    config = GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, tie_word_embeddings=False
    )
    model: nn.Module = GPT2LMHeadModel(config).double().train(mode=False)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # biases are zero in a new model
    return model


class Convolutional(nn.Module):
    """Convolutions of every dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.narrow = nn.Conv2d(6, 4, 1)
        self.cube = nn.Conv3d(4, 5, (2, 3, 1), padding=(0, 1, 0))
        self.line = nn.Conv1d(5, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.narrow(torch.relu(self.wide(x))))  # (batch, 4, 4, 4)
        x = self.cube(torch.stack([x, x.flip(-1)], dim=2))  # (batch, 5, 1, 4, 4)
        out: Tensor = self.line(x.flatten(2))
        return out


def convolutional() -> nn.Module:
    torch.manual_seed(13)
    return Convolutional().double().eval()


def output(model: nn.Module) -> Tensor:
    with torch.no_grad():
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            out: Tensor = model(torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).double())
            return out
        logits: Tensor = model(input_ids=IDS).logits
        return logits


def saved_by_peft(folder: Path, base: Factory, config: Any, seed: int) -> StoredAdapter:
    """An adapter with random weights, saved by PEFT in float32."""
    model = get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        elif "ia3_" in name:
            parameter.data = 1 + 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder, save_embedding_layers=False)
    return read(folder)


def loaded_by_peft(folder: Path, base: Factory) -> Any:
    return PeftModel.from_pretrained(base(), folder).double().eval()


def deltas(model: Any) -> Deltas:
    """ΔW by module, in float64, as PEFT's own get_delta_weight has it (in the base weight's orientation)."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def summed(terms: list[tuple[float, Deltas]]) -> Deltas:
    total: Deltas = {}
    for weight, found in terms:
        for name, delta in found.items():
            total[name] = total.get(name, torch.zeros_like(delta)) + weight * delta
    return total


LLAMA: list[tuple[float, dict[str, Any]]] = [
    (1.0, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    (
        -0.4,
        {"r": 6, "lora_alpha": 4, "target_modules": ["q_proj", "k_proj", "down_proj"], "use_rslora": True},
    ),
    (
        0.75,
        {
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ["q_proj", "embed_tokens", "lm_head"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 7, "embed_tokens": 2},
            "alpha_pattern": {r"layers\.[01]\.self_attn\.q_proj": 11, "q_proj": 99},
        },
    ),
]
GPT2: list[tuple[float, dict[str, Any]]] = [
    (0.5, {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}),
    (
        -1.0,
        {"r": 2, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc", "mlp.c_proj"], "fan_in_fan_out": True},
    ),
]
CONV: list[tuple[float, dict[str, Any]]] = [
    (1.0, {"r": 2, "lora_alpha": 8, "target_modules": ["wide", "narrow", "line"]}),
    (-0.3, {"r": 3, "lora_alpha": 2, "target_modules": ["wide", "cube"], "use_rslora": True}),
    (0.5, {"r": 7, "target_modules": ["cube", "line"], "rank_pattern": {"line": 1}}),
]


@pytest.mark.parametrize(("base", "terms"), [(llama, LLAMA), (gpt2, GPT2), (convolutional, CONV)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sum_is_that_of_pefts_deltas(
    tmp_path: Path, base: Factory, terms: list[tuple[float, dict[str, Any]]], dtype: str
) -> None:
    adapters, expected = [], []
    for seed, (weight, settings) in enumerate(terms):
        folder = tmp_path / str(seed)
        adapters.append(saved_by_peft(folder, base, LoraConfig(**settings), seed))
        expected.append((weight, deltas(loaded_by_peft(folder, base))))
    made = combination(*((w, a) for (w, _), a in zip(terms, adapters, strict=True)), dtype=dtype)
    materialize(tmp_path / "out", made, *adapters)

    result = loaded_by_peft(tmp_path / "out", base)
    total = summed(expected)
    found = deltas(result)
    assert found.keys() == total.keys()
    for name, delta in total.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-6, atol=1e-6)
    patched = base()
    for name, delta in total.items():
        module: Any = patched.get_submodule(name)
        module.weight.data += delta
    torch.testing.assert_close(output(result), output(patched), rtol=1e-5, atol=1e-5)


def test_the_result_config_suits_servers(tmp_path: Path) -> None:
    """vLLM reads alpha and r once for the whole adapter: their quotient must be 1."""
    adapters = [
        saved_by_peft(tmp_path / str(seed), llama, LoraConfig(**settings, task_type="CAUSAL_LM"), seed)
        for seed, (_, settings) in enumerate(LLAMA)
    ]
    materialize(tmp_path / "out", combination(*((1, a) for a in adapters)), *adapters)
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert config["lora_alpha"] == config["r"] == 4 + 6 + 7
    assert config["rank_pattern"] == config["alpha_pattern"]
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["use_rslora"], config["use_dora"], config["bias"]) == (False, False, "none")


def test_a_truncated_sum_is_the_best_of_its_rank(tmp_path: Path) -> None:
    adapters = [
        saved_by_peft(tmp_path / str(seed), llama, LoraConfig(**settings), seed)
        for seed, (_, settings) in enumerate(LLAMA)
    ]
    whole = summed([(w, deltas(loaded_by_peft(tmp_path / str(i), llama))) for i, (w, _) in enumerate(LLAMA)])
    inner = linear(*((w, a) for (w, _), a in zip(LLAMA, adapters, strict=True)))
    materialize(tmp_path / "out", combination((1, call("truncate", inner, rank=5))), *adapters)
    for name, delta in deltas(loaded_by_peft(tmp_path / "out", llama)).items():
        left, values, right = torch.linalg.svd(whole[name], full_matrices=False)
        best = left[:, :5] * values[:5] @ right[:5]
        torch.testing.assert_close(delta, best, rtol=1e-5, atol=1e-5)


def test_an_adapter_less_itself_loads_and_does_nothing(tmp_path: Path) -> None:
    a = saved_by_peft(tmp_path / "a", llama, LoraConfig(**LLAMA[2][1]), 0)
    materialize(tmp_path / "out", combination((1, a), (-1, a)), a)
    assert torch.equal(output(loaded_by_peft(tmp_path / "out", llama)), output(llama()))


def test_one_name_ending_another_loads_with_its_own_rank(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.inner = nn.Linear(6, 5), nn.ModuleDict({"q": nn.Linear(5, 4)})

    def base() -> nn.Module:
        torch.manual_seed(0)
        return Twice().double()

    config = LoraConfig(r=2, lora_alpha=6, target_modules=["q"], rank_pattern={"inner.q": 4})
    a = saved_by_peft(tmp_path / "a", base, config, 0)
    b = saved_by_peft(tmp_path / "b", base, LoraConfig(r=1, target_modules=["inner.q"]), 1)
    materialize(tmp_path / "out", combination((1, a), (1, b)), a, b)
    total = summed([(1, deltas(loaded_by_peft(tmp_path / name, base))) for name in "ab"])
    found = deltas(loaded_by_peft(tmp_path / "out", base))
    assert found.keys() == total.keys()
    for name, delta in total.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-6, atol=1e-6)


def vectors(folder: Path) -> Mapping[str, Tensor]:
    from tests.adapters import PREFIX, load_tensors

    return {
        k.removeprefix(PREFIX).removesuffix(".ia3_l"): v.double() for k, v in load_tensors(folder).items()
    }


def rescale(model: nn.Module, name: str, ell: Tensor) -> None:
    """Multiply activations by ``ell`` through the weights, from the definition of (IA)³."""
    module: Any = model.get_submodule(name)
    weight = module.weight.data if isinstance(module, nn.Linear) else module.weight.data.T  # (out, in)
    weight *= ell  # (1, in) or (out, 1)
    if ell.shape[0] > 1 and module.bias is not None:
        module.bias.data *= ell[:, 0]


VECTORS = [
    (llama, [["k_proj", "v_proj", "down_proj"], ["v_proj", "down_proj", "q_proj"]], ["down_proj"]),
    (gpt2, [["c_attn", "mlp.c_proj"], ["c_attn", "c_fc", "mlp.c_proj"]], ["mlp.c_proj"]),
]


@pytest.mark.parametrize(("base", "targets", "feedforward"), VECTORS)
@pytest.mark.parametrize("weights", [(1.0, -0.5), (-1.0, 0.0), (1.0, -1.0), (0.5, 0.5)])
def test_vectors_are_combined_around_one(
    tmp_path: Path,
    base: Factory,
    targets: list[list[str]],
    feedforward: list[str],
    weights: tuple[float, float],
) -> None:
    adapters = []
    for seed, names in enumerate(targets):
        config = IA3Config(target_modules=names, feedforward_modules=feedforward, fan_in_fan_out=base is gpt2)
        adapters.append(saved_by_peft(tmp_path / str(seed), base, config, seed))
    materialize(tmp_path / "out", combination(*zip(weights, adapters, strict=True)), *adapters)

    expected: dict[str, Tensor] = {}
    for seed, weight in enumerate(weights):
        for name, ell in vectors(tmp_path / str(seed)).items():
            expected[name] = expected.get(name, torch.ones_like(ell)) + weight * (ell - 1)
    result = loaded_by_peft(tmp_path / "out", base)
    found = vectors(tmp_path / "out")
    assert found.keys() == expected.keys()
    patched = base()
    for name, ell in expected.items():
        torch.testing.assert_close(found[name], ell, rtol=1e-6, atol=1e-6)
        rescale(patched, name, ell)
    torch.testing.assert_close(output(result), output(patched), rtol=1e-5, atol=1e-5)


def test_negating_vectors_is_two_minus_them(tmp_path: Path) -> None:
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    a = saved_by_peft(tmp_path / "a", llama, config, 0)
    materialize(tmp_path / "out", combination((-1, a)), a)
    for name, ell in vectors(tmp_path / "a").items():
        torch.testing.assert_close(vectors(tmp_path / "out")[name], 2 - ell, rtol=1e-7, atol=1e-7)
