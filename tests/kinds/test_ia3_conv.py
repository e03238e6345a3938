from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PeftModel
from torch import Tensor, nn

from registry import kinds
from registry.deltas import Rescaling
from registry.errors import Refused
from registry.kinds.ia3 import Ia3
from registry.peft_format import StoredAdapter, read
from tests.adapters import PREFIX, combination, load_tensors, make_ia3, materialize
from tests.kinds.peft_saved import make, save

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Net(nn.Module):
    """Convolutions one after another; ``outer`` scales its output, ``inner`` its input."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.outer = nn.Conv2d(3, 6, (3, 2), groups=1)
        self.grouped = nn.Conv2d(6, 8, 3, groups=2)
        self.inner = nn.Conv2d(8, 4, 3, groups=groups)
        self.volume = nn.Conv3d(1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.inner(self.grouped(self.outer(x)))
        volume: Tensor = self.volume(hidden[:, None])
        return volume


MODULES = ["outer", "grouped", "inner", "volume"]


def adapted(folder: Path, feedforward: Any = ("inner",)) -> tuple[Any, StoredAdapter]:
    config = IA3Config(
        target_modules=MODULES,
        feedforward_modules=feedforward if isinstance(feedforward, str) else list(feedforward),
    )
    model = make(config, base=Net())
    return model, save(model, folder)


def merged(stored: StoredAdapter) -> nn.Module:
    """The base model with every weight and bias patched in blocks of two rows."""
    net = Net().double()
    for name in stored.layout.modules:
        layer, delta, rules = net.get_submodule(name), stored.delta(name), kinds.load("ia3")
        weight = layer.get_parameter("weight").data
        flat = weight.flatten(1)
        blocks = [
            rules.patch(delta, flat[row : row + 2], row, transposed=False) for row in range(0, len(flat), 2)
        ]
        weight.copy_(torch.cat(blocks).reshape(weight.shape))
        if rules.patches_bias(delta):
            bias = layer.get_parameter("bias").data
            bias.copy_(rules.patch(delta, bias[:, None], 0, transposed=False)[:, 0])
    return net


@pytest.mark.parametrize("feedforward", [("inner",), (), "inner|nothing"])
def test_the_patched_base_does_what_peft_does(tmp_path: Path, feedforward: Any) -> None:
    model, stored = adapted(tmp_path, feedforward)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(merged(stored)(x), model(x), rtol=1e-12, atol=1e-12)


def test_the_config_tells_the_side(tmp_path: Path) -> None:
    _, stored = adapted(tmp_path)
    modules = stored.layout.modules
    assert {name: module.feedforward for name, module in modules.items()} == {
        "outer": False,
        "grouped": False,
        "inner": True,
        "volume": False,
    }
    assert {name: (module.form, module.shape) for name, module in modules.items()} == {
        "outer": ("conv", (6,)),
        "grouped": ("conv", (8,)),
        "inner": ("conv", (8,)),
        "volume": ("conv", (2,)),
    }


def test_a_vector_is_written_as_it_was_read(tmp_path: Path) -> None:
    _, stored = adapted(tmp_path)
    for name, module in stored.layout.modules.items():
        rules = Ia3().at(module)
        delta = rules.combine([(1.0, stored.delta(name))])
        assert rules.describe(name, delta) == module
        (found,) = rules.tensors(name, delta, "float64").values()
        torch.testing.assert_close(found, load_tensors(tmp_path)[f"{PREFIX}{name}.ia3_l"], rtol=0, atol=1e-15)


def test_peft_loads_a_result_and_it_does_what_the_patched_base_does(tmp_path: Path) -> None:
    _, stored = adapted(tmp_path / "a")
    result = materialize(tmp_path / "b", combination((0.5, stored), dtype="float64"), stored)
    loaded: Any = PeftModel.from_pretrained(Net().double(), tmp_path / "b", autocast_adapter_dtype=False)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(loaded(x), merged(result)(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stated", [None, 5, {"a": 1}])
def test_a_convolution_of_unknown_side_blocks_composing(tmp_path: Path, stated: Any) -> None:
    extra = {f"{PREFIX}c.ia3_l": torch.ones(1, 4, 1, 1)}
    layout = read(make_ia3(tmp_path, extra=extra, config={"feedforward_modules": stated})).layout
    assert layout.blockers == (
        "its config does not say whether the convolution c is scaled at its input or its output",
    )


@pytest.mark.parametrize(
    ("shape", "stated", "message"),
    [
        ((1, 4, 1), [], "module c has an ia3_l of shape [1, 4, 1]"),
        ((4, 1, 1, 1), [], "module c has an ia3_l of shape [4, 1, 1, 1]"),
        ((1, 4, 3, 3), [], "module c has an ia3_l of shape [1, 4, 3, 3]"),
        ((1, 4, 1, 1), "(", "feedforward_modules key '^(?:()' is no regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, shape: tuple[int, ...], stated: Any, message: str
) -> None:
    config = {"feedforward_modules": stated}
    folder = make_ia3(
        tmp_path, modules={}, feedforward={}, extra={f"{PREFIX}c.ia3_l": torch.ones(shape)}, config=config
    )
    with pytest.raises(Refused) as caught:
        read(folder)
    assert caught.value.message.startswith(message)


def test_a_row_of_a_linear_weight_is_scaled_as_before() -> None:
    weight, delta = torch.randn(5, 4), Rescaling(torch.randn(4), feedforward=True)
    torch.testing.assert_close(Ia3().patch(delta, weight, 0, transposed=False), weight * (1 + delta.offset))
