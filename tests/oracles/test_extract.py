"""Extract and convert: compared with the two models, and with what PEFT computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from registry import Registry
from registry.errors import Incompatible, Refused, UsageError
from tests.models import VOCABULARY, load_tensors, reconfigure, rewrite, tiny_bert, tiny_gpt2, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

TOKENS = torch.arange(1, 41).reshape(2, 20) * 7 % VOCABULARY
BASES: Any = {
    "llama": tiny_llama,
    "tied llama": lambda folder: tiny_llama(folder, tied=True),
    "gpt2": tiny_gpt2,
}


def finetuned(build: Any, folder: Path) -> tuple[Path, Path]:
    """A base, and a model whose every parameter moved by a matrix of rank 2."""
    base, tuned = build(folder / "base"), build(folder / "tuned")
    torch.manual_seed(5)

    def moved(tensor: Tensor) -> Tensor:
        if tensor.ndim < 2:
            return tensor + 0.1 * torch.randn(tensor.shape)
        return tensor + 0.1 * torch.randn(len(tensor), 2) @ torch.randn(2, tensor.shape[1])

    rewrite(tuned, lambda tensors: {name: moved(tensor) for name, tensor in tensors.items()})
    return base, tuned


def forward(model: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.eval()(input_ids=TOKENS)[0]
    return result


@pytest.mark.parametrize("case", BASES)
def test_a_lora_of_the_true_rank_gives_the_model_back(local: Registry, tmp_path: Path, case: str) -> None:
    base, tuned = finetuned(BASES[case], tmp_path)
    made = local.extract(base, tuned, "ft", rank=2, repo="tiny/base")
    assert made.kind == "lora"
    assert made.rank == 2
    assert str(made.base_model) == "tiny/base"
    assert max(item.values["error"] for item in made.report) < 1e-5
    local.checkout(made, tmp_path / "ft")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "ft")
    torch.testing.assert_close(
        forward(found), forward(AutoModelForCausalLM.from_pretrained(tuned)), rtol=1e-3, atol=1e-3
    )
    local.materialize("ft", into="model", base_path=base, out=tmp_path / "model")
    torch.testing.assert_close(
        forward(AutoModelForCausalLM.from_pretrained(tmp_path / "model")),
        forward(AutoModelForCausalLM.from_pretrained(tuned)),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("case", BASES)
def test_a_task_vector_gives_the_very_weights_back(local: Registry, tmp_path: Path, case: str) -> None:
    base, tuned = finetuned(BASES[case], tmp_path)
    made = local.extract(base, tuned, "ft", dtype="float64", repo="tiny/base")
    assert made.kind == "task_vector"
    assert made.rank is None
    assert not made.not_composable
    local.materialize("ft", into="model", base_path=base, out=tmp_path / "model")
    wanted, found = load_tensors(tuned), load_tensors(tmp_path / "model")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_task_vectors_compose(local: Registry, tmp_path: Path) -> None:
    base, tuned = finetuned(tiny_llama, tmp_path)
    local.extract(base, tuned, "ft", repo="tiny/base")
    local.compose("back", "ft - 0.75*ft")
    local.materialize("back", into="model", base_path=base, out=tmp_path / "model")
    before, after, found = (load_tensors(tmp_path / name) for name in ("base", "tuned", "model"))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, before[name] + 0.25 * (after[name] - before[name]))
    local.compose("t", "ties(ft, back, density=0.5)")
    local.compose("r", "ft", rank=1)
    with pytest.raises(Refused, match="factors"):
        local.compose("f", "factors(ft + back)")
    assert local.verify(["r"], rebuild=True)[0].ok


def test_less_rank_costs_what_is_said(local: Registry, tmp_path: Path) -> None:
    base, tuned = finetuned(tiny_llama, tmp_path)
    made = local.extract(base, tuned, "ft", rank=1, repo="tiny/base")
    before, after = load_tensors(base), load_tensors(tuned)
    for item in made.report:
        change = (after[f"{item.module}.weight"] - before[f"{item.module}.weight"]).double()
        values = torch.linalg.svdvals(change)
        wanted = float(values[1:].norm() / values.norm())
        assert item.values["error"] == pytest.approx(wanted, rel=1e-3)


def test_what_cannot_be_extracted_is_refused(local: Registry, tmp_path: Path) -> None:
    base, tuned = finetuned(tiny_llama, tmp_path)
    with pytest.raises(Refused, match="same weights"):
        local.extract(base, base, "ft", repo="tiny/base")
    with pytest.raises(UsageError, match="exclude one another"):
        local.extract(base, tuned, "ft", rank=2, energy=0.5, repo="tiny/base")
    rewrite(tuned, lambda tensors: {**tensors, "score.weight": torch.ones(2, 2)})
    with pytest.raises(Incompatible, match=r"base model lacks 'score\.weight'"):
        local.extract(base, tuned, "ft", repo="tiny/base")
    wide = {"model.embed_tokens.weight": torch.ones(VOCABULARY + 1, 32)}
    rewrite(tuned, lambda tensors: {k: v for k, v in (tensors | wide).items() if k != "score.weight"})
    reconfigure(tuned, vocab_size=VOCABULARY + 1)
    with pytest.raises(Incompatible, match=r"embed_tokens.weight' is \[96, 32\] in the base"):
        local.extract(base, tuned, "ft", repo="tiny/base")
    assert not local.list().versions


TYPES: Any = {
    "loha": LoHaConfig(r=2, alpha=3, target_modules=["q_proj", "down_proj"], init_weights=False),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=["q_proj", "down_proj"], init_weights=False),
    "vera": VeraConfig(r=4, target_modules=["q_proj"], init_weights=False),
}


@pytest.mark.parametrize("kind", TYPES)
def test_other_types_become_lora_exactly(local: Registry, tmp_path: Path, kind: str) -> None:
    base = tiny_llama(tmp_path / "base")
    torch.manual_seed(2)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), TYPES[kind])
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    wanted = forward(model)
    model.save_pretrained(tmp_path / "a")
    added = local.add(tmp_path / "a", "a", base="tiny/base")
    assert added.kind == kind
    assert not added.not_composable
    made = local.convert("a")
    assert (made.ref, made.kind) == ("a-lora@1", "lora")
    assert made.parents[0].ref == "a@1"
    local.checkout(made, tmp_path / "lora")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "lora")
    torch.testing.assert_close(forward(found), wanted, rtol=1e-3, atol=1e-3)
    cut = local.convert("a", rank=1, name="cut")
    assert cut.rank == 1
    assert 0 < max(item.values["error"] for item in cut.report) < 1
    local.materialize(made, into="model", base_path=base, out=tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(forward(again), wanted, rtol=1e-3, atol=1e-3)
    assert local.compose("both", "0.5*a + 0.5*a").kind == "lora"


def test_pissa_becomes_lora_with_the_adapter_before_training(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights="pissa")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(str(tmp_path / "start"))
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    wanted = forward(model)
    model.save_pretrained(str(tmp_path / "trained"))
    for name in ("start", "trained"):
        local.add(tmp_path / name, name, base="tiny/base")
    with pytest.raises(Refused, match=r"trained@1 cannot be composed: its initialization changed"):
        local.convert("trained")
    made = local.convert("trained", initial="start")
    local.checkout(made, tmp_path / "lora")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "lora")
    torch.testing.assert_close(forward(found), wanted, rtol=1e-3, atol=1e-3)


def test_what_has_no_form_as_lora_is_refused(local: Registry, tmp_path: Path) -> None:
    base, tuned = finetuned(tiny_llama, tmp_path)
    local.extract(base, tuned, "ft", repo="tiny/base")
    with pytest.raises(Refused, match="ft@1 is task_vector"):
        local.convert("ft")
    with pytest.raises(Refused, match="PEFT does not load"):
        local.publish("ft", "team/ft", dry_run=True)
    with pytest.raises(UsageError, match="ia3"):
        local.convert("ft", to="ia3")


def test_a_head_that_fine_tuning_untied_comes_along(local: Registry, tmp_path: Path) -> None:
    base, tuned = tiny_llama(tmp_path / "base", tied=True), tiny_llama(tmp_path / "tuned")
    rewrite(tuned, lambda tensors: {name: tensor + 0.25 for name, tensor in tensors.items()})
    local.extract(base, tuned, "ft", dtype="float64", repo="tiny/base")
    local.materialize("ft", into="model", base_path=base, out=tmp_path / "model")
    wanted, found = load_tensors(tuned), load_tensors(tmp_path / "model")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_masked_model_comes_back_with_all_its_embeddings_and_biases(
    local: Registry, tmp_path: Path
) -> None:
    def masked(folder: Path) -> Path:
        return tiny_bert(folder, masked=True)

    base, tuned = finetuned(masked, tmp_path)
    local.extract(base, tuned, "ft", rank=2, repo="tiny/base")
    local.checkout("ft", tmp_path / "ft")
    local.materialize("ft", into="model", base_path=base, out=tmp_path / "model")
    wanted = forward(AutoModelForMaskedLM.from_pretrained(tuned))
    adapted = PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained(base), tmp_path / "ft")
    for model in (adapted, AutoModelForMaskedLM.from_pretrained(tmp_path / "model")):
        torch.testing.assert_close(forward(model), wanted, rtol=1e-3, atol=1e-3)


def test_a_body_without_its_prefix_is_the_same_model(local: Registry, tmp_path: Path) -> None:
    base, tuned = tiny_gpt2(tmp_path / "base", prefix=False), tiny_gpt2(tmp_path / "tuned")
    rewrite(tuned, lambda tensors: {name: tensor + 0.1 for name, tensor in tensors.items()})
    local.extract(base, tuned, "ft", rank=1, repo="tiny/base")
    local.checkout("ft", tmp_path / "ft")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "ft")
    torch.testing.assert_close(
        forward(found), forward(AutoModelForCausalLM.from_pretrained(tuned)), rtol=1e-3, atol=1e-3
    )


def test_what_has_no_difference_of_that_sort_is_refused_by_name(local: Registry, tmp_path: Path) -> None:
    base, tuned = tiny_llama(tmp_path / "base"), tiny_llama(tmp_path / "tuned")
    rewrite(tuned, lambda tensors: {n: t + 1 if "norm" in n else t for n, t in tensors.items()})
    with pytest.raises(Refused, match="no weight matrix changed"):
        local.extract(base, tuned, "ft", rank=2, repo="tiny/base")
    assert local.extract(base, tuned, "norms", repo="tiny/base").modules == 5
    for folder, number in ((base, 1), (tuned, 2)):
        _extend(folder, {"model.steps": torch.tensor([number])})
    with pytest.raises(Refused, match=r"tensor 'model\.steps' changed, and holds int64"):
        local.extract(base, tuned, "ft", repo="tiny/base")
    for folder, number in ((base, 1), (tuned, 2)):
        _extend(folder, {"model.steps": torch.tensor([1]), "model.token": torch.full((3, 4), float(number))})
    with pytest.raises(Refused, match=r"parameter 'model\.token' belongs to a module that holds others"):
        local.extract(base, tuned, "ft", rank=2, repo="tiny/base")


def _extend(folder: Path, more: dict[str, Tensor]) -> None:
    rewrite(folder, lambda tensors: {**tensors, **more})
