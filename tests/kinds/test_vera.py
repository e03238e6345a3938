from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import VeraConfig
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from registry.deltas import dense
from registry.errors import Refused
from registry.kinds.vera import Vera
from registry.peft_format import read
from tests.adapters import PREFIX, load_tensors, write_adapter
from tests.kinds.peft_saved import TOLERANCE, make, save, worst_error


class Attention(nn.Module):
    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden, 16)
        self.v_proj = nn.Linear(hidden, 6)
        self.o_proj = nn.Linear(16, hidden)


def blocks(*hidden: int) -> nn.Module:
    return nn.ModuleDict({"layers": nn.ModuleList(Attention(size) for size in hidden)})


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["v_proj"], ["layers.1.o_proj"]])
def test_every_delta_is_that_of_peft(tmp_path: Path, dtype: torch.dtype, targets: list[str]) -> None:
    model = make(VeraConfig(r=5, target_modules=targets), base=blocks(12, 12), dtype=dtype)
    stored = save(model, tmp_path)
    assert stored.layout.blockers == ()
    assert len(stored.layout.modules) == (1 if "." in targets[0] else 2 * len(targets))
    assert worst_error(model, stored) < TOLERANCE[dtype]


def test_conv1d_has_the_orientation_of_its_delta(tmp_path: Path) -> None:
    conv1d: Any = Conv1D
    base = nn.ModuleDict({"c_attn": conv1d(18, 6)})
    model = make(VeraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True), base=base)
    stored = save(model, tmp_path)
    expected = model.base_model.model.c_attn.get_delta_weight("default").T
    torch.testing.assert_close(dense(stored.delta("c_attn")), expected.detach())
    assert stored.config["fan_in_fan_out"] is True


def test_the_shared_projections_are_roles_of_every_module(tmp_path: Path) -> None:
    stored = save(make(VeraConfig(r=5, target_modules=["q_proj", "v_proj"]), base=blocks(12)), tmp_path)
    for module in stored.layout.modules.values():
        assert module.tensors["vera_A"] == "base_model.vera_A"
        assert module.tensors["vera_B"] == "base_model.vera_B"
    read_names = {name for module in stored.layout.modules.values() for name in module.tensors.values()}
    assert {stored.names[name] for name in read_names} == set(load_tensors(tmp_path))
    assert Vera.writes_as == "lora"


def test_another_projection_is_another_adapter(tmp_path: Path) -> None:
    digests = set()
    for key in (0, 1):
        config = VeraConfig(r=5, target_modules=["q_proj"], projection_prng_key=key)
        digests.add(save(make(config, base=blocks(12)), tmp_path / str(key)).digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("base", "targets"),
    [
        (blocks(12, 12), ["q_proj", "o_proj"]),  # 12 and 16 inputs
        (blocks(12, 10), ["o_proj"]),  # outputs of 12 and 10
        (nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16)), ["0", "1"]),
    ],
)
def test_modules_that_may_differ_in_input_size_block_composing(
    tmp_path: Path, base: nn.Module, targets: list[str]
) -> None:
    layout = save(make(VeraConfig(r=5, target_modules=targets), base=base), tmp_path).layout
    assert layout.modules == {}
    (blocker,) = layout.blockers
    assert blocker.startswith("its modules may differ in input size, which the file does not tell (such as ")


def test_projections_that_were_not_saved_block_composing_until_peft_converts_it(tmp_path: Path) -> None:
    from peft import save_as_lora

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = VeraConfig(r=5, target_modules=["q_proj"], save_projection=False, projection_prng_key=3)
        model = make(config, base=blocks(12), dtype=torch.float32)
        stored = save(model, tmp_path / "vera")
        save_as_lora(tmp_path / "lora", model, rank=5)
    assert stored.layout.modules == {}
    (blocker,) = stored.layout.blockers
    assert blocker.startswith("its random projections are not in the file (save_projection)")
    assert worst_error(model, read(tmp_path / "lora")) < 1e-5


def test_the_key_is_part_of_the_content_where_projections_were_not_saved(tmp_path: Path) -> None:
    found = {
        read(folder(tmp_path / str(key), tensors(), save_projection=False, projection_prng_key=key)).digest
        for key in (None, 0, 1)
    }
    assert len(found) == 2


A, B = "base_model.vera_A", "base_model.vera_B"


def tensors(**others: Tensor) -> dict[str, Tensor]:
    shapes = {f"{PREFIX}q.vera_lambda_b": (6,), f"{PREFIX}q.vera_lambda_d": (2,), A: (2, 5), B: (6, 2)}
    return {**{name: torch.ones(shape) for name, shape in shapes.items()}, **others}


def without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors().items() if key != name}


def folder(path: Path, found: dict[str, Tensor], **config: Any) -> Path:
    return write_adapter(path, {"peft_type": "VERA", "r": 2, **config}, found)


@pytest.mark.parametrize(
    ("found", "config", "message"),
    [
        (tensors(), {"r": 3}, "vera_A has rank 2, but the config 3"),
        (tensors(), {"r": None}, "vera_A has rank 2, but the config 256"),
        (without(A), {}, f"tensor {A} is missing, which the config says was saved"),
        (without(B), {}, f"tensor {B} is missing, which the config says was saved"),
        (
            tensors(**{A: torch.ones(3, 5)}),
            {},
            "vera_A has shape [3, 5] and vera_B [6, 2]: not (r, N) and (M, r)",
        ),
        (tensors(**{A: torch.ones(2)}), {}, "vera_A has shape [2] and vera_B [6, 2]"),
        (tensors(**{A: torch.ones(2, 0)}), {}, f"tensor {A} is empty: [2, 0]"),
        (tensors(**{B: torch.ones(6, 2, dtype=torch.int8)}), {}, f"tensor {B} is int8"),
        (
            tensors(**{f"{PREFIX}q.vera_lambda_b": torch.ones(7)}),
            {},
            "module q has vera_lambda_b [7] and vera_lambda_d [2], which do not fit vera_B [6, 2]",
        ),
        (
            tensors(**{f"{PREFIX}q.vera_lambda_d": torch.ones(3)}),
            {},
            "module q has vera_lambda_b [6] and vera_la",
        ),
        (
            tensors(**{f"{PREFIX}q.vera_lambda_b": torch.ones(6, 1)}),
            {},
            "module q has vera_lambda_b [6, 1] and",
        ),
        (without(f"{PREFIX}q.vera_lambda_b"), {}, "module q has only vera_lambda_d"),
        (tensors(), {"save_projection": 1}, "config entry save_projection is 1, not true or false"),
        ({A: torch.ones(2, 5), B: torch.ones(6, 2)}, {}, "there are no VeRA tensors in it"),
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
        (tensors(), {"use_newvera": True, "r": 9}, "config entry 'use_newvera' is not understood"),
        (tensors(), {"bias": "vera_only"}, "a trained bias (bias) is not implemented"),
        (tensors(other=torch.ones(2)), {}, "unknown tensors are not implemented: other"),
        (
            tensors(**{f"{PREFIX}q.base_layer.p.vera_lambda_b": torch.ones(6)}),
            {},
            "adapters stacked on one module are not implemented: q.base_layer.p",
        ),
    ],
)
def test_what_is_not_understood_blocks_composing(
    tmp_path: Path, found: dict[str, Tensor], config: dict[str, Any], blocker: str
) -> None:
    assert read(folder(tmp_path, found, **config)).layout.blockers[0].startswith(blocker)
