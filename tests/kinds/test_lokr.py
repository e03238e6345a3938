from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoKrConfig
from torch import Tensor

from registry.errors import Refused
from registry.kinds import _lycoris
from registry.kinds.lokr import Lokr
from registry.peft_format import read
from tests.adapters import PREFIX, load_tensors, write_adapter
from tests.kinds.peft_saved import TOLERANCE, make, save, worst_error

EVERY = ["wide", "prime", "conv", "grouped", "point", "series"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    "case",  # rank, use_effective_conv2d, decompose_factor; PEFT fails on a core of rank 1
    [
        *((1, False, -1), (2, False, -1), (3, False, -1), (100, False, -1)),
        *((2, True, 1), (2, True, -1), (100, True, -1)),
    ],
)
def test_every_delta_is_that_of_peft(
    tmp_path: Path, dtype: torch.dtype, both: bool, case: tuple[int, bool, int]
) -> None:
    rank, effective, factor = case
    config = LoKrConfig(
        r=rank,
        alpha=5,
        target_modules=EVERY,
        decompose_both=both,
        decompose_factor=factor,
        use_effective_conv2d=effective,
    )
    model = make(config, dtype=dtype)
    stored = save(model, tmp_path)
    assert sorted(stored.layout.modules) == sorted(EVERY)
    assert stored.layout.blockers == ()
    assert any("lokr_t2" in name for name in stored.entries) == (effective and rank < 100 and factor == 1)
    assert worst_error(model, stored) < TOLERANCE[dtype]


@pytest.mark.parametrize("factor", [-1, 2, 3, 4, 5, 24])
def test_any_decomposition_is_read(tmp_path: Path, factor: int) -> None:
    config = LoKrConfig(r=2, target_modules=EVERY, decompose_factor=factor, decompose_both=True)
    model = make(config)
    assert worst_error(model, save(model, tmp_path)) < 1e-14


def test_patterns_give_each_module_its_rank_and_scale(tmp_path: Path) -> None:
    config = LoKrConfig(
        r=2,
        alpha=3,
        target_modules=["wide", "conv", "series"],
        rank_pattern={"wide": 1, "seri.*": 100},
        alpha_pattern={"conv": 7, "series": 50},
    )
    model = make(config)
    stored = save(model, tmp_path)
    scales = {name: module.scale for name, module in stored.layout.modules.items()}
    assert scales == {"wide": 3, "conv": 3.5, "series": 0.5}
    assert worst_error(model, stored) < 1e-14


def test_the_rank_is_the_product_of_those_of_both_sides(tmp_path: Path) -> None:
    options: dict[str, Any] = {"target_modules": ["wide", "prime"], "decompose_factor": 6}
    low = save(make(LoKrConfig(r=1, **options)), tmp_path / "low").layout.modules
    high = save(make(LoKrConfig(r=9, **options)), tmp_path / "high").layout.modules
    assert (low["wide"].rank, high["wide"].rank) == (6, 24)  # of (6×6) ⊗ (6×4)
    assert (low["prime"].rank, high["prime"].rank) == (1, 7)  # of (1×1) ⊗ (13×7)


def test_a_convolution_tells_its_kernel_unless_its_factors_are_flat(tmp_path: Path) -> None:
    whole = save(make(LoKrConfig(r=100, target_modules=EVERY)), tmp_path / "a").layout.modules
    options: dict[str, Any] = {"target_modules": EVERY, "use_effective_conv2d": True}
    cored = save(make(LoKrConfig(r=1, **options)), tmp_path / "b").layout.modules
    flat = save(make(LoKrConfig(r=1, target_modules=EVERY)), tmp_path / "c").layout.modules
    assert {name: module.kernel for name, module in whole.items() if module.form == "conv"} == {
        "conv": (3, 2),
        "grouped": (3, 3),
        "point": (1, 1),
        "series": (5,),
    }
    assert {name: module.kernel for name, module in cored.items() if module.form == "conv"} == {
        "conv": (3, 2),
        "grouped": (3, 3),
        "series": (5,),
    }
    assert {module.form for module in flat.values()} == {"linear"}
    assert flat["conv"].shape == whole["conv"].shape == cored["conv"].shape == (6, 24)


def tensors(**others: Tensor) -> dict[str, Tensor]:
    shapes = {"lokr_w1": (2, 3), "lokr_w2_a": (5, 2), "lokr_w2_b": (2, 7)}
    return {**{role: torch.ones(shape) for role, shape in shapes.items()}, **others}


def without(*roles: str, **others: Tensor) -> dict[str, Tensor]:
    return {role: tensor for role, tensor in tensors(**others).items() if role not in roles}


def folder(path: Path, found: dict[str, Tensor], **config: Any) -> Path:
    settings = {"peft_type": "LOKR", "r": 2, "alpha": 4, **config}
    return write_adapter(path, settings, {f"{PREFIX}q.{role}": tensor for role, tensor in found.items()})


WHOLE = {"lokr_w1": torch.ones(2, 3), "lokr_w2": torch.ones(5, 7)}
BOTH = without("lokr_w1", lokr_w1_a=torch.ones(6, 2), lokr_w1_b=torch.ones(2, 3))
CORE = torch.ones(2, 2, 3, 3)


@pytest.mark.parametrize(
    ("found", "config", "message"),
    [
        (tensors(), {"r": 3}, "module q has rank 2 in its tensors but 3 in the config"),
        (tensors(), {"r": 0}, "module q has rank 0 in the config"),
        (WHOLE, {"r": 3}, "module q stores lokr_w2 whole, which does not fit rank 3 in the config"),
        (BOTH, {}, "module q stores lokr_w1 in factors, which does not fit rank 2 in the config"),
        (
            {**WHOLE, "lokr_w1": torch.ones(9, 3)},
            {"r": 4, "decompose_both": True},
            "module q stores lokr_w1 whole, which does not fit rank 4 in the config",
        ),
        (
            tensors(lokr_w2_a=torch.ones(3, 2), lokr_w2_b=torch.ones(2, 4)),
            {},
            "module q stores lokr_w2 in factors, which does not fit rank 2 in the config",
        ),
        (tensors(lokr_w2=torch.ones(5, 7)), {}, "module q has only lokr_w1, lokr_w2, lokr_w2_a, lokr_w2_b"),
        (without("lokr_w1"), {}, "module q has only lokr_w2_a, lokr_w2_b"),
        (without("lokr_w2_b"), {}, "module q has only lokr_w1, lokr_w2_a"),
        ({**WHOLE, "lokr_t2": CORE}, {}, "module q has only lokr_t2, lokr_w1, lokr_w2"),
        (tensors(lokr_w2_b=torch.ones(3, 7)), {}, "module q has tensors that do not fit: lokr_w2_a [5, 2]"),
        (tensors(lokr_t2=CORE), {}, "module q has tensors that do not fit: lokr_w2_a [5, 2], lokr_w2_b"),
        (tensors(lokr_w2_a=torch.ones(2, 5), lokr_t2=CORE[0]), {}, "module q has tensors that do not fit"),
        (tensors(lokr_w1=torch.ones(2, 3, 1)), {}, "module q has tensors that do not fit: lokr_w1 [2, 3, 1]"),
        ({**WHOLE, "lokr_w2": torch.ones(5)}, {}, "module q has tensors that do not fit: lokr_w2 [5]"),
        (tensors(lokr_w1=torch.ones(2, 3, dtype=torch.int32)), {}, "tensor q.lokr_w1 is int32"),
        (tensors(lokr_w1=torch.ones(2, 0)), {}, "tensor q.lokr_w1 is empty: [2, 0]"),
        (tensors(), {"decompose_both": "yes"}, "config entry decompose_both is 'yes', not true or false"),
        ({}, {}, "there are no LOKR tensors in it"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, found: dict[str, Tensor], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(folder(tmp_path, found, **config))
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("found", "config", "blocker"),
    [
        (tensors(), {"use_newlokr": True}, "config entry 'use_newlokr' is not understood"),
        (tensors(), {"weight_decompose": True, "r": 9}, "config entry 'weight_decompose' is not understood"),
        (tensors(dora_scale=torch.ones(1)), {}, "unknown tensors are not implemented: q.dora_scale"),
    ],
)
def test_what_is_not_understood_blocks_composing(
    tmp_path: Path, found: dict[str, Tensor], config: dict[str, Any], blocker: str
) -> None:
    assert read(folder(tmp_path, found, **config)).layout.blockers[0].startswith(blocker)


def test_a_small_file_cannot_ask_for_huge_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lycoris, "LARGEST", 123)
    layout = read(folder(tmp_path, tensors())).layout
    assert layout.modules == {}
    assert layout.blockers == ("module q would have 124 elements as LoRA, at most 123 are computed",)


def test_equal_values_in_another_adapter_have_another_digest(tmp_path: Path) -> None:
    found = {read(folder(tmp_path / str(alpha), tensors(), alpha=alpha)).digest for alpha in (4, 8)}
    assert len(found) == 2


def test_what_peft_saves_is_what_is_read(tmp_path: Path) -> None:
    config = LoKrConfig(r=1, target_modules=EVERY, use_effective_conv2d=True, decompose_both=True)
    stored = save(make(config), tmp_path)
    read_names = {name for module in stored.layout.modules.values() for name in module.tensors.values()}
    assert {f"{PREFIX}{name}" for name in read_names} == set(load_tensors(tmp_path))
    assert Lokr.writes_as == "lora"
