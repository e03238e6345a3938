"""What adapters hold beside LoRA's own modules, and DoRA: compared with what PEFT makes of the same adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from registry import Registry
from registry.errors import Incompatible, Refused
from tests.adapters import make_lora
from tests.models import load_tensors, rewrite, tiny_bert, tiny_gpt2, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

LLAMA: Any = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
GPT2: Any = {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}

CASES: Mapping[str, tuple[Any, Any]] = {
    "head": (tiny_llama, LoraConfig(**LLAMA, modules_to_save=["lm_head"])),
    "norms": (tiny_llama, LoraConfig(**LLAMA, modules_to_save=["input_layernorm", "model.norm"])),
    "both ends": (tiny_llama, LoraConfig(**LLAMA, modules_to_save=["embed_tokens", "lm_head"])),
    "all biases": (tiny_gpt2, LoraConfig(**GPT2, bias="all")),
    "biases of its own": (tiny_gpt2, LoraConfig(**GPT2, bias="lora_only")),
    "biases of lora_B": (tiny_gpt2, LoraConfig(**GPT2, lora_bias=True)),
    "tokens": (tiny_llama, LoraConfig(**LLAMA, trainable_token_indices=[7, 3, 90])),
    "tokens by name": (tiny_gpt2, LoraConfig(**GPT2, trainable_token_indices={"wte": [3, 9]})),
    "a copied embedding": (tiny_llama, LoraConfig(target_modules=["q_proj", "embed_tokens"])),
    "(IA)³ with a head": (
        tiny_llama,
        IA3Config(target_modules=["k_proj"], feedforward_modules=[], modules_to_save=["lm_head"]),
    ),
}
DORA: Mapping[str, tuple[Any, Any]] = {
    "linear": (tiny_llama, LoraConfig(**LLAMA, use_dora=True)),
    "Conv1D": (tiny_gpt2, LoraConfig(**GPT2, use_dora=True)),
    "embedding": (tiny_llama, LoraConfig(target_modules=["embed_tokens", "q_proj"], use_dora=True)),
}


def train(auto: Any, base: Path, config: Any, out: Path, seed: int) -> dict[str, Tensor]:
    """An adapter with random weights; the base's tensors as PEFT merges it into them."""
    torch.manual_seed(seed)
    model = get_peft_model(auto.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(out)
    return merged(auto, base, out)


def merged(auto: Any, base: Path, adapter: Path) -> dict[str, Tensor]:
    whole = PeftModel.from_pretrained(auto.from_pretrained(base), adapter).merge_and_unload()
    return {name: tensor.double() for name, tensor in whole.state_dict().items()}


def prepare(catalog: Registry, build: Any, config: Any, folder: Path) -> tuple[Path, Any]:
    """A base, two adapters in the catalog, and what ``0.5*a + 0.25*b`` makes of the base's tensors."""
    base = build(folder / "base")
    before = {
        name: tensor.double()
        for name, tensor in AutoModelForCausalLM.from_pretrained(base).state_dict().items()
    }
    found = [train(AutoModelForCausalLM, base, config, folder / name, seed) for seed, name in enumerate("ab")]
    for name in "ab":
        catalog.add(folder / name, name, base="tiny/base")
    wanted = {
        name: tensor + 0.5 * (found[0][name] - tensor) + 0.25 * (found[1][name] - tensor)
        for name, tensor in before.items()
    }
    return base, wanted


def another(folder: Path) -> Path:
    """A base with the same shapes and other values."""
    rewrite(tiny_llama(folder), lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()})
    return folder


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert wanted.keys() >= found.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), wanted[name], rtol=0, atol=2e-6, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_parts_compose_as_differences_from_the_base(local: Registry, tmp_path: Path, case: str) -> None:
    base, wanted = prepare(local, *CASES[case], tmp_path)
    made = local.compose("c", "0.5*a + 0.25*b", base_path=base)
    assert not made.not_composable
    local.checkout(made, tmp_path / "c")
    same(merged(AutoModelForCausalLM, base, tmp_path / "c"), wanted)  # PEFT loads every part
    local.materialize(made, into="model", base_path=base, out=tmp_path / "model")
    same(load_tensors(tmp_path / "model"), wanted)
    assert local.verify(["c"], rebuild=True, base_path=base)[0].ok


@pytest.mark.parametrize("case", [name for name in CASES if name != "biases of lora_B"])
def test_without_the_base_such_a_part_is_refused_by_name(local: Registry, tmp_path: Path, case: str) -> None:
    prepare(local, *CASES[case], tmp_path)
    with pytest.raises(Refused, match=r"a@1 composes only with its base model at hand: it holds .*whole"):
        local.compose("c", "0.5*a + 0.25*b")
    with pytest.raises(Refused, match="base model"):
        local.check("0.5*a + 0.25*b")


def test_one_adapter_alone_comes_out_as_it_went_in(local: Registry, tmp_path: Path) -> None:
    base, _ = prepare(local, *CASES["both ends"], tmp_path)
    made = local.compose("c", "a", base_path=base)
    assert made.digest == local.show("a").digest or made.rank == local.show("a").rank
    local.checkout(made, tmp_path / "c")
    before, after = (load_tensors(tmp_path / name) for name in "ac")
    for name in ("base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"):
        assert torch.equal(before[name], after[name])


def test_tokens_of_different_sets_meet_in_their_union(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    ids = ([5, 2], [2, 11])
    found = [
        train(
            AutoModelForCausalLM, base, LoraConfig(**LLAMA, trainable_token_indices=rows), tmp_path / name, 3
        )
        for name, rows in zip("ab", ids, strict=True)
    ]
    for name in "ab":
        local.add(tmp_path / name, name)
    local.checkout(local.compose("c", "a - b", base_path=base), tmp_path / "c")
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    wanted = {name: t + found[0][name] - found[1][name] for name, t in before.items()}
    same(merged(AutoModelForCausalLM, base, tmp_path / "c"), wanted)


def test_a_head_that_the_base_does_not_have_counts_from_zero(local: Registry, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base")
    for seed, name in enumerate("ab"):
        config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
        train(AutoModelForSequenceClassification, base, config, tmp_path / name, seed)
        local.add(tmp_path / name, name)
    made = local.compose("c", "0.5*a + 0.5*b", base_path=base)
    assert any("classifier.weight" in warning for warning in made.warnings)
    local.checkout(made, tmp_path / "c")
    heads = [load_tensors(tmp_path / name)["base_model.model.classifier.weight"] for name in "abc"]
    torch.testing.assert_close(heads[2], (heads[0] + heads[1]) / 2)
    found = merged(AutoModelForSequenceClassification, base, tmp_path / "c")
    torch.testing.assert_close(found["classifier.weight"], heads[2].double())


def test_a_resized_or_trained_copy_of_an_embedding_is_refused(local: Registry, tmp_path: Path) -> None:
    build, config = CASES["a copied embedding"]
    prepare(local, build, config, tmp_path)
    with pytest.raises(Refused, match=r"embed_tokens\.base_layer\.weight is not the base model's"):
        local.compose("c", "a + b", base_path=another(tmp_path / "other"))


def test_methods_that_need_factors_refuse_what_has_none(local: Registry, tmp_path: Path) -> None:
    base, _ = prepare(local, *CASES["head"], tmp_path)
    with pytest.raises(Refused, match=r"factors works on LoRA's factors, and lm_head.weight is stored whole"):
        local.check("factors(0.5*a + 0.5*b)", base_path=base)
    with pytest.raises(Refused, match="stored whole"):
        local.compose("c", "factors(0.5*a + 0.5*b)", base_path=base)
    made = local.compose("c", "ties(a, b, density=0.5)", base_path=base)
    local.checkout(made, tmp_path / "c")
    assert "base_model.model.lm_head.weight" in load_tensors(tmp_path / "c")


def test_another_base_than_the_recorded_one_is_refused(local: Registry, tmp_path: Path) -> None:
    base, _ = prepare(local, *CASES["head"], tmp_path)
    local.materialize("a", into="model", base_path=base, out=tmp_path / "model")  # records the base
    with pytest.raises(Incompatible, match="other weights"):
        local.compose("c", "a + b", base_path=another(tmp_path / "other"))


@pytest.mark.parametrize("case", DORA)
def test_dora_is_exact_in_a_model_and_at_full_rank(local: Registry, tmp_path: Path, case: str) -> None:
    base, wanted = prepare(local, *DORA[case], tmp_path)
    with pytest.raises(Refused, match=r"a@1 composes only with its base model at hand: DoRA"):
        local.compose("c", "0.5*a + 0.25*b")
    for verb in (local.check, lambda text, **where: local.compose("c", text, **where)):
        with pytest.raises(Refused, match="full rank"):
            verb("0.5*a + 0.25*b", base_path=base)
    assert local.check("0.5*a + 0.25*b", base_path=base, rank=32).rank == 32
    made = local.compose("c", "0.5*a + 0.25*b", base_path=base, rank=32)
    local.materialize("c", into="model", base_path=base, out=tmp_path / "model")
    same(load_tensors(tmp_path / "model"), wanted)
    local.checkout(made, tmp_path / "c")
    same(merged(AutoModelForCausalLM, base, tmp_path / "c"), wanted)
    errors = [item.values["error"] for item in local.compose("d", "a", base_path=base, rank=4).report]
    assert 0 < max(errors) < 1


def test_the_base_is_pinned_whichever_input_needs_it(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    for seed, name in enumerate(("plain", "dora", "other")):
        config = LoraConfig(**LLAMA, use_dora=name == "dora")
        train(AutoModelForCausalLM, base, config, tmp_path / name, seed)
        local.add(tmp_path / name, name)
    for text in ("plain + dora", "other + dora"):  # whatever their digests' order
        with pytest.raises(Refused, match="full rank"):
            local.compose("c", text, base_path=base)
        one = local.compose("c", text, base_path=base, rank=4)
        two = local.compose("c", text, base_path=another(tmp_path / f"other {text}"), rank=4)
        assert one.recipe
        assert two.recipe
        assert one.recipe.digest != two.recipe.digest
        assert not two.cached


@pytest.mark.parametrize("rows", [{"lm_head": [9]}, {"embed_tokens": [3], "lm_head": [9]}])
def test_tokens_of_a_tied_head_are_not_merged_away(local: Registry, tmp_path: Path, rows: Any) -> None:
    base = tiny_llama(tmp_path / "base", tied=True)
    train(AutoModelForCausalLM, base, LoraConfig(**LLAMA, trainable_token_indices=rows), tmp_path / "a", 1)
    local.add(tmp_path / "a", "a")
    with pytest.raises(Refused, match=r"trained tokens and 'lm_head\.weight'"):
        local.materialize("a", into="model", base_path=base, out=tmp_path / "model")


def test_tokens_and_a_separated_head_are_not_merged_into_one_model(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", tied=True)
    tokens = LoraConfig(**LLAMA, trainable_token_indices=[3, 9])
    head = LoraConfig(target_modules=["q_proj", "lm_head"])
    for name, config in (("tokens", tokens), ("head", head)):
        train(AutoModelForCausalLM, base, config, tmp_path / name, 1)
        local.add(tmp_path / name, name)
    local.compose("c", "tokens + head", base_path=base)
    with pytest.raises(Refused, match="cannot be merged into one model"):
        local.materialize("c", into="model", base_path=base, out=tmp_path / "model")
    local.materialize("tokens", into="model", base_path=base, out=tmp_path / "tied")
    wanted = merged(AutoModelForCausalLM, base, tmp_path / "tokens")
    assert torch.equal(
        load_tensors(tmp_path / "tied")["model.embed_tokens.weight"].double(),
        wanted["model.embed_tokens.weight"],
    )


def test_a_bias_under_two_names_is_no_new_head(local: Registry, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base", masked=True)
    config = LoraConfig(target_modules=["query"], bias="all")
    found = [train(AutoModelForMaskedLM, base, config, tmp_path / name, n) for n, name in enumerate("ab")]
    for name in "ab":
        local.add(tmp_path / name, name)
    made = local.compose("c", "0.5*a + 0.25*b", base_path=base)
    assert not any("differences from zero" in warning for warning in made.warnings)
    local.checkout(made, tmp_path / "c")
    before = {k: t.double() for k, t in AutoModelForMaskedLM.from_pretrained(base).state_dict().items()}
    wanted = {k: t + 0.5 * (found[0][k] - t) + 0.25 * (found[1][k] - t) for k, t in before.items()}
    same(merged(AutoModelForMaskedLM, base, tmp_path / "c"), wanted)


def test_a_head_saved_beside_all_biases_is_cataloged(local: Registry, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base")
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], bias="all")
    train(AutoModelForSequenceClassification, base, config, tmp_path / "a", 1)
    added = local.add(tmp_path / "a", "a")
    assert any("classifier" in part for part in added.not_composable)


def test_a_rebuild_with_a_tolerated_difference_needs_the_base_it_was_given(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.kinds.lora import Lora
    from registry.verbs import _devices

    base, _ = prepare(local, *CASES["head"], tmp_path)
    local.compose("c", "0.5*a + 0.25*b", base_path=base)
    plain, versions = Lora.combine, _devices.libraries()
    monkeypatch.setattr(
        Lora, "combine", lambda self, terms: plain(self, [(w * (1 + 3e-7), d) for w, d in terms])
    )
    assert not local.verify(["c"], rebuild=True, base_path=base)[0].ok
    monkeypatch.setattr(_devices, "libraries", lambda: {**versions, "torch": "another"})
    found = local.verify(["c"], rebuild=True, base_path=base)[0]
    assert found.ok
    assert 0 < (found.error or 0) < 1e-5
    problems = local.verify(["c"], rebuild=True, base_path=another(tmp_path / "other"))[0].problems
    assert any("values are not those that the recipe" in problem for problem in problems)


def test_names_without_end_are_refused(local: Registry, tmp_path: Path) -> None:
    deep = ".".join("a" * 100)
    extra = {f"base_model.model.{deep}.{n}.weight": torch.ones(1) for n in range(300)}
    folder = make_lora(tmp_path / "a", config={"modules_to_save": [f"x{n}" for n in range(999)]}, extra=extra)
    with pytest.raises(Refused, match="too many names"):
        local.add(folder, "a")


class Grouped(torch.nn.Module):
    """A convolution in two groups, which PEFT adapts and does not merge."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(6, 8, 3, groups=2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.conv(images)
        return found


def test_a_grouped_convolution_composes_as_peft_computes_it(local: Registry, tmp_path: Path) -> None:
    images, outputs = torch.randn(2, 6, 5, 5), {}
    for seed, name in enumerate("ab"):
        model = get_peft_model(Grouped(), LoraConfig(r=4, target_modules=["conv"]))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
            outputs[name] = model.eval()(images)
        model.save_pretrained(str(tmp_path / name))
        local.add(tmp_path / name, name, base="tiny/conv")
    local.checkout(local.compose("c", "0.5*a - 0.25*b"), tmp_path / "c")
    loaded = PeftModel.from_pretrained(Grouped(), str(tmp_path / "c"))
    with torch.no_grad():
        before = Grouped()(images)
        wanted = before + 0.5 * (outputs["a"] - before) - 0.25 * (outputs["b"] - before)
        torch.testing.assert_close(loaded.eval()(images), wanted, rtol=1e-4, atol=1e-5)
    truncated = local.compose("t", "0.5*a - 0.25*b", rank=6)  # each group needs all of it, exactly
    local.checkout(truncated, tmp_path / "t")
    again = PeftModel.from_pretrained(Grouped(), str(tmp_path / "t"))
    assert torch.isfinite(again.eval()(images)).all()
