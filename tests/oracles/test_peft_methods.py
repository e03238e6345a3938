"""What every merge method stores, PEFT loads and computes with: saved, loaded, and run, on a layer of every sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry, methods
from registry.deltas import Delta, LowRank, Rescaling, dense
from registry.peft_format import read
from tests.methods.strategies import NAMES, built, parameters
from tests.oracles.every_layer import SORTS, base, composed, deltas, ells, loras, output, shelved, vectors

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

VECTORS = [name for name in NAMES if "ia3" in methods.family.load(name).kinds]


def text(name: str) -> str:
    """A call of the method, as it is typed."""
    method, options = built(name), "".join(f", {key}={value}" for key, value in parameters(name).items())
    if method.wraps:
        return f"{name}(ties(a, 0.5*b, density=0.5){options})"
    if method.spread or method.arity == (1, 1):
        return f"{name}(a - 0.5*b{options})"
    return f"{name}(a, 0.5*b{options})"


def weight(delta: Delta, like: torch.Tensor, *, turned: bool) -> torch.Tensor:
    """ΔW in the shape of the base weight."""
    matrix = dense(delta)
    assert isinstance(delta, LowRank)
    return (matrix.T if turned or delta.form == "embedding" else matrix).reshape(like.shape)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_result_is_what_peft_computes_with(name: str, local: Registry, tmp_path: Path) -> None:
    shelved(loras(r=4, rank_pattern={}, target_modules=SORTS), local, tmp_path / "in")
    result = composed(local, text(name), tmp_path / "out")
    stored, patched, found = read(tmp_path / "out"), base(), deltas(result)
    assert sorted(stored.layout.modules) == sorted(found) == sorted(SORTS)
    for module in SORTS:
        target: Any = patched.get_submodule(module)
        whole = weight(stored.delta(module), target.weight, turned=module == "turned")
        torch.testing.assert_close(found[module], whole, rtol=1e-13, atol=1e-13)
        target.weight.data += whole
    torch.testing.assert_close(output(result), output(patched), rtol=1e-12, atol=1e-12)
    assert float((output(result) - output(base())).abs().max()) > 1e-6


@pytest.mark.parametrize("name", VECTORS)
def test_stored_vectors_are_what_peft_computes_with(name: str, local: Registry, tmp_path: Path) -> None:
    shelved(vectors(), local, tmp_path / "in")
    result = composed(local, text(name), tmp_path / "out")
    stored, patched, found = read(tmp_path / "out"), base(), ells(result)
    assert sorted(stored.layout.modules) == sorted(found)
    for module, ell in found.items():
        delta = stored.delta(module)
        target: Any = patched.get_submodule(module)
        assert isinstance(delta, Rescaling)
        assert delta.feedforward == (module == "turned")
        torch.testing.assert_close(ell.flatten(), 1 + delta.offset, rtol=0, atol=0)
        target.weight.data *= (1 + delta.offset)[:, None]  # rows: outputs of a Linear, inputs of a Conv1D
        if not delta.feedforward:
            target.bias.data *= 1 + delta.offset
    torch.testing.assert_close(output(result), output(patched), rtol=1e-12, atol=1e-12)
    assert float((output(result) - output(base())).abs().max()) > 1e-6
