"""What PEFT gets wrong, and what ours gives for the very same adapters: the evidence of docs/correctness.md.

Every test asserts both sides. PEFT's side is under ``defect``: where that fails, PEFT has changed, and the page has to
change with the test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel
from torch import nn

from registry import Registry, kinds, methods
from registry.deltas import LowRank, dense
from registry.errors import Refused, StorageFailure, UsageError
from registry.methods import Site
from registry.peft_format import CONFIG, read
from tests.adapters import call, combination, linear, materialize
from tests.methods.cases import low
from tests.oracles.by_peft import (
    EXACT,
    adapted,
    base,
    lora,
    off,
    ours,
    output,
    ratio,
    right,
    saved,
    theirs,
    trained,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@contextmanager
def defect(row: str) -> Iterator[None]:
    """The block asserts what PEFT gets wrong."""
    try:
        yield
    except (AssertionError, pytest.fail.Exception) as error:
        pytest.fail(
            f"PEFT {peft.__version__} has changed: {row!r} in docs/correctness.md and this test say otherwise"
            f" ({error})"
        )


def test_the_scale_of_rslora_is_not_applied_again(tmp_path: Path) -> None:
    model = trained(a=lora(use_rslora=True), b=lora(use_rslora=True))
    adapters = saved(model, tmp_path)
    for names, factor, combination_type in ((["a"], 4**0.5, "linear"), (["a", "b"], 8**0.5, "cat")):
        expected = right(model, dict.fromkeys(names, 1.0))
        model.add_weighted_adapter(names, [1.0] * len(names), "".join(names) + "out", combination_type)
        with defect("rsLoRA"):
            assert ratio(theirs(model, "".join(names) + "out"), expected) == pytest.approx(factor, rel=1e-6)
        made = combination(*((1, adapters[name]) for name in names))
        assert off(ours(tmp_path / f"ours{len(names)}", made, adapters), expected) < EXACT


def test_alpha_over_r_counts_once(tmp_path: Path) -> None:
    """PEFT 0.9.0 to 0.20.0 counted it twice in ``svd``: with alpha/r = 2, a result twice too large."""
    model = trained(a=lora(), b=lora())
    adapters, expected = saved(model, tmp_path), right(model, {"a": 0.5, "b": 0.5})
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "out", "svd", svd_rank=8)
    assert off(theirs(model), expected) < EXACT
    made = combination((0.5, adapters["a"]), (0.5, adapters["b"]))
    assert off(ours(tmp_path / "ours", made, adapters), expected) < EXACT


def test_a_result_with_rank_patterns_is_loaded_again(tmp_path: Path) -> None:
    model = trained(a=lora(rank_pattern={"q": 2}), b=lora(rank_pattern={"q": 2}))
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "linear")
    model.save_pretrained(tmp_path, selected_adapters=["out"])
    with defect("rank_pattern"), pytest.raises(RuntimeError, match="size mismatch"):
        PeftModel.from_pretrained(base(), tmp_path / "out")
    ours(tmp_path / "ours", combination((1, adapters["a"]), (1, adapters["b"])), adapters)
    assert off(theirs(PeftModel.from_pretrained(base(), tmp_path / "ours"), "default"), expected) < EXACT


def test_an_input_may_have_a_rank_pattern_of_its_own(tmp_path: Path) -> None:
    model = trained(a=lora(rank_pattern={"q": 2}), b=lora())
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    with defect("rank_pattern"), pytest.raises(RuntimeError, match="equal size"):
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "linear")
    made = combination((1, adapters["a"]), (1, adapters["b"]))
    assert off(ours(tmp_path / "ours", made, adapters), expected) < EXACT


@pytest.mark.parametrize("owner", ["a", "b"])
def test_a_trained_head_is_never_dropped(owner: str, local: Registry, tmp_path: Path) -> None:
    configs = {name: lora(modules_to_save=["head"] if name == owner else None) for name in "ab"}
    model = trained(**configs)
    head = model.base_model.model.head
    head.modules_to_save[owner].weight.data += 1
    for name in saved(model, tmp_path):
        local.add(tmp_path / name, name, base="tiny/base")
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "cat")
    with defect("modules_to_save"):
        assert "out" not in head.modules_to_save or torch.equal(
            head.modules_to_save["out"].weight, head.original_module.weight
        )
    refused_by_name(local, "a + b", f"{owner}@1")


def test_a_dora_magnitude_is_never_dropped(local: Registry, tmp_path: Path) -> None:
    model = trained(a=lora(use_dora=True))
    saved(model, tmp_path)
    local.add(tmp_path / "a", "a", base="tiny/base")
    model.add_weighted_adapter(["a"], [1.0], "out")
    change = float((output(model, "out") - output(model, "a")).norm())
    with defect("DoRA"):
        assert change > 0.2 * float((output(model, "a") - output(model, None)).norm())
    refused_by_name(local, "0.5*a", "a@1")


def test_a_bias_of_lora_b_is_never_dropped(tmp_path: Path) -> None:
    model = trained(a=lora(lora_bias=True))
    adapters, expected = saved(model, tmp_path), output(model, "a")
    model.add_weighted_adapter(["a"], [1.0], "out")
    change = float((output(model, "out") - expected).norm())
    with defect("lora_bias"):
        assert change > 0.2 * float((expected - output(model, None)).norm())
    ours(tmp_path / "ours", combination((1, adapters["a"])), adapters)
    found = output(PeftModel.from_pretrained(base(), tmp_path / "ours"), "default")
    torch.testing.assert_close(found, expected)


def refused_by_name(catalog: Registry, text: str, name: str) -> None:
    """Without the base model; a composition that drops a part is never written."""
    with pytest.raises(Refused) as caught:
        catalog.compose("out", text)
    assert name in caught.value.message
    assert [version.name for version in catalog.list().versions if version.name == "out"] == []


def test_minus_one_is_not_plus_one(tmp_path: Path) -> None:
    """PEFT 0.18 flipped the sign of both factors, so that a single adapter of weight −1 came back as it was."""
    model = trained(a=lora())
    adapters, expected = saved(model, tmp_path), right(model, {"a": -1})
    model.add_weighted_adapter(["a"], [-1.0], "out", "linear")
    assert off(theirs(model), expected) < EXACT
    assert off(ours(tmp_path / "ours", combination((-1, adapters["a"])), adapters), expected) < EXACT


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, -1.0)])
def test_a_sum_has_no_cross_terms(weights: tuple[float, float], tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora())
    adapters, expected = saved(model, tmp_path), right(model, dict(zip("ab", weights, strict=True)))
    model.add_weighted_adapter(["a", "b"], list(weights), "out", "linear")
    with defect("linear"):
        assert 0.9 < off(theirs(model), expected) < 1.1
    made = combination(*zip(weights, adapters.values(), strict=True))
    assert off(ours(tmp_path / "ours", made, adapters), expected) < EXACT


def test_no_input_is_lost_with_a_weight_that_is_missing() -> None:
    model = trained(a=lora(), b=lora())
    model.add_weighted_adapter(["a", "b"], [0.5], "out", "cat")
    with defect("weights"):
        assert off(theirs(model), right(model, {"a": 0.5})) < EXACT
    deltas, site = [low(5, 4, 2, 0), low(5, 4, 2, 1)], Site("m", ["a", "b"])
    for name in methods.family.names():
        method = methods.family.load(name)
        if not method.wraps and method.arity[1] != 1:
            needed = {"cart": {"rank": 1}}.get(
                name, {"density": "0.5"} if "density" in method.model_fields else {}
            )
            with pytest.raises((ValueError, IndexError)):
                methods.build(name, needed).merge(deltas, [0.5], site)


@pytest.mark.parametrize("weights", [(1.0, -1.0), (1.0, 1.0), (-1.0, 0.0)])
def test_vectors_are_combined_around_one(weights: tuple[float, float], tmp_path: Path) -> None:
    config = IA3Config(target_modules=["q"], feedforward_modules=[])
    model = trained(a=config, b=config)
    adapters, ell = saved(model, tmp_path), model.base_model.model.q.ia3_l
    expected = sum(w * (ell[name] - 1) for name, w in zip("ab", weights, strict=True)) + 1
    model.add_weighted_adapter(["a", "b"], list(weights), "out")
    with defect("(IA)³"):
        wrong = weights[0] * ell["a"] + weights[1] * ell["b"]
        torch.testing.assert_close(ell["out"], wrong)
        torch.testing.assert_close(expected - wrong, torch.full_like(wrong, 1 - sum(weights)))
    found = ours(tmp_path / "ours", combination(*zip(weights, adapters.values(), strict=True)), adapters)
    torch.testing.assert_close(found["q"] + 1, expected.detach().double()[:, 0], rtol=0, atol=EXACT)


def test_a_module_that_one_input_lacks_is_left_alone_by_it(tmp_path: Path) -> None:
    model = trained(
        a=IA3Config(target_modules=["q"], feedforward_modules=[]),
        b=IA3Config(target_modules=["v"], feedforward_modules=[]),
    )
    for name, parameter in model.named_parameters():
        if "ia3_" in name:
            parameter.data.fill_(1)  # learned nothing
    adapters = saved(model, tmp_path)
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "out")
    with defect("(IA)³ modules"):
        assert all(layer.ia3_l["out"].unique().tolist() == [0.5] for _, layer in adapted(model, "out"))
    found = ours(tmp_path / "ours", combination((0.5, adapters["a"]), (0.5, adapters["b"])), adapters)
    assert not any(offset.any() for offset in found.values())


def test_the_layers_of_every_input_are_in_the_result(tmp_path: Path) -> None:
    model = trained(**{
        name: lora(target_modules=["k"], layers_to_transform=[layer], layers_pattern="layers")
        for layer, name in enumerate("ab")
    })  # fmt: skip
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "cat")
    with defect("layers_to_transform"):
        assert list(theirs(model)) == ["layers.0.k"]
    ours(tmp_path / "ours", combination((1, adapters["a"]), (1, adapters["b"])), adapters)
    assert "layers_to_transform" not in json.loads((tmp_path / "ours" / CONFIG).read_text())
    assert off(theirs(PeftModel.from_pretrained(base(), tmp_path / "ours"), "default"), expected) < EXACT


def test_the_order_of_the_inputs_does_not_matter(tmp_path: Path) -> None:
    """A result's config is PEFT's first input's, here with rsLoRA or without."""
    model = trained(a=lora(use_rslora=True), b=lora())
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    for order in ("ab", "ba"):
        model.add_weighted_adapter(list(order), [1.0, 1.0], order, "cat")
    with defect("config"):
        assert off(theirs(model, "ba"), expected) < EXACT
        assert ratio(theirs(model, "ab"), expected) == pytest.approx(8**0.5, rel=1e-6)
    for order in ("ab", "ba"):
        made = combination(*((1, adapters[name]) for name in order))
        assert off(ours(tmp_path / f"ours-{order}", made, adapters), expected) < EXACT


def test_bfloat16_weights_are_rounded_once() -> None:
    def wide() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"q": nn.Linear(128, 128, bias=False)}).to(torch.bfloat16)

    wrong = {}
    for safe, names in ((False, "a"), (True, "a"), (False, "ab")):
        model = trained(wide, **dict.fromkeys(names, lora(target_modules=["q"])))
        layer = model.base_model.model.q
        for name in names:
            layer.lora_B[name].weight.data *= 0.01
        weight, change = layer.weight.data.clone(), right(model, dict.fromkeys(names, 1.0))["q"]
        once = (weight.double() + change).bfloat16()
        model.merge_adapter(safe_merge=safe, adapter_names=list(names))
        wrong[safe, names] = float((layer.weight.data != once).double().mean())
        lows = [
            (1.0, LowRank(layer.lora_B[n].weight.data, layer.lora_A[n].weight.data, layer.scaling[n]))
            for n in names
        ]
        kind = kinds.load("lora")
        found = kind.patch(kind.combine(lows), weight.float(), 0, transposed=False).bfloat16()
        assert float((found != once).double().mean()) < 1e-3  # halves, on the edge of float32
    with defect("bfloat16"):
        assert wrong[False, "a"] < 1e-3
        assert wrong[True, "a"] > 0.02
        assert wrong[False, "ab"] > 0.1


def test_bfloat16_factors_are_not_multiplied_in_bfloat16(tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora()).to(torch.bfloat16)
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "svd", svd_rank=8)
    with defect("bfloat16 factors"):
        assert model.base_model.model.q.lora_A["out"].weight.dtype == torch.float32
        assert off(theirs(model), expected) > 1e-3
    made = combination(
        (1, call("truncate", linear((1, adapters["a"]), (1, adapters["b"])), rank=8)), dtype="float32"
    )
    assert off(ours(tmp_path / "ours", made, adapters), expected) < EXACT


def test_a_rank_beyond_the_module_is_the_modules(tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora())
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})
    with defect("svd_rank"), pytest.raises(RuntimeError, match="cannot be multiplied"):
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "svd", svd_rank=20)
    made = combination((1, call("truncate", linear((1, adapters["a"]), (1, adapters["b"])), rank=20)))
    assert off(ours(tmp_path / "ours", made, adapters), expected) < EXACT
    assert read(tmp_path / "ours").rank == 8


@pytest.mark.parametrize("name", ["line", "cube"])
def test_convolutions_of_every_dimension_are_truncated(name: str, tmp_path: Path) -> None:
    model = trained(a=lora(target_modules=[name]), b=lora(target_modules=[name]))
    adapters, expected = saved(model, tmp_path), right(model, {"a": 1, "b": 1})

    def fails() -> None:  # a Conv3d at once, a Conv1d when the result is used
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "svd", svd_rank=5)
        theirs(model)

    with defect("Conv1d and Conv3d"), pytest.raises(RuntimeError):
        fails()
    made = combination((1, call("truncate", linear((1, adapters["a"]), (1, adapters["b"])), rank=5)))
    ours(tmp_path / "ours", made, adapters)
    assert off(theirs(PeftModel.from_pretrained(base(), tmp_path / "ours"), "default"), expected) < EXACT


def test_random_masks_do_not_come_from_the_global_generator(tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora())
    adapters, sums, digests = saved(model, tmp_path), [], set()
    made = combination(
        (1, call("dare", linear((1, adapters["a"])), linear((1, adapters["b"])), density="0.5"))
    )
    for turn, seed in enumerate((0, 0, 1)):
        torch.manual_seed(seed)
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], f"out{turn}", "dare_linear", density=0.5)
        sums.append(float(theirs(model, f"out{turn}")["q"].sum()))
        digests.add(materialize(tmp_path / f"ours{turn}", made, *adapters.values()).digest)
    with defect("seed"):
        assert sums[0] == sums[1] != sums[2]
    assert len(digests) == 1


def test_one_adapter_alone_is_pruned_as_told(tmp_path: Path) -> None:
    model = trained(a=lora())
    adapters = saved(model, tmp_path)
    model.add_weighted_adapter(["a"], [1.0], "out", "ties_svd", density=0.1)
    with defect("one adapter"):
        assert off(theirs(model), right(model, {"a": 1})) < EXACT
    found = methods.build("ties", {"density": "0.1"}).merge(
        [adapters["a"].delta("q")], [1.0], Site("q", ["a"])
    )
    assert int(dense(found.delta).count_nonzero()) == int(0.1 * 12 * 16)


def test_a_name_that_is_taken_gets_the_new_result(local: Registry, tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora())
    for name in saved(model, tmp_path):
        local.add(tmp_path / name, name, base="tiny/base")
    for weights in ([1.0, 1.0], [1.0, -1.0]):
        model.add_weighted_adapter(["a", "b"], weights, "out", "cat")
    with defect("taken name"):
        assert off(theirs(model), right(model, {"a": 1, "b": 1})) < EXACT
    assert [local.compose("out", text).ref for text in ("a + b", "a - b")] == ["out@1", "out@2"]
    assert local.show("out@1").digest != local.show("out").digest


def test_a_parameter_that_is_missing_is_told_before_anything_is_made(local: Registry, tmp_path: Path) -> None:
    model = trained(a=lora(), b=lora())
    for name in saved(model, tmp_path):
        local.add(tmp_path / name, name, base="tiny/base")
    with defect("density"):
        with pytest.raises(TypeError):
            model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "out", "ties")
        assert not theirs(model)["q"].any()  # left behind, and zero
    with pytest.raises(UsageError, match="ties: density: Field required"):
        local.compose("out", "ties(a, b)")
    assert len(local.list().versions) == 2


def test_an_interrupted_save_leaves_no_folder(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    model = trained(a=lora())
    saved(model, tmp_path)
    local.add(tmp_path / "a", "a", base="tiny/base")
    monkeypatch.setattr(LoraConfig, "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        model.save_pretrained(tmp_path / "theirs")
    with defect("half-written"):
        assert [file.name for file in (tmp_path / "theirs" / "a").iterdir()] == ["adapter_model.safetensors"]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailure):
        local.checkout("a", tmp_path / "ours")
    assert not [path for path in tmp_path.iterdir() if "ours" in path.name]
