"""A week in a team's life, through the public API alone, on both databases; what each day took.

``python -m benchmarks week [--adapters N] [--database sqlite|postgresql …]``. Adapters are tiny LoRA folders with contents
of their own. Whatever does not come out as it has to ends the week with what it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.catalog import databases
from registry import Registry
from registry.errors import Conflict, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

RANK, SIZE = 4, 16
MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj")
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "team/base",
    "r": RANK,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "inference_mode": True,
}
COMPOSITIONS = 40


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks week")
    parser.add_argument("--adapters", type=int, default=100_000)
    parser.add_argument(
        "--database", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"]
    )
    options = parser.parse_args(arguments)
    sizes = {"count": options.adapters, "compositions": COMPOSITIONS}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "adapters"
        began = time.perf_counter()
        write_adapters(source, options.adapters)
        print(f"{options.adapters:,} adapters written in {time.perf_counter() - began:.0f} s")
        for kind in options.database:
            with databases(kind) as (url, other), ExitStack() as stack:
                print(f"\n{kind}")
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                live(place, url, other.replace("+psycopg2", ""), source, **sizes)


def live(place: Path, url: str, other: str, source: Path, *, count: int, compositions: int) -> None:
    """The week, from an empty catalog at ``url`` to its copy at ``other``: at least 4 compositions of 9 adapters."""
    with Registry.open(place / "home", database_url=url, actor="ann") as catalog:
        with day("Monday: add all", count):
            report = catalog.add_all(source)
            same("added", report.added, count)
        with day("Monday: add all again", count):
            same("added again", catalog.add_all(source).added, 0)
        with day("Tuesday: compose", compositions):
            for i in range(compositions):
                catalog.compose(f"mix{i}", f"0.5*{name(2 * i)} - 0.25*{name(2 * i + 1)}", device="cpu")
                catalog.compose(f"top{i}", f"mix{i} + 0.1*{name(0)}", device="cpu")
        with day("Tuesday: promote", compositions):
            for i in range(compositions):
                catalog.set_alias(f"top{i}", "prod", 1, expect="none", protect=True)
            refused(Conflict, lambda: catalog.set_alias("top0", "prod", 1, expect=7))
        with day("Wednesday: evaluate and search", compositions):
            for i in range(compositions):
                catalog.add_evaluation(f"top{i}", "acc", i / compositions, dataset="held-out")
                catalog.set_tags(f"top{i}", {"quality": "good" if i % 2 else "poor"})
            good = catalog.list(filter="alias = 'prod' AND eval.acc >= 0.5 AND tag.quality = 'good'")
            same("good ones", len(good.versions), compositions // 4)
            same(
                "from the first",
                len(catalog.list(filter=f"ancestor = '{name(0)}'").versions),
                compositions + 1,
            )
            same("nothing stale", len(catalog.stale()), 0)
        with day("Thursday: an input gets better, rebuild", 1):
            write_adapter(place / "better", -1)
            catalog.add(place / "better", name(3))
            same("stale", [each.ref for each in catalog.stale()], ["mix1@1"])
            made = [each.made for each in catalog.rebuild()]
            same("rebuilt", made, ["mix1@2", "top1@2"])
            same("again", [each.made for each in catalog.rebuild() if each.made], [])
            catalog.set_alias("top1", "prod", 2, expect=1)
        with day("Friday: one input was bad", 1):
            revoked = catalog.revoke(f"{name(4)}@1", reason="licence withdrawn")
            same("affected", sorted(revoked.affected), ["mix2@1", "top2@1"])
            refused(Refused, lambda: catalog.publish("top2", "team/top2", dry_run=True))
            refused(Refused, lambda: catalog.compose("worse", f"{name(4)} + {name(5)}", device="cpu"))
            same("reached", len(catalog.impact(f"{name(4)}@1").derived.nodes), 3)
            same("marked", len(catalog.list(filter="affected = true").versions), 2)
        with day("Saturday: export with all bytes", count):
            first = catalog.export(place / "week.bundle")
        shown = {ref: catalog.show(ref) for ref in ("top1@prod", "mix2@1", name(7))}
    with Registry.open(place / "other", database_url=other, actor="ben") as copy:
        with day("Saturday: import elsewhere", count):
            same("complete", copy.import_bundle(place / "week.bundle").complete, True)
        with day("Sunday: export there", count):
            same("the same bundle", copy.export(place / "again.bundle").digest, first.digest)
        for ref, version in shown.items():
            same(ref, copy.show(ref), version)
        with day("Sunday: verify some, collect garbage", 1):
            same("whole", all(found.ok for found in copy.verify(["top1@prod", name(7)])), True)
            same("garbage", copy.gc(apply=True).blobs, ())


def name(i: int) -> str:
    return f"team{i % 20}/a{i}"


def write_adapters(folder: Path, count: int) -> None:
    """PEFT folders ``team{i % 20}/a{i}``, each with values of its own."""
    for i in range(count):
        write_adapter(folder / name(i), i)


def write_adapter(folder: Path, seed: int) -> None:
    drawn = iter(hashlib.shake_128(f"{seed}".encode()).digest(4 * RANK * SIZE))
    header: dict[str, Any] = {}
    values = array("f")
    for module in MODULES:
        for factor, shape in (("A", [RANK, SIZE]), ("B", [SIZE, RANK])):
            begin = 4 * len(values)
            values.extend((next(drawn) - 127.5) / 256 for _ in range(RANK * SIZE))
            offsets = [begin, 4 * len(values)]
            entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            header[f"base_model.model.{module}.lora_{factor}.weight"] = entry
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())


@contextmanager
def day(what: str, count: int) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    print(f"{what:45}{seconds:9.1f} s{count / seconds:12,.0f} a second", flush=True)


def same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


def refused(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise SystemExit(f"{error.__name__} was expected")


if __name__ == "__main__":
    import sys

    run(sys.argv[1:])
