from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig
from torch import Tensor

from registry.errors import Refused
from registry.kinds import _lycoris
from registry.kinds.loha import Loha
from registry.peft_format import read
from tests.adapters import PREFIX, write_adapter
from tests.kinds.peft_saved import TOLERANCE, make, save, worst_error

EVERY = ["wide", "prime", "conv", "grouped", "point", "series"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rank", [1, 2, 3, 5])
@pytest.mark.parametrize("effective", [False, True])
def test_every_delta_is_that_of_peft(tmp_path: Path, dtype: torch.dtype, rank: int, effective: bool) -> None:
    alpha = 3 * rank  # PEFT holds alpha/r in float32
    config = LoHaConfig(r=rank, alpha=alpha, target_modules=EVERY, use_effective_conv2d=effective)
    model = make(config, dtype=dtype)
    stored = save(model, tmp_path)
    assert sorted(stored.layout.modules) == sorted(EVERY)
    assert stored.layout.blockers == ()
    assert worst_error(model, stored) < TOLERANCE[dtype]


def test_patterns_give_each_module_its_rank_and_scale(tmp_path: Path) -> None:
    config = LoHaConfig(
        r=2,
        alpha=3,
        target_modules=["wide", "prime", "series"],
        rank_pattern={"wide": 4, "seri.*": 1},
        alpha_pattern={"prime": 7.5, "wide": 16},
    )
    model = make(config)
    stored = save(model, tmp_path)
    modules = stored.layout.modules
    assert {name: module.scale for name, module in modules.items()} == {"wide": 4, "prime": 3.75, "series": 3}
    assert {name: module.rank for name, module in modules.items()} == {"wide": 16, "prime": 4, "series": 1}
    assert worst_error(model, stored) < 1e-14


def test_the_rank_is_at_most_that_of_a_dense_matrix(tmp_path: Path) -> None:
    stored = save(make(LoHaConfig(r=4, target_modules=["wide", "prime"])), tmp_path)
    assert stored.layout.modules["wide"].rank == 16
    assert stored.layout.modules["prime"].rank == 7
    assert stored.rank == 16


def test_a_core_tells_the_kernel(tmp_path: Path) -> None:
    config = LoHaConfig(r=2, target_modules=EVERY, use_effective_conv2d=True)
    modules = save(make(config), tmp_path).layout.modules
    found = {name: (module.form, module.shape, module.kernel) for name, module in modules.items()}
    assert found["conv"] == ("conv", (6, 24), (3, 2))
    assert found["grouped"] == ("conv", (6, 36), (3, 3))
    assert found["series"] == ("conv", (6, 20), (5,))
    assert found["point"] == ("linear", (6, 4), ())


def tensors(m: int = 6, n: int = 5, r: int = 2, **others: Tensor) -> dict[str, Tensor]:
    shapes = {"hada_w1_a": (m, r), "hada_w1_b": (r, n), "hada_w2_a": (m, r), "hada_w2_b": (r, n)}
    return {**{role: torch.ones(shape) for role, shape in shapes.items()}, **others}


def folder(path: Path, found: dict[str, Tensor], **config: Any) -> Path:
    settings = {"peft_type": "LOHA", "r": 2, "alpha": 4, **config}
    return write_adapter(path, settings, {f"{PREFIX}q.{role}": tensor for role, tensor in found.items()})


CORES = {f"hada_t{i}": torch.ones(2, 2, 3, 3) for i in (1, 2)}
TUCKER = tensors(2, 5, 2, hada_w1_a=torch.ones(2, 6), hada_w2_a=torch.ones(2, 6), **CORES)


@pytest.mark.parametrize(
    ("found", "config", "message"),
    [
        (tensors(), {"r": 3}, "module q has rank 2 in its tensors but 3 in the config"),
        (tensors(), {"rank_pattern": {"q": 4}}, "module q has rank 2 in its tensors but 4 in the config"),
        (tensors(hada_w2_b=torch.ones(3, 5)), {}, "module q has tensors that do not fit: hada_w1_a [6, 2], "),
        (tensors(hada_w2_a=torch.ones(7, 2)), {}, "module q has tensors that do not fit: "),
        (
            tensors(hada_w1_a=torch.ones(6), hada_w2_a=torch.ones(6)),
            {},
            "module q has tensors that do not fit",
        ),
        (
            tensors(hada_w1_a=torch.ones(6, 3), hada_w2_a=torch.ones(6, 3)),
            {},
            "module q has tensors that do not",
        ),
        ({**TUCKER, "hada_t2": torch.ones(2, 2, 3)}, {}, "module q has tensors that do not fit"),
        ({**TUCKER, "hada_t1": torch.ones(2, 3, 3, 3)}, {}, "module q has tensors that do not fit"),
        ({**tensors(), **CORES}, {}, "module q has tensors that do not fit"),
        ({k: v for k, v in TUCKER.items() if k != "hada_t2"}, {}, "module q has only hada_t1, hada_w1_a"),
        (
            {k: v for k, v in tensors().items() if k != "hada_w2_b"},
            {},
            "module q has only hada_w1_a, hada_w1_b",
        ),
        (tensors(hada_w1_a=torch.ones(6, 2, dtype=torch.int8)), {}, "tensor q.hada_w1_a is int8"),
        (tensors(hada_w1_a=torch.ones(6, 0)), {}, "tensor q.hada_w1_a is empty: [6, 0]"),
        (tensors(), {"alpha": "4"}, "config entry alpha is '4', not a usable number"),
        (tensors(), {"rank_pattern": {"q": 0}}, "module q has rank 0 in the config"),
        ({}, {}, "there are no LOHA tensors in it"),
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
        (tensors(), {"use_newloha": True}, "config entry 'use_newloha' is not understood"),
        (tensors(), {"use_newloha": True, "r": 9}, "config entry 'use_newloha' is not understood"),
        (tensors(hada_w3_a=torch.ones(1)), {}, "unknown tensors are not implemented: q.hada_w3_a"),
        ({f"base_layer.{k}": v for k, v in tensors().items()}, {}, "adapters stacked on one module are not"),
    ],
)
def test_what_is_not_understood_blocks_composing(
    tmp_path: Path, found: dict[str, Tensor], config: dict[str, Any], blocker: str
) -> None:
    assert read(folder(tmp_path, found, **config)).layout.blockers[0].startswith(blocker)


def test_a_small_file_cannot_ask_for_huge_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lycoris, "LARGEST", 43)
    layout = read(folder(tmp_path, tensors())).layout
    assert layout.modules == {}
    assert layout.blockers == ("module q would have 44 elements as LoRA, at most 43 are computed",)


def test_results_are_stored_as_lora() -> None:
    assert Loha.writes_as == "lora"
