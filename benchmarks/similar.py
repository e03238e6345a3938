"""Searching a catalog of 7B adapters (q and v of 32 layers, rank 16) for what is like one of them.

A few adapters are real: some share a part of their change with the one that is asked about, in decreasing amounts, and lie
in the catalog with their bytes. The others have a row and a sketch: of ``--sketched`` of them it is made of factors that are
drawn on the spot, of the rest its numbers are drawn, which the search cannot tell. The adapters themselves would take 33 GB.

Beside it, in memory and without reading a file: the cosine of one pair from dense ΔW (PEFT's ``get_delta_weight``), and from the
factors without sketches, as often as there are pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from registry import Registry, deltas, sketch
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


def run(arguments: list[str]) -> None:
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks similar")
    parser.add_argument("--versions", type=int, default=1000, help="in the catalog (default: 1000)")
    parser.add_argument("--sketched", type=int, default=20, help="made of factors (default: 20)")
    parser.add_argument("--runs", type=int, default=3, help="of each search (default: 3)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(
        f"{len(NAMES)} modules of {HIDDEN}x{HIDDEN}, rank {RANK}, float32; one thread, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        url = f"sqlite:///{folder}/home/registry.db"
        with Registry.open(folder / "home", database_url=url) as catalog:
            adding = []
            for seed in range(len(SHARES) + 1):
                source = _write(folder / "source" / str(seed), seed)
                started = _now()
                catalog.add(source, f"real{seed}")
                adding.append(_since(started))
                shutil.rmtree(source)
            _say("registry add of one", adding)
            started = _now()
            made = catalog.sketch().made
            _say("sketching one, with reading its files", [tuple(each / made for each in _since(started))])
            _fill(open_database(url), options.versions - len(SHARES) - 1, options.sketched)
            _searches(catalog, options.runs)
    _peers(options.versions - 1, options.runs)


def _searches(catalog: Registry, runs: int) -> None:
    found: Any = None
    for what, exact in (("from sketches alone", False), ("the best exactly", None)):
        taken = []
        for _ in range(runs):
            started = _now()
            found = catalog.similar("real0", exact=exact)
            taken.append(_since(started))
        _say(f"similar among {found.compared}, {what}", taken)
    print("  " + ", ".join(f"{each.ref} {each.cosine:.4f}" for each in found.versions))
    taken = []
    for _ in range(runs):
        started = _now()
        groups = catalog.duplicates().groups
        taken.append(_since(started))
    _say(f"duplicates: {len(groups)} groups", taken)


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


def _peers(pairs: int, runs: int) -> None:
    one, other = list(_factors(1)), list(_factors(2))

    def in_factors() -> float:
        return sum(deltas.inner(a, b) for (_, a), (_, b) in zip(one, other, strict=True))

    def dense() -> float:
        return sum(
            float(_delta_weight(a).flatten() @ _delta_weight(b).flatten())
            for (_, a), (_, b) in zip(one, other, strict=True)
        )

    for what, case, times in (("the factors, no sketches", in_factors, runs), ("dense ΔW", dense, 1)):
        taken = []
        for _ in range(times):
            started = _now()
            case()
            taken.append(_since(started))
        _say(f"the inner product of one pair, {what}", taken)
        print(
            f"  for {pairs} pairs: {pairs * statistics.median(cpu for _, cpu in taken):.0f} s of processor time"
        )


def _delta_weight(delta: LowRank) -> Any:
    """As PEFT's ``get_delta_weight`` does: one product in float32."""
    return (delta.up @ delta.down) * delta.scale


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
