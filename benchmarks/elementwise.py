"""Element-wise merges of four adapters beside PEFT's ``add_weighted_adapter`` on the same factors, one thread each.

    python -m benchmarks elementwise [--size N] [--layers N] [--runs N] [--svds N] [--part delta|factors …]

``delta``: one module, merged as a matrix and stored as an adapter of the inputs' rank; the errors are those of the
stored adapters to the merged matrices. ``factors``: the linear layers of a model, merged factor by factor, and how far
the results are apart where nothing is random. Seconds of processor time; the two sides alternate, n in brackets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest import mock

from benchmarks import _llama

RANK, SCALE, DENSITY = 16, 2.0, "0.5"
WEIGHTS = [1.0, 0.8, 0.6, 0.4]
NAMES = [f"a{number}" for number in range(len(WEIGHTS))]
ELECTED = {"elect": "unweighted", "tie": "positive"}
CASES: dict[str, tuple[str | None, dict[str, str]]] = {
    "ties": ("ties", ELECTED),
    "dare_ties": ("dare_ties", ELECTED),
    "magnitude_prune": ("magnitude_prune", {}),
    "dare": ("dare_linear", {}),
    "breadcrumbs": (None, {}),
    "della": (None, {}),
    "sce": (None, {}),
}
"""What PEFT calls it, where it has it, and the parameters that make ours the same."""

Inputs = Mapping[str, Sequence[Any]]
"""Of every module, its deltas."""


def run(arguments: list[str]) -> None:
    import torch

    from registry._memory import keep_freed_memory

    parser = argparse.ArgumentParser(prog="python -m benchmarks elementwise")
    parser.add_argument("--size", type=int, default=_llama.HIDDEN, help="of the one module (default: 4096)")
    parser.add_argument("--layers", type=int, default=4, help="of the model (default: 4)")
    parser.add_argument("--runs", type=int, default=5, help="of each case (default: 5)")
    parser.add_argument("--svds", type=int, default=1, help="of PEFT's slow SVD (default: 1)")
    parser.add_argument("--part", action="append", choices=["delta", "factors"], help="only this; repeatable")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()  # as computing a recipe does; it serves both sides
    warnings.simplefilter("ignore")  # PEFT's, about replacing adapters
    layers = {name.replace(".", "_"): (m, n) for name, m, n in _llama.modules(options.layers)}
    parts: dict[str, tuple[Mapping[str, tuple[int, int]], int]] = {
        "delta": ({"q": (options.size, options.size)}, options.svds),
        "factors": (layers, options.runs),
    }
    for part in options.part or parts:
        sizes, peers = parts[part]
        print(f"\n-- {part}: {len(WEIGHTS)} adapters of rank {RANK}, {len(sizes)} modules, density {DENSITY}")
        print(f"{'':18}{'min':>8}{'median':>8}{'max':>8}{'PEFT':>14}{'PEFT / ours':>20}{'load':>6}")
        _compare(part, sizes, options.runs, peers)


def _compare(part: str, sizes: Mapping[str, tuple[int, int]], runs: int, peers: int) -> None:
    inputs = _inputs(sizes)
    model = _peft(inputs)
    for name, (theirs, _) in CASES.items():
        how = theirs and (f"{theirs}_svd" if part == "delta" else theirs)
        merge = partial(_on_delta if part == "delta" else _on_factors, name, inputs)
        found, other = merge(), None
        ours: list[float] = []
        peft: list[float] = []
        for turn in range(runs):
            _timed(merge, ours)
            if model is not None and how is not None and turn < peers:
                other = _timed(partial(_combined, model, list(sizes), how), peft)
        middle = statistics.median(ours)
        cells = f"{name:18}{min(ours):8.3f}{middle:8.3f}{max(ours):8.3f}"
        if peft:
            ratios = min(peft) / max(ours), statistics.median(peft) / middle, max(peft) / min(ours)
            cells += f"{statistics.median(peft):9.3f} ({len(peft)})  " + "".join(f"{x:6.1f}" for x in ratios)
        note = _errors(found, other) if part == "delta" else _apart(name, found, other)
        print(f"{cells:76}{os.getloadavg()[0]:6.1f}   {note}", flush=True)


def _timed(case: Callable[[], Any], taken: list[float]) -> Any:
    started = time.process_time()
    found = case()
    taken.append(time.process_time() - started)
    return found


def _inputs(sizes: Mapping[str, tuple[int, int]]) -> Inputs:
    import torch

    from registry.deltas import LowRank

    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return 0.02 * torch.randn(shape, generator=generator)

    return {
        name: [LowRank(drawn(m, RANK), drawn(RANK, n), SCALE) for _ in WEIGHTS]
        for name, (m, n) in sizes.items()
    }


def _merged(name: str, inputs: Inputs, on: str) -> dict[str, Any]:
    from registry import methods
    from registry.methods import Site

    method = methods.build(name, {**CASES[name][1], "density": DENSITY, "on": on})
    return {module: method.merge(given, WEIGHTS, Site(module, NAMES)) for module, given in inputs.items()}


def _on_factors(name: str, inputs: Inputs) -> Any:
    return {module: merged.delta for module, merged in _merged(name, inputs, "factors").items()}


def _on_delta(name: str, inputs: Inputs) -> Any:
    """Merged and approximated; the error."""
    from registry.methods._lowrank import low_rank

    (merged,) = _merged(name, inputs, "delta").values()
    return low_rank(merged.delta).report["error"]


def _peft(inputs: Inputs) -> Any:
    """A model with these adapters, whose base weights take no memory; None where there is no PEFT."""
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        print("peft is not installed: no case has it")
        return None
    base = torch.nn.Module()
    for name, given in inputs.items():
        layer = torch.nn.Linear(1, 1, bias=False)
        layer.out_features, layer.in_features = given[0].shape
        layer.weight = torch.nn.Parameter(torch.zeros(1).expand(given[0].shape), requires_grad=False)
        base.add_module(name, layer)
    config = LoraConfig(r=RANK, lora_alpha=int(RANK * SCALE), target_modules=list(inputs))
    model: Any = get_peft_model(base, config, adapter_name=NAMES[0])
    for name in NAMES[1:]:
        model.add_adapter(name, config)
    for module, given in inputs.items():
        layer = model.base_model.model.get_submodule(module)
        for name, delta in zip(NAMES, given, strict=True):
            layer.lora_A[name].weight.data, layer.lora_B[name].weight.data = delta.down, delta.up
    return model


def _combined(model: Any, modules: Sequence[str], how: str) -> tuple[Any, dict[str, Any]]:
    """What PEFT's function made of the last tensors that it was given, and the factors of every module."""
    from peft.tuners.lora import model as peft_model

    name = how.removesuffix("_svd")
    original = getattr(peft_model, name)
    made: list[Any] = []

    def kept(*given: Any) -> Any:
        made[:] = [original(*given)]
        return made[0]

    options: dict[str, Any] = {"svd_rank": RANK, "svd_full_matrices": False} if how != name else {}
    with mock.patch.object(peft_model, name, kept):
        model.add_weighted_adapter(
            NAMES, WEIGHTS, "made", combination_type=how, density=float(DENSITY), **options
        )
    layers = {module: model.base_model.model.get_submodule(module) for module in modules}
    factors = {
        module: (layer.lora_B["made"].weight.data, layer.lora_A["made"].weight.data)
        for module, layer in layers.items()
    }
    model.delete_adapter("made")
    return made[0], factors


def _errors(found: Any, other: Any) -> str:
    import torch

    if other is None:
        return f"error {found:.8f}"
    target, ((up, down),) = other[0].double(), other[1].values()
    theirs = torch.linalg.matrix_norm(target - up.double() @ down.double()) / torch.linalg.matrix_norm(target)
    return f"error {found:.8f}, PEFT {float(theirs):.8f}"


def _apart(name: str, found: Any, other: Any) -> str:
    if other is None or name.startswith("dare"):
        return ""
    apart = 0.0
    for module, delta in found.items():
        for ours, theirs in zip((delta.up, delta.down), other[1][module], strict=True):
            apart = max(apart, float((ours - theirs).norm() / theirs.norm()))
    return f"apart {apart:.1e}"
