"""A sweep over two adapters of Llama-7B's shapes, beside writing as many adapters of the same bytes.

    python -m benchmarks sweep [--layers N] [--points N] [--rounds N]

``written`` is a file per point with safetensors, its SHA-256 and an fsync, of tensors that are in memory. ``sweep``
computes each point, stores it and hands it to a function that measures nothing; ``again`` is the same sweep once more.
Rounds are interleaved, each in a folder of its own. Beside the seconds stand those of the processor, of all threads: on a
machine that is busy with other things they tell more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import _llama
from registry import Registry, peft_format

RANK = 16
Seconds = tuple[float, float]
"""By the clock, and of the processor."""


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep")
    parser.add_argument("--layers", type=int, default=32, help="of the model (default: 32)")
    parser.add_argument("--points", type=int, default=101, help="of the sweep (default: 101)")
    parser.add_argument("--rounds", type=int, default=3, help="of both (default: 3)")
    options = parser.parse_args(arguments)
    taken: dict[str, list[Seconds]] = {"written": [], "sweep": [], "again": []}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            _round(Path(folder), options.layers, options.points, taken)
        said = [f"{name} {wall:.2f} s ({busy:.2f} s)" for name, [*_, (wall, busy)] in taken.items()]
        print(f"round {number + 1}: {', '.join(said)}")
    wall, busy = (
        statistics.median(
            sweep[place] / written[place]
            for sweep, written in zip(taken["sweep"], taken["written"], strict=True)
        )
        for place in (0, 1)
    )
    again = statistics.median(wall for wall, _ in taken["again"])
    print(f"sweep / written: {wall:.2f} ({busy:.2f} of the processor); again: {again:.2f} s")


def _round(folder: Path, layers: int, points: int, taken: dict[str, list[Seconds]]) -> None:
    from safetensors.torch import load_file

    over = {"w": f"0:1:{1 / (points - 1):.10g}"}
    with Registry.open(folder / "home") as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(_llama.write_adapter(folder / name, layers=layers, rank=RANK, seed=seed), name)
        done = catalog.compose("one", "a - 0.123*b", device="cpu")
        catalog.checkout(done.ref, folder / "one")
        tensors = load_file(folder / "one" / peft_format.TENSORS)

        def sweep() -> None:
            catalog.sweep(
                "best", "a - {w}*b", over=over, evaluate=lambda _path, values: {"loss": float(values["w"])},
                evaluator="nothing", metric="loss:max", device="cpu",
            )  # fmt: skip

        taken["written"].append(_timed(lambda: _written(folder / "written", tensors, points)))
        shutil.rmtree(folder / "written")
        taken["sweep"].append(_timed(sweep))
        taken["again"].append(_timed(sweep))


def _written(folder: Path, tensors: dict[str, object], points: int) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    for number in range(points):
        file = folder / f"{number}.safetensors"
        save_file(tensors, file)
        with file.open("rb") as opened:
            hashlib.file_digest(opened, "sha256").hexdigest()
            os.fsync(opened.fileno())


def _timed(work: Callable[[], None]) -> Seconds:
    started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started[0], time.process_time() - started[1]
