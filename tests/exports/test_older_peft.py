"""What an old PEFT makes of the export is what was stored.

The config classes below are those of PEFT 0.4.0 (src/peft/tuners/lora.py, ia3.py and utils/config.py), which take their
fields from the file with ``**kwargs`` and raise ``TypeError`` for one that they do not know.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry
from registry.errors import Refused
from registry.peft_format import read
from tests.adapters import PREFIX, Q0, load_tensors, lora_deltas, make_ia3, make_lora, make_opaque
from tests.exports.servers import logits, off
from tests.models import tiny_llama
from tests.verbs.places import refused

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")

A, B = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
SHAPES = {A: (32, 32), B: (32, 48)}


@dataclass
class _PeftConfig:
    peft_type: str | None = None
    auto_mapping: dict[str, Any] | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    task_type: str | None = None
    inference_mode: bool = False


@dataclass
class LoraConfig(_PeftConfig):
    r: int = 8
    target_modules: list[str] | str | None = None
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    init_lora_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: str | None = None


@dataclass
class IA3Config(_PeftConfig):
    target_modules: list[str] | str | None = None
    feedforward_modules: list[str] | str | None = None
    fan_in_fan_out: bool = False
    modules_to_save: list[str] | None = None
    init_ia3_weights: bool = True


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return config


def old_deltas(folder: Path) -> dict[str, torch.Tensor]:
    """ΔW as PEFT 0.4 has it: one rank and one alpha for all, targets by the ends of names."""
    config = LoraConfig(**config_of(folder))
    assert isinstance(config.target_modules, list)
    tensors = load_tensors(folder)
    found = {}
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        assert any(module.endswith(target) for target in config.target_modules)
        assert down.shape[0] == config.r
        up = tensors[name.replace("lora_A", "lora_B")]
        found[module] = config.lora_alpha / config.r * up.double().flatten(1) @ down.double().flatten(1)
    return found


def test_what_needs_no_new_field_keeps_every_bit(local: Registry, tmp_path: Path) -> None:
    source = make_lora(
        tmp_path / "a", modules=SHAPES, r=4, alpha=6,
        config={"corda_config": None, "peft_version": "0.21.2", "exclude_modules": None, "lora_ga_config": None},
    )  # fmt: skip
    with pytest.raises(TypeError):
        LoraConfig(**config_of(source))
    made = local.add(source, "a")
    out = local.checkout("a", tmp_path / "out", for_="older-peft")
    assert out.notes == ("every PEFT from 0.4.0 on loads it",)
    before, after = load_tensors(source), load_tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert read(tmp_path / "out").digest == made.digest
    assert off(old_deltas(tmp_path / "out"), lora_deltas(source)) == 0
    assert config_of(tmp_path / "out")["lora_alpha"] == 6


@pytest.mark.parametrize(
    "options",
    [
        {"rslora": True},
        {"ranks": {B: 2}, "alphas": {A: 5}},
        {"rslora": True, "ranks": {B: 2}},
        {"config": {"exclude_modules": ["k_proj"]}},
        {"config": {"target_modules": r".*\.(q_proj|down_proj)", "layers_to_transform": [0, 1]}},
    ],
)
def test_what_does_is_said_without_it(options: dict[str, Any], local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules=SHAPES, r=5, alpha=7, **options)
    local.add(source, "a")
    local.checkout("a", tmp_path / "out", for_="older-peft")
    assert off(old_deltas(tmp_path / "out"), lora_deltas(source)) < 1e-6


def test_an_adapter_of_layer_0_alone_stays_in_layer_0(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules={A: (32, 32)}, config={"layers_to_transform": 0})
    local.add(source, "a")
    for format_ in ("older-peft", "vllm"):
        local.checkout("a", tmp_path / format_, for_=format_)
        assert config_of(tmp_path / format_)["target_modules"] == [A]
    assert "layers_to_transform" not in config_of(tmp_path / "older-peft")


def test_todays_peft_loads_it_and_answers_the_same(local: Registry, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    base = tiny_llama(tmp_path / "base")
    head = {f"{PREFIX}lm_head.weight": torch.randn(96, 32, generator=torch.Generator().manual_seed(1))}
    source = make_lora(
        tmp_path / "a", modules=SHAPES, r=4, ranks={B: 2}, rslora=True, config={"modules_to_save": ["lm_head"]},
        extra=head,
    )  # fmt: skip
    local.add(source, "a")
    local.checkout("a", tmp_path / "out", for_="older-peft")
    assert LoraConfig(**config_of(tmp_path / "out")).modules_to_save == ["lm_head"]

    def answer(folder: Path) -> torch.Tensor:
        return logits(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder))

    torch.testing.assert_close(answer(tmp_path / "out"), answer(source), rtol=1e-5, atol=1e-5)


def test_convolutions_of_two_dimensions_are_padded_too(local: Registry, tmp_path: Path) -> None:
    source = make_lora(
        tmp_path / "a", modules={"a": (8, 4, 3, 3), "b": (6, 4, 1, 1)}, r=4, ranks={"b": 2}, alpha=7
    )
    local.add(source, "a")
    local.checkout("a", tmp_path / "out", for_="older-peft")
    before, after = (read(folder).layout.modules for folder in (source, tmp_path / "out"))
    assert {name: module.kernel for name, module in before.items()} == {
        name: module.kernel for name, module in after.items()
    }
    assert load_tensors(tmp_path / "out")[f"{PREFIX}b.lora_A.weight"].shape == (4, 4, 1, 1)


def test_ia3_loses_the_fields_that_came_later(local: Registry, tmp_path: Path) -> None:
    source = make_ia3(tmp_path / "a", config={"exclude_modules": None, "peft_version": "0.21.2"})
    made = local.add(source, "a")
    local.checkout("a", tmp_path / "out", for_="older-peft")
    config = IA3Config(**config_of(tmp_path / "out"))
    assert config.feedforward_modules == ["down_proj"]
    assert read(tmp_path / "out").digest == made.digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"config": {"use_dora": True}, "extra": {f"{PREFIX}{Q0}.lora_magnitude_vector": torch.ones(12)},
          "modules": {Q0: (12, 8)}}, "DoRA needs PEFT 0.9"),
        ({"config": {"lora_bias": True}, "extra": {f"{PREFIX}{Q0}.lora_B.bias": torch.ones(12)}}, "PEFT 0.14"),
        ({"config": {"trainable_token_indices": {"model.embed_tokens": [1]}},
          "extra": {f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(1, 8)}},
         "PEFT 0.15"),
        ({"config": {"layer_replication": [[0, 2], [1, 3]]}}, "layer replication"),
        ({"config": {"init_lora_weights": "olora"}}, "its initialization changed the base model"),
        ({"modules": {"conv": (8, 4, 3)}}, "a convolution that needs a later PEFT"),
    ],
)  # fmt: skip
def test_what_would_mean_something_else_is_refused(
    options: dict[str, Any], said: str, local: Registry, tmp_path: Path
) -> None:
    local.add(make_lora(tmp_path / "a", **options), "a")
    with refused(local, Refused, said, code=7):
        local.checkout("a", tmp_path / "out", for_="older-peft")
    assert not (tmp_path / "out").exists()


def test_a_kind_that_old_peft_does_not_have_is_refused(local: Registry, tmp_path: Path) -> None:
    local.add(make_opaque(tmp_path / "a"), "a", base="tiny/base")
    with refused(local, Refused, "PEFT 0.4.0 has no oft", code=7):
        local.checkout("a", tmp_path / "out", for_="older-peft")
