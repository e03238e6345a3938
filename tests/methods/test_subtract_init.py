from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from registry.deltas import Delta, Dense, LowRank, dense
from registry.errors import Incompatible
from registry.methods.subtract_init import SubtractInit
from registry.peft_format import read
from tests.methods.cases import LAW, WEIGHTS, distance, low, merge, merged

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q = nn.Linear(12, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)  # type: ignore[no-any-return]


def trained_by_peft(folder: Path, init: str, **options: Any) -> tuple[Any, Tensor]:
    """A model after training, its adapter saved before and after; and its effective weight."""
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q"], init_lora_weights=init, **options)  # type: ignore[arg-type]
    model: Any = get_peft_model(Tiny(), config)
    model.save_pretrained(folder / "initial")
    layer = model.base_model.model.q
    torch.manual_seed(1)
    for factor in (layer.lora_A.default, layer.lora_B.default):
        factor.weight.data += 0.01 * torch.randn_like(factor.weight)
    model.save_pretrained(folder / "trained")
    weight = layer.base_layer.weight.detach().double() + layer.get_delta_weight("default").detach().double()
    return model, weight


def inputs(folder: Path) -> list[Delta]:
    return [read(folder / name).delta("q") for name in ("trained", "initial")]


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_unchanged_base_and_the_result_are_the_trained_model(
    tmp_path: Path, init: str, rslora: bool
) -> None:
    _, weight = trained_by_peft(tmp_path, init, use_rslora=rslora)
    base = Tiny().q.weight.detach().double()
    found = merged("subtract_init", inputs(tmp_path))
    assert 1e-3 < distance(weight, base) < 0.2
    assert float((base + found - weight).abs().max()) < 3e-7  # PEFT's float32 base weight


def test_the_delta_is_that_of_peft(tmp_path: Path) -> None:
    model, _ = trained_by_peft(tmp_path, "pissa")
    found = merged("subtract_init", inputs(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(
            tmp_path / "theirs", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
        )
        converted: Any = PeftModel.from_pretrained(Tiny(), tmp_path / "theirs")
    theirs = converted.base_model.model.q.get_delta_weight("default").detach().double()
    assert distance(found, theirs) < 1e-4  # they subtract in float32 what we subtract in float64
    assert distance(found, dense(read(tmp_path / "theirs").delta("q"))) < 1e-12


def test_rounding_the_factors_costs_little_of_the_change(tmp_path: Path) -> None:
    trained_by_peft(tmp_path, "pissa")
    both = inputs(tmp_path)
    delta = merge("subtract_init", both).delta
    assert isinstance(delta, LowRank)
    rounded = replace(delta, up=delta.up.bfloat16(), down=delta.down.bfloat16())
    stacked = merge("average", both, [2.0, -2.0]).delta
    assert isinstance(stacked, LowRank)
    theirs = replace(stacked, up=stacked.up.bfloat16(), down=stacked.down.bfloat16())
    ours = distance(dense(rounded), dense(delta))
    assert ours < 0.005
    assert distance(dense(theirs), dense(delta)) > 10 * ours


@LAW
@given(
    k=st.integers(1, 5), k0=st.integers(1, 5), w=WEIGHTS, v=WEIGHTS, scale=st.sampled_from([1.0, -2.0, 0.3])
)
def test_it_is_the_difference_of_any_two(k: int, k0: int, w: float, v: float, scale: float) -> None:
    trained, initial = low(7, 5, k, 1, scale), low(7, 5, k0, 2)
    delta = merge("subtract_init", [trained, initial], [w, v]).delta
    assert isinstance(delta, LowRank)
    assert delta.rank == k + k0
    assert distance(dense(delta), w * dense(trained) - v * dense(initial)) < 1e-12


def test_nothing_is_left_where_nothing_was_trained() -> None:
    assert not merged("subtract_init", [low(7, 5, 3, 1)] * 2).any()


def test_the_form_stays() -> None:
    conv = replace(low(6, 12, 2, 0), form="conv", kernel=(2, 2))
    delta = merge("subtract_init", [conv, replace(low(6, 12, 2, 1), form="conv", kernel=(2, 2))]).delta
    assert isinstance(delta, LowRank)
    assert (delta.form, delta.kernel) == ("conv", (2, 2))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_module_that_one_of_them_lacks_is_refused(missing: int) -> None:
    both: list[LowRank | None] = [low(7, 5, 3, 1), low(7, 5, 3, 2)]
    both[missing] = None
    with pytest.raises(Incompatible, match=rf"module h\.0\.q is missing in adapter{missing}"):
        merge("subtract_init", both)


def test_a_delta_without_factors_is_refused() -> None:
    with pytest.raises(Incompatible, match=r"which module h\.0\.q of adapter0 does not have"):
        merge("subtract_init", [Dense(torch.ones(7, 5), 5), low(7, 5, 3, 1)])


@pytest.mark.parametrize("with_initial", [False, True])
def test_what_is_stored_whole_is_that_of_the_trained_adapter(with_initial: bool) -> None:
    trained, initial = (Dense(torch.randn(7, 1), 1, form="whole") for _ in range(2))
    found = merged("subtract_init", [trained, initial if with_initial else None], [2.0, 1.0])
    assert torch.equal(found, 2 * dense(trained))


def test_it_waives_the_initialization() -> None:
    assert SubtractInit.waives == {"initialization"}
    assert SubtractInit().rank_bound([4, 4]) == 8
