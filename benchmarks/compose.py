"""Composing adapters of Llama-7B's shapes: the call alone beside PEFT's, then files to file and catalog to catalog.

    python -m benchmarks compose [--layers N] [--runs N] [--part calls|svd|files|growth …]

``calls``: adapters in memory on both sides, one thread each, interleaved; PEFT's base model has weights without
memory. ``svd``: one 4096×4096 module, with the error of both. ``files``: whole processes; beside them the same bytes
read and written with safetensors alone, durable as ours are. ``growth``: how the time grows with layers, adapters, rank.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _llama
from benchmarks._processes import Taken, measure, table

RANK = 16
ADAPTERS = 4


def run(arguments: list[str]) -> None:
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "calls": _calls,
        "svd": _svd,
        "files": _files,
        "growth": _growth,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks compose")
    parser.add_argument("--layers", type=int, default=32, help="of the model (default: 32)")
    parser.add_argument("--runs", type=int, default=5, help="of each case (default: 5)")
    parser.add_argument("--part", action="append", choices=[*parts], help="only this; repeatable")
    options = parser.parse_args(arguments)
    for name in options.part or parts:
        print(f"\n-- {name}")
        parts[name](options)


class _Loaded:
    """An adapter whose tensors are in memory, as PEFT's are."""

    kind = "lora"

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        from registry import kinds, peft_format

        opened = peft_format.open_files(folder / peft_format.CONFIG, folder / peft_format.TENSORS)
        self.layout = opened.layout
        self._rules = kinds.load("lora")
        self._tensors = {
            plain: tensor.clone()
            for name, tensor in load_file(folder / peft_format.TENSORS).items()
            for plain in [name.removeprefix(peft_format.PREFIX)]
        }

    def delta(self, module: str) -> Any:
        found = self.layout.modules[module]
        return self._rules.delta(found, {role: self._tensors[name] for role, name in found.tensors.items()})


def _ours(adapters: Sequence[_Loaded], *, rank: int | None) -> None:
    """The weighted sum of all, exact or truncated, every module once."""
    import torch

    from registry import evaluate, methods, recipe

    readers = {f"sha256:{number}": adapter for number, adapter in enumerate(adapters)}
    whole = recipe.linear([(Decimal("0.25"), recipe.Input(digest=digest)) for digest in readers])
    if rank is not None:
        parameters = methods.build("truncate", {"rank": rank}).explicit()
        call = recipe.Call(method="truncate", algorithm=1, parameters=parameters, arguments=(whole,))
        whole = recipe.linear([(Decimal(1), call)])
    made = recipe.Recipe(kind="lora", algorithm=1, dtype="float32", expression=whole)
    for _ in evaluate.modules(made, readers, device=torch.device("cpu")):
        pass


def _peft(folders: Sequence[Path], layers: int) -> Any:
    """A model with all adapters loaded by PEFT; the base's weights are one number seen everywhere."""
    import torch
    from peft import PeftModel

    class Block(torch.nn.Module):
        def __init__(self, sizes: Mapping[str, tuple[int, int]]) -> None:
            super().__init__()
            for name, (m, n) in sizes.items():
                layer = torch.nn.Linear(1, 1, bias=False)
                layer.in_features, layer.out_features = n, m
                layer.weight = torch.nn.Parameter(torch.zeros(1).expand(m, n), requires_grad=False)
                self.add_module(name, layer)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for part in ("self_attn", "mlp"):
                names = {n.rpartition(".")[2]: s for n, s in _llama.MODULES.items() if n.startswith(part)}
                self.add_module(part, Block(names))

    class Model(torch.nn.Module):
        def prepare_inputs_for_generation(self) -> None:
            """PEFT asks for it."""

    base = Model()
    base.model = torch.nn.Module()
    base.model.layers = torch.nn.ModuleList(Layer() for _ in range(layers))
    base.config = {"model_type": "custom"}
    model = PeftModel.from_pretrained(base, str(folders[0]), adapter_name="a0")  # type: ignore[arg-type]
    for number, folder in enumerate(folders[1:], start=1):
        model.load_adapter(str(folder), adapter_name=f"a{number}")
    return model


def _calls(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folders = [
            _llama.write_adapter(Path(folder) / f"a{number}", layers=options.layers, rank=RANK, seed=number)
            for number in range(ADAPTERS)
        ]
        loaded = [_Loaded(each) for each in folders]
        model = _peft(folders, options.layers) if importlib.util.find_spec("peft") else None
        if model is None:
            print("peft is not installed: left out")
        for count in (2, ADAPTERS):
            print(
                f"{count} adapters of rank {RANK}, {options.layers} layers, one thread, n={options.runs}; seconds"
            )
            cases: dict[str, Callable[[], None]] = {
                "registry: exact sum": partial(_ours, loaded[:count], rank=None),
                f"registry: truncated to {RANK}": partial(_ours, loaded[:count], rank=RANK),
            }
            if model is not None:
                cases |= {f"PEFT {how}": partial(_weighted, model, count, how) for how in ("cat", "linear")}
            taken = _interleaved(cases, options.runs)
            for name, seconds in taken.items():
                middle = statistics.median(seconds)
                print(f"{name:28}{min(seconds):9.3f}{middle:9.3f}{max(seconds):9.3f}", end="")
                peers = (peer for peer in taken if peer.startswith("PEFT"))
                print(*(f"   {peer} / it {statistics.median(taken[peer]) / middle:6.2f}" for peer in peers))


def _weighted(model: Any, count: int, how: str) -> None:
    names = [f"a{number}" for number in range(count)]
    model.add_weighted_adapter(names, [0.25] * count, "made", combination_type=how)
    model.delete_adapter("made")


def _interleaved(cases: Mapping[str, Callable[[], None]], runs: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for warm in (True, *[False] * runs):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if not warm:
                taken[name].append(time.perf_counter() - started)
    return taken


def _svd(options: argparse.Namespace) -> None:
    """PEFT's own ``svd`` of one module: dense ΔW, thin SVD, the first columns."""
    import torch

    from registry import methods
    from registry.deltas import LowRank, dense, stack
    from registry.methods import Site

    torch.set_num_threads(1)
    size, generator = _llama.HIDDEN, torch.Generator().manual_seed(0)
    deltas = [
        LowRank(
            0.02 * torch.randn(size, RANK, generator=generator),
            0.02 * torch.randn(RANK, size, generator=generator),
        )
        for _ in range(ADAPTERS)
    ]
    truncate = methods.build("truncate", {"rank": RANK})
    for count in (2, ADAPTERS):
        whole = stack([(0.25, delta) for delta in deltas[:count]])
        wanted = dense(whole)
        started = time.perf_counter()
        up, values, down = torch.linalg.svd(wanted.float(), full_matrices=False)
        theirs = (up[:, :RANK] * values[:RANK]) @ down[:RANK]
        peft = time.perf_counter() - started
        taken = []
        for _ in range(max(20, options.runs)):
            started = time.perf_counter()
            made = truncate.merge([stack([(0.25, d) for d in deltas[:count]])], [1.0], Site("m", ["a"]))
            taken.append(time.perf_counter() - started)
        errors = [
            float((wanted - found).norm() / wanted.norm()) for found in (theirs.double(), dense(made.delta))
        ]
        ours = statistics.median(taken)
        print(
            f"{count} adapters: as PEFT does it {peft:.2f} s (n=1), registry {1e3 * ours:.2f} ms "
            f"({1e3 * min(taken):.2f} to {1e3 * max(taken):.2f}, n={len(taken)}): {peft / ours:,.0f} ×; "
            f"errors {errors[0]:.9f} and {errors[1]:.9f}"
        )


def _files(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "REGISTRY_HOME": str(folder / "home")}
        this = [sys.executable, "-m", "benchmarks.compose"]
        measure([*this, "make", str(folder), str(options.layers)], environment)
        for number in range(ADAPTERS):
            adding = ["add", str(folder / f"a{number}"), f"a{number}"]
            measure([sys.executable, "-m", "registry", *adding], environment)
        taken: dict[str, list[Taken]] = {}
        for turn in range(options.runs):
            weights = [f"0.25{turn}", f"0.24{turn}", f"0.23{turn}", f"0.22{turn}"]  # another recipe each time
            sum_of = " + ".join(f"{weight}*a{number}" for number, weight in enumerate(weights))
            compose = [sys.executable, "-m", "registry", "compose"]
            cases = {
                "safetensors: sum": [*this, "plain", str(folder), "all"],
                "safetensors: truncated": [*this, "plain", str(folder), "one"],
                "files: sum": [*this, "files", str(folder), "sum"],
                "files: truncated": [*this, "files", str(folder), "truncated"],
                "catalog: sum": [*compose, "s", sum_of],
                "catalog: truncated": [*compose, "t", sum_of, "--rank", str(RANK)],
                "catalog: known already": [*compose, "s", sum_of],
                "registry show": [sys.executable, "-m", "registry", "show", "s"],
                "import torch": [sys.executable, "-c", "import torch"],
            }
            for case, command in cases.items():
                os.sync()
                taken.setdefault(case, []).append(measure(command, environment))
        print(
            f"{ADAPTERS} adapters of rank {RANK}, {options.layers} layers, whole processes, n={options.runs}"
        )
        table(taken, "safetensors: sum", [])


def _growth(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    cases = [(layers, 2, 16) for layers in (1, 4, 16, 32)]
    cases += [(4, adapters, 16) for adapters in (1, 4, 8, 16)] + [
        (4, 2, rank) for rank in (8, 32, 64, 128, 256)
    ]
    print(
        f"{'layers':>8}{'adapters':>10}{'rank':>6}{'MB':>8}{'sum, s':>10}{'truncated, s':>14}{'sum, s/GB':>12}"
    )
    for layers, count, rank in cases:
        with tempfile.TemporaryDirectory() as name:
            folders = [
                _llama.write_adapter(Path(name) / f"a{number}", layers=layers, rank=rank, seed=number)
                for number in range(count)
            ]
            size = sum(file.stat().st_size for each in folders for file in each.iterdir())
            loaded = [_Loaded(each) for each in folders]
        taken = _interleaved(
            {"sum": partial(_ours, loaded, rank=None), "cut": partial(_ours, loaded, rank=rank)}, options.runs
        )
        whole, cut = (statistics.median(taken[name]) for name in ("sum", "cut"))
        print(
            f"{layers:8}{count:10}{rank:6}{size / 1e6:8.0f}{whole:10.3f}{cut:14.3f}{whole / size * 1e9:12.2f}",
            flush=True,
        )


def _plain(folder: Path, how: str) -> None:
    """Read all, write as many bytes as the sum or the truncation has: what any composition has to do."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    read = [load_file(folder / f"a{number}" / "adapter_model.safetensors") for number in range(ADAPTERS)]
    copies = [{name: tensor.clone() for name, tensor in each.items()} for each in read]
    kept = copies if how == "all" else copies[:1]
    out = folder / "out.safetensors"
    save_file({f"{n}.{name}": t for n, each in enumerate(kept) for name, t in each.items()}, out)
    with out.open("rb") as file:
        os.fsync(file.fileno())


def _file_to_file(folder: Path, how: str) -> None:
    import torch

    from registry import evaluate, methods, peft_format, recipe

    torch.set_num_threads(1)
    opened = [
        peft_format.open_files(folder / f"a{n}" / peft_format.CONFIG, folder / f"a{n}" / peft_format.TENSORS)
        for n in range(ADAPTERS)
    ]
    readers = {f"sha256:{number}": adapter for number, adapter in enumerate(opened)}
    whole = recipe.linear([(Decimal("0.25"), recipe.Input(digest=digest)) for digest in readers])
    if how == "truncated":
        parameters = methods.build("truncate", {"rank": RANK}).explicit()
        call = recipe.Call(method="truncate", algorithm=1, parameters=parameters, arguments=(whole,))
        whole = recipe.linear([(Decimal(1), call)])
    made = recipe.Recipe(kind="lora", algorithm=1, dtype="float32", expression=whole)
    computation = evaluate.prepare(made, readers, device=torch.device("cpu"))
    peft_format.write(
        folder / "out",
        kind="lora",
        modules=computation,
        names=computation.modules,
        dtype="float32",
        base_model=opened[0].base_model,
        inputs_config=[adapter.config for adapter in opened],
    )


def _main(case: str, folder: str, option: str) -> None:
    if case == "make":
        for number in range(ADAPTERS):
            _llama.write_adapter(Path(folder) / f"a{number}", layers=int(option), rank=RANK, seed=number)
    else:
        {"plain": _plain, "files": _file_to_file}[case](Path(folder), option)


if __name__ == "__main__":
    _main(*sys.argv[1:])
