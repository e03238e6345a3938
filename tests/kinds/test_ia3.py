from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registry.deltas import Rescaling
from registry.errors import Incompatible, Refused
from registry.kinds.ia3 import Ia3
from registry.peft_format import read
from tests.adapters import FEEDFORWARD, PREFIX, RESCALED, load_tensors, make_ia3

DOWN, KEY = next(iter(FEEDFORWARD)), next(iter(RESCALED))


def test_the_offset_from_one_is_the_delta(tmp_path: Path) -> None:
    adapter = read(make_ia3(tmp_path))
    for name, tensor in load_tensors(tmp_path).items():
        module = name.removeprefix(PREFIX).removesuffix(".ia3_l")
        delta = adapter.delta(module)
        assert isinstance(delta, Rescaling)
        assert torch.equal(delta.offset, tensor.double().flatten() - 1)
        assert delta.feedforward == (module in FEEDFORWARD)
    assert adapter.rank is None


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0, 1e-6, 3.14159, 1 - 1e-7])
def test_reading_and_writing_gives_the_stored_value_back(value: float) -> None:
    stored = torch.full((4, 1), value)
    module = Ia3().layout({}, {"q.ia3_l": _info(stored)}).modules["q"]
    delta = Ia3().combine([(1.0, Ia3().delta(module, {"ia3_l": stored}))])
    assert torch.equal(Ia3().tensors("q", delta, "float32")["q.ia3_l"], stored)


def _info(tensor: torch.Tensor) -> Any:
    from registry.kinds import TensorInfo

    return TensorInfo(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def test_negation_is_two_minus_the_vector_and_cancels() -> None:
    ell = torch.tensor([0.5, 1.25, 2.0])
    delta = Rescaling(ell.double() - 1, feedforward=False)
    negated = Ia3().tensors("q", Ia3().combine([(-1.0, delta)]), "float32")["q.ia3_l"]
    assert negated.flatten().tolist() == [1.5, 0.75, 0.0]
    cancelled = Ia3().tensors("q", Ia3().combine([(1.0, delta), (-1.0, delta)]), "float32")["q.ia3_l"]
    assert cancelled.flatten().tolist() == [1.0, 1.0, 1.0]


def test_sides_do_not_mix() -> None:
    sides = [Rescaling(torch.zeros(4), feedforward=side) for side in (True, False)]
    with pytest.raises(Incompatible, match="output rescaling of 4 does not fit input rescaling of 4"):
        Ia3().combine([(1.0, sides[0]), (1.0, sides[1])])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"config": {"feedforward_modules": []}},
            f"module {DOWN} scales its input by its shape [1, 16], but its output by the config's",
        ),
        (
            {"config": {"feedforward_modules": ["k_proj", "down_proj"]}},
            f"module {KEY} scales its output by its shape [12, 1], but its input by the config's",
        ),
        ({"extra": {f"{PREFIX}x.ia3_l": torch.ones(3, 2)}}, "module x has an ia3_l of shape [3, 2]"),
        ({"extra": {f"{PREFIX}x.ia3_l": torch.ones(3)}}, "module x has an ia3_l of shape [3]"),
        ({"extra": {f"{PREFIX}x.ia3_l": torch.ones(1, 3, dtype=torch.int32)}}, "tensor x.ia3_l is int32"),
        ({"modules": {}, "feedforward": {}}, "there are no (IA)³ tensors in it"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(Refused) as caught:
        read(make_ia3(tmp_path, **options))
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("options", "blocker"),
    [
        ({"config": {"modules_to_save": ["score"]}}, "modules_to_save is in the config, but no such tensor"),
        ({"config": {"novelty": 3}}, "config entry 'novelty' is not understood"),
        (
            {"extra": {f"{PREFIX}score.weight": torch.ones(2, 2)}},
            "full weights are not implemented: score.weight",
        ),
    ],
)
def test_parts_without_maths_block_composing(tmp_path: Path, options: Any, blocker: str) -> None:
    assert read(make_ia3(tmp_path, **options)).layout.blockers[0].startswith(blocker)


def test_the_feedforward_expression_of_the_config_does_not_matter(tmp_path: Path) -> None:
    adapter = read(make_ia3(tmp_path, config={"feedforward_modules": ".*(mlp).*"}))
    assert adapter.layout.modules[DOWN].feedforward


def test_feedforward_names_that_end_another_become_an_expression() -> None:
    inside, outside = (
        Rescaling(torch.zeros(4), feedforward=True),
        Rescaling(torch.zeros(4), feedforward=False),
    )
    modules = {"fc": Ia3().describe("fc", inside), "my_fc": Ia3().describe("my_fc", outside)}
    assert Ia3().config(modules, [])["feedforward_modules"] == "fc"
    del modules["my_fc"]
    assert Ia3().config(modules, [])["feedforward_modules"] == ["fc"]


@pytest.mark.parametrize("feedforward", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_base_weight_is_patched_in_blocks_of_rows(feedforward: bool, transposed: bool) -> None:
    out, inner = 6, 4
    offset = torch.randn(inner if feedforward else out)
    delta, weight = Rescaling(offset, feedforward), torch.randn(out, inner)
    expected = weight * (1 + offset if feedforward else (1 + offset)[:, None])
    stored, expected = (weight.T, expected.T) if transposed else (weight, expected)
    blocks = [
        Ia3().patch(delta, stored[row : row + 2], row, transposed=transposed)
        for row in range(0, len(stored), 2)
    ]
    torch.testing.assert_close(torch.cat(blocks), expected)
    assert Ia3().patches_bias(delta) != feedforward
    if not feedforward:
        bias = torch.randn(out, 1)
        torch.testing.assert_close(
            Ia3().patch(delta, bias[2:5], 2, transposed=False), bias[2:5] * (1 + offset)[2:5, None]
        )
