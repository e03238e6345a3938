"""What holds for all methods that are exact in the core, through the whole of the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry, methods
from registry.deltas import Delta, LowRank, Rescaling, dense
from registry.errors import Refused, UsageError
from registry.methods import Merged, Site
from registry.peft_format import read
from tests.adapters import Q0, make_ia3, make_lora
from tests.methods.cases import low

CALLS = [
    "average(a, 0.5*b)",
    "slerp(a, b, t=0.25)",
    "karcher(a, b)",
    "model_stock(a, b)",
    "tsv(a, b, rank=2)",
    "iso(a, b)",
    "iso_cts(a, b, common=0.5)",
    "cart(a, b, keep=0.5)",
    "core(slerp(a, b))",
    "core(average(a, b), basis=deltas)",
    "knots(slerp(a, b))",
    "knots(core(karcher(a, b)))",
    "core(ties(a, 0.5*b, density=0.5))",
    "knots(dare(a, b, density=0.5))",
    "robust_merge(a, b)",
    "lego(a, b, rank=3)",
]
VECTORS = ["average", "slerp", "karcher", "model_stock"]
LORA = ["tsv", "iso", "iso_cts", "cart", "core", "knots", "robust_merge", "lego"]
NEEDED: dict[str, dict[str, Any]] = {"cart": {"rank": 2}}


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
        local.add(make_ia3(tmp_path / f"v{name}", seed=seed), f"v{name}")
    return local


@pytest.mark.parametrize("expression", CALLS)
def test_a_call_is_pinned_computed_and_stored(shelf: Registry, tmp_path: Path, expression: str) -> None:
    shelf.compose("c", f"2*{expression} - 0.5*a")
    shelf.checkout("c", tmp_path / "out")
    stored = read(tmp_path / "out")
    found = stored.delta(Q0)
    assert isinstance(found, LowRank)
    assert found.up.isfinite().all()
    assert dense(found).any()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["rank_pattern"].get(Q0, config["r"]) == found.rank


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_merged_where_the_formula_needs_lengths_and_angles_only(
    shelf: Registry, tmp_path: Path, name: str
) -> None:
    shelf.compose("c", f"{name}(va, vb)")
    shelf.checkout("c", tmp_path / "out")
    stored, a, b = (read(tmp_path / folder) for folder in ("out", "va", "vb"))
    for module in stored.layout.modules:
        site, inputs = Site(module, ["va", "vb"]), [a.delta(module), b.delta(module)]
        expected = methods.build(name, {}).merge(inputs, [1.0, 1.0], site).delta
        assert isinstance(expected, Rescaling)
        torch.testing.assert_close(dense(stored.delta(module)), dense(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LORA)
def test_other_methods_refuse_vectors(shelf: Registry, name: str) -> None:
    inside = "average(va, vb)" if name in {"core", "knots"} else "va, vb"
    more = ", rank=2" if name == "cart" else ""
    with pytest.raises(Refused, match=f"{name} is not defined for ia3 adapters"):
        shelf.compose("c", f"{name}({inside}{more})")


@pytest.mark.parametrize("argument", ["a", "a + b", "2*average(a, b)", "average(a, b) + a"])
def test_what_wraps_wants_a_call(shelf: Registry, argument: str) -> None:
    with pytest.raises(UsageError, match="core takes one call of another method, and no coefficient"):
        shelf.compose("c", f"core({argument})")
    with pytest.raises(UsageError, match=r"core takes 1 argument\(s\), not 2"):
        shelf.compose("c", f"core({argument}, {argument})")


def run(name: str, deltas: list[Delta | None], weights: list[float]) -> Merged:
    method, site = methods.build(name, NEEDED.get(name, {})), Site("q", [str(i) for i in range(len(deltas))])
    if not method.wraps:
        return method.merge(deltas, weights, site)
    inside = methods.build("slerp" if len(deltas) == 2 else "karcher", {})
    return method.around(lambda found: inside.merge(found, weights, site), deltas)


@pytest.mark.parametrize("name", [*VECTORS, *LORA])
def test_bytes_do_not_depend_on_the_number_of_threads(name: str) -> None:
    deltas: list[Delta | None] = [low(700, 500, 24, seed, dtype=torch.float32) for seed in range(2)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(run(name, deltas, [1.0, -0.5]).delta)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert isinstance(found[0], LowRank)
    assert isinstance(found[1], LowRank)
    assert torch.equal(found[0].up, found[1].up)
    assert torch.equal(found[0].down, found[1].down)


@pytest.mark.parametrize("name", [*VECTORS, *LORA])
def test_the_form_of_the_module_is_kept_and_the_inputs_are_not_changed(name: str) -> None:
    made = [low(6, 12, 3, seed) for seed in range(2)]
    deltas: list[Delta | None] = [LowRank(d.up, d.down, 0.5, "conv", (2, 2)) for d in made]
    before = [dense(d).clone() for d in deltas if d is not None]
    delta = run(name, deltas, [1.0, -0.5]).delta
    assert isinstance(delta, LowRank)
    assert (delta.form, delta.kernel, delta.shape) == ("conv", (2, 2), (6, 12))
    for d, whole in zip(deltas, before, strict=True):
        assert d is not None
        assert torch.equal(dense(d), whole)


@pytest.mark.parametrize("name", [*VECTORS, *LORA])
def test_parameters_are_explicit_and_build_the_same_method(name: str) -> None:
    method = methods.build(name, NEEDED.get(name, {}))
    assert methods.build(name, method.explicit()) == method
    json.dumps(method.explicit())


@pytest.mark.parametrize("name", [*VECTORS, *LORA])
def test_tiny_and_huge_deltas_are_scaled_ones(name: str) -> None:
    deltas: list[Delta | None] = [low(6, 5, 2, seed) for seed in range(2)]
    plain = dense(run(name, deltas, [1.0, 0.5]).delta)
    for factor in (1e-30, 1e30):
        scaled: list[Delta | None] = [
            LowRank(d.up, d.down, factor) for d in (low(6, 5, 2, s) for s in range(2))
        ]
        found = dense(run(name, scaled, [1.0, 0.5]).delta) / factor
        if name != "lego":  # its clusters weigh A against B
            torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-9)
        assert found.isfinite().all()
