"""Searching a catalog of 7B adapters (q and v of 32 layers, rank 16) for what is like one of them.

A few adapters are real: some share a part of their change with the one that is asked about, in decreasing amounts, and lie
in the catalog with their bytes. The others have a row and a sketch: of ``--sketched`` of them it is made of factors that are
drawn on the spot, of the rest its numbers are drawn, which the search cannot tell. The adapters themselves would take 33 GB.

Some of the real ones are there a second time, scaled, for ``--duplicates`` to find.

Beside it what one does without sketches, for each pair: load both files and take the cosine from dense ΔW by PEFT's
``get_delta_weight``, from dense ΔW by PyTorch, and from the factors by PyTorch. Their times are measured on a few pairs and
multiplied by the number of pairs, and their cosines are compared with what the search said.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from registry import Registry, sketch
from registry.catalog import sketches, versions
from registry.catalog.artifacts import Content, File
from registry.catalog.database import Database, open_database
from registry.catalog.tables import ArtifactFileRow, BlobRow
from registry.catalog.versions import Draft
from registry.deltas import LowRank
from registry.digest import of_bytes
from registry.results import BaseModelIdentity
from registry.sketch import SIZE, Sketch

LAYERS, HIDDEN, RANK = 32, 4096, 16
BASE = "benchmark/llama-7b"
NAMES = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(LAYERS) for part in "qv"]
SHARES = [0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35]
"""The cosines with the first of the real adapters, about."""
TWICE = (0, 3, 6)
"""The real adapters that are there a second time."""


def run(arguments: list[str]) -> None:
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks similar")
    parser.add_argument("--versions", type=int, default=1000, help="in the catalog (default: 1000)")
    parser.add_argument("--sketched", type=int, default=20, help="made of factors (default: 20)")
    parser.add_argument("--runs", type=int, default=3, help="of each search (default: 3)")
    parser.add_argument("--pairs", type=int, default=2, help="that the peers compare (default: 2)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(
        f"{len(NAMES)} modules of {HIDDEN}x{HIDDEN}, rank {RANK}, float32; one thread, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        home, url = folder / "home", f"sqlite:///{folder}/home/registry.db"
        sources = []
        with Registry.open(home, database_url=url) as catalog:
            adding = []
            for seed in range(len(SHARES) + 1):
                source = _write(folder / "source" / str(seed), seed)
                started = _now()
                catalog.add(source, f"real{seed}")
                adding.append(_since(started))
                if seed <= options.pairs:
                    sources.append(source)
                else:
                    shutil.rmtree(source)
            _say("registry add of one", adding)
            for seed in TWICE:
                catalog.compose(f"twice{seed}", f"{(seed + 1) / 8}*real{seed}")
            started = _now()
            made = catalog.sketch().made
            _say("sketching one, with reading its files", [tuple(each / made for each in _since(started))])
            real = len(SHARES) + 1 + len(TWICE)
            _fill(open_database(url), options.versions - real, options.sketched)
            search, found = _searches(catalog, options.runs)
            _duplicates(catalog, options.runs)
        _processes(home, url, options.runs)
        _peers(sources, found, search, options.versions - 1)


def _searches(catalog: Registry, runs: int) -> tuple[float, dict[str, float]]:
    """Processor seconds of the search whose best are exact, and the cosines that it found."""
    found: Any = None
    taken: dict[bool | None, list[tuple[float, ...]]] = {False: [], None: []}
    for _ in range(runs):
        for exact, times in taken.items():
            started = _now()
            found = catalog.similar("real0", exact=exact)
            times.append(_since(started))
    _say(f"similar among {found.compared}, from sketches alone", taken[False])
    exactly = sum(each.exact for each in found.versions)
    computed = list[int]()
    catalog.similar(
        "real0", progress=lambda what, done, _: computed.append(done) if what == "comparing" else None
    )
    _say(f"similar among {found.compared}, the best exactly", taken[None])
    print("  " + ", ".join(f"{each.ref} {each.cosine:.4f}" for each in found.versions))
    print(f"  {exactly} of {len(found.versions)} shown are exact, {len(computed)} were computed")
    return _processor(taken[None]), {each.ref: each.cosine for each in found.versions}


def _duplicates(catalog: Registry, runs: int) -> None:
    taken = []
    for _ in range(runs):
        started = _now()
        found = catalog.duplicates()
        taken.append(_since(started))
    _say(f"duplicates among {found.compared}", taken)
    told = {group.ref: [each.ref for each in group.versions] for group in found.groups}
    if told != {f"real{seed}@1": [f"twice{seed}@1"] for seed in TWICE}:
        raise SystemExit(f"other duplicates than there are: {told}")
    print(f"  {len(told)} groups, as there should be")


def _processes(home: Path, url: str, runs: int) -> None:
    """The same from a shell, with the start of Python."""
    environment = {**os.environ, "REGISTRY_HOME": str(home), "REGISTRY_DATABASE_URL": url}
    environment["OMP_NUM_THREADS"] = "1"
    asked = (["real0", "--estimated"], ["real0"], ["--duplicates"])
    taken: dict[str, list[tuple[float, ...]]] = {" ".join(words): [] for words in asked}
    for _ in range(runs):
        for words in asked:
            started, before = time.perf_counter(), _children()
            subprocess.run(
                [sys.executable, "-m", "registry", "similar", *words],
                env=environment,
                check=True,
                capture_output=True,
            )
            taken[" ".join(words)].append((time.perf_counter() - started, _children() - before))
    for what, times in taken.items():
        _say(f"registry similar {what}", times)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fill(database: Database, count: int, sketched: int) -> None:
    """Versions that share one blob, each with a content digest and a sketch of its own."""
    generator = np.random.default_rng(0)
    made, taken = {}, []
    for i in range(count):
        digest = of_bytes(f"drawn {i}".encode())
        if i < sketched:
            modules = list(_factors(1000 + i))
            started = _now()
            made[digest] = sketch.of(modules)
            taken.append(_since(started))
        else:
            direction = generator.standard_normal(SIZE) / np.sqrt(SIZE)
            made[digest] = Sketch(1.0, direction.astype(np.float16))
    if taken:
        _say("sketching one, factors in memory", taken)
    print(f"  a sketch has {len(next(iter(made.values())).to_bytes())} bytes")
    with database.write() as session:
        statement = select(ArtifactFileRow.path, BlobRow.digest, BlobRow.size)
        rows = session.execute(statement.join(BlobRow, BlobRow.digest == ArtifactFileRow.blob_digest))
        files = {row.path: File(row.digest, row.size) for row in rows}
        size = 2 * len(NAMES) * RANK * HIDDEN
        for i, digest in enumerate(made):
            content = Content(digest, "adapter", "lora", RANK, size, len(NAMES), "float32", 4 * size, files)
            identity = BaseModelIdentity(repo=BASE)
            versions.write(
                session, Draft(name=f"drawn{i}", content=content, base_model=identity, actor="benchmark")
            )
        session.flush()
        sketches.save(session, made)


def _peers(sources: Sequence[Path], found: Mapping[str, float], search: float, pairs: int) -> None:
    """Each pair from its files, one peer after the other; PEFT has its model, with the first adapter, before."""
    cases: dict[str, Callable[[Path, Path], float]] = {
        "PyTorch, dense ΔW": _dense,
        "PyTorch, factors": _in_factors,
    }
    if importlib.util.find_spec("peft"):
        model = _in_peft(sources[0])
        cases["PEFT, get_delta_weight"] = lambda _, other: _by_peft(model, other)
    else:
        print("peft is not installed: left out")
    taken: dict[str, list[tuple[float, ...]]] = {what: [] for what in cases}
    off = dict.fromkeys(cases, 0.0)
    for number, other in enumerate(sources[1:], 1):
        for what, cosine in cases.items():
            started = _now()
            said = cosine(sources[0], other)
            taken[what].append(_since(started))
            off[what] = max(off[what], abs(said - found[f"real{number}@1"]))
    for what, times in taken.items():
        _say(f"one pair from its files: {what}", times)
        whole = pairs * _processor(times)
        print(
            f"  for {pairs} pairs, extrapolated: {whole:.0f} s of processor time, {whole / search:.0f} x the search; "
            f"cosines up to {off[what]:.0e} from those of the search"
        )


def _in_peft(one: Path) -> Any:
    """A model that carries an adapter; its own weights, which are not asked for, are one number."""
    import torch
    from peft import PeftModel
    from torch import nn

    base = nn.Module()
    for name in NAMES:
        *parents, last = name.split(".")
        inner = base
        for parent in parents:
            if not hasattr(inner, parent):
                inner.add_module(parent, nn.Module())
            inner = inner.get_submodule(parent)
        linear = nn.Linear(HIDDEN, HIDDEN, bias=False, device="meta")
        linear.weight = nn.Parameter(torch.zeros(1).expand(HIDDEN, HIDDEN), requires_grad=False)
        inner.add_module(last, linear)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model without a config has no name
        return PeftModel.from_pretrained(base, str(one), adapter_name="one", low_cpu_mem_usage=True)


def _by_peft(model: Any, other: Path) -> float:
    import torch
    from peft.tuners.lora import LoraLayer

    model.load_adapter(str(other), "other", low_cpu_mem_usage=True)
    layers = [each for each in model.modules() if isinstance(each, LoraLayer)]
    with torch.no_grad():
        found = _cosine(
            tuple(layer.get_delta_weight(which) for which in ("one", "other")) for layer in layers
        )
    model.delete_adapter("other")
    return found


def _dense(one: Path, other: Path) -> float:
    return _cosine(tuple(up @ down for up, down in pair) for pair in _loaded(one, other))


def _in_factors(one: Path, other: Path) -> float:
    """``⟨BA, B'A'⟩ = ⟨BᵀB', AA'ᵀ⟩``, in float32."""

    def inner(a: tuple[Any, Any], b: tuple[Any, Any]) -> float:
        return float(((a[0].T @ b[0]) * (a[1] @ b[1].T)).sum())

    products = [(inner(a, b), inner(a, a), inner(b, b)) for a, b in _loaded(one, other)]
    both, first, second = map(sum, zip(*products, strict=True))
    return both / (first * second) ** 0.5


def _cosine(modules: Iterator[tuple[Any, ...]]) -> float:
    both, first, second = 0.0, 0.0, 0.0
    for a, b in modules:
        both += float(a.flatten() @ b.flatten())
        first += float(a.flatten() @ a.flatten())
        second += float(b.flatten() @ b.flatten())
    return both / (first * second) ** 0.5


def _loaded(one: Path, other: Path) -> Iterator[tuple[tuple[Any, Any], ...]]:
    """B and A of each module, of both; their scale is 1."""
    from safetensors.torch import load_file

    files = [load_file(folder / "adapter_model.safetensors") for folder in (one, other)]
    for name in NAMES:
        keys = [f"base_model.model.{name}.lora_{part}.weight" for part in "BA"]
        yield tuple((file[keys[0]], file[keys[1]]) for file in files)


def _factors(seed: int) -> Iterator[tuple[str, LowRank]]:
    """Those of seed 0; of the seeds after it some with the same A and a share of the same B; of the others their own."""
    import torch

    share = 1.0 if seed == 0 else SHARES[seed - 1] if seed <= len(SHARES) else 0.0
    common, own = (torch.Generator().manual_seed(each) for each in (0, seed))
    for name in NAMES:
        (up, down), (new, other) = _drawn(common), _drawn(own)
        yield name, LowRank(share * up + (1 - share**2) ** 0.5 * new, down if share else other)


def _drawn(generator: Any) -> tuple[Any, Any]:
    import torch

    up, down = (0.02 * torch.randn(size, generator=generator) for size in ((HIDDEN, RANK), (RANK, HIDDEN)))
    return up, down


def _write(folder: Path, seed: int) -> Path:
    from safetensors.torch import save_file

    tensors = {}
    for name, delta in _factors(seed):
        tensors[f"base_model.model.{name}.lora_A.weight"] = delta.down
        tensors[f"base_model.model.{name}.lora_B.weight"] = delta.up
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _now() -> tuple[float, float]:
    """Wall clock and processor time."""
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> tuple[float, ...]:
    return tuple(now - before for now, before in zip(_now(), started, strict=True))


def _say(what: str, taken: Sequence[tuple[float, ...]]) -> None:
    wall, processor = zip(*taken, strict=True)
    print(
        f"{what:52} wall {statistics.median(wall):8.3f} ({min(wall):.3f}-{max(wall):.3f})  "
        f"processor {statistics.median(processor):8.3f}  n={len(taken)}",
        flush=True,
    )


def _processor(taken: Sequence[tuple[float, ...]]) -> float:
    return statistics.median(processor for _, processor in taken)
