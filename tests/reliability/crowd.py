"""Many processes that do anything at once to one catalog; what each is refused is counted, what holds is seen after."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from registry import Registry
from registry.errors import Conflict, NotFound, Refused, RegistryError
from registry.verbs.gc import gc
from tests.adapters import make_lora
from tests.reliability.invariants import broken, leftovers

PROJECT = Path(__file__).parents[2]
SMALL = {"model.layers.0.self_attn.q_proj": (16, 16)}
SOURCES = 6
LINES = ("a", "b", "c")
MADE = ("mix", "sum")
EXPECTED = (Conflict, NotFound, Refused)
"""What others may have brought about: the version is gone, the alias moved, a parent was revoked."""


@dataclass(frozen=True)
class Crowd:
    """How often each operation was done, what was refused, and what must not be."""

    done: Counter[str]
    refused: Counter[str]
    findings: tuple[str, ...]


class Worker:
    """One process: random operations, the same ones for the same seed."""

    def __init__(self, catalog: Registry, folder: Path, seed: int) -> None:
        self._catalog = catalog
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 (any choice will do)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.findings: list[str] = []

    def work(self, operations: int) -> None:
        choices = [
            (6, self.add), (6, self.compose), (5, self.alias), (4, self.tag), (3, self.evaluate), (2, self.note),
            (2, self.delete), (2, self.checkout), (2, self.look), (1, self.collect), (1, self.revoke), (1, self.rebuild),
        ]  # fmt: skip
        names = [function for weight, function in choices for _ in range(weight)]
        for turn in range(operations):
            chosen = self._chance.choice(names)
            try:
                chosen(turn)
                self.done[chosen.__name__] += 1
            except EXPECTED as error:
                self.refused[f"{chosen.__name__}: {type(error).__name__}"] += 1
            except (RegistryError, Exception):  # noqa: BLE001 (each is a finding)
                self.findings.append(f"{chosen.__name__}: {traceback.format_exc()[-1500:]}")

    def _line(self) -> str:
        return self._chance.choice(LINES)

    def _any(self) -> str:
        return self._chance.choice(LINES + MADE)

    def add(self, _: int) -> None:
        source = self._folder / f"source{self._chance.randrange(SOURCES)}"
        self._catalog.add(source, self._line(), tags={"by": str(self._seed)})

    def compose(self, turn: int) -> None:
        weight = f"0.{self._chance.randrange(1, 10)}"
        one, other = self._any(), self._line()
        name = self._chance.choice([*MADE, f"own{self._seed}-{turn % 5}"])
        self._catalog.compose(name, f"{weight}*{one} + {other}", device="cpu")

    def alias(self, _: int) -> None:
        name = self._any()
        version = self._chance.randrange(1, 6)
        there = {each.alias: int(each.ref.rpartition("@")[2]) for each in self._catalog.aliases(name)}
        expect = there.get("prod", "none") if self._chance.random() < 0.5 else None
        self._catalog.set_alias(name, "prod", version, expect=expect)  # type: ignore[arg-type]

    def tag(self, turn: int) -> None:
        self._catalog.set_tags(self._any(), {"turn": f"{self._seed}.{turn}"})

    def evaluate(self, turn: int) -> None:
        self._catalog.add_evaluation(self._any(), "accuracy", turn / 1000, dataset=f"d{self._seed}")

    def note(self, turn: int) -> None:
        self._catalog.set_note(self._any(), f"note {turn} of {self._seed}")

    def delete(self, _: int) -> None:
        self._catalog.delete(f"{self._any()}@{self._chance.randrange(1, 9)}")

    def checkout(self, turn: int) -> None:
        target = self._folder / f"out{self._seed}-{turn}"
        self._catalog.checkout(self._any(), target)
        assert {path.name for path in target.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }

    def look(self, _: int) -> None:
        page = self._catalog.list(latest=False, limit=20)
        for version in page.versions:
            assert version.version >= 1
        self._catalog.lineage(self._any())
        self._catalog.events(limit=5)

    def collect(self, _: int) -> None:
        grace = timedelta(0) if self._chance.random() < 0.5 else timedelta(hours=1)
        gc(self._catalog._database, self._catalog._blobs, apply=True, actor="sweeper", grace=grace)

    def revoke(self, _: int) -> None:
        ref = f"{self._line()}@{self._chance.randrange(1, 4)}"
        self._catalog.revoke(ref, "because")
        self._catalog.unrevoke(ref)

    def rebuild(self, _: int) -> None:
        self._catalog.rebuild(device="cpu")


def furnish(folder: Path, url: str) -> None:
    for seed in range(SOURCES):
        make_lora(folder / f"source{seed}", modules=SMALL, seed=seed)
    with Registry.open(folder / "home", database_url=url) as catalog:
        for place, name in enumerate(LINES):
            catalog.add(folder / f"source{place}", name)
        for name in MADE:
            catalog.compose(name, "a + b", device="cpu")


def crowd(folder: Path, url: str, *, processes: int, operations: int, seed: int = 0) -> Crowd:
    """Let the processes loose, wait for them, and see what holds."""
    furnish(folder, url)
    command = [sys.executable, "-m", "tests.reliability.crowd", str(folder), url, str(operations)]
    running = [
        subprocess.Popen(
            [*command, str(seed * 1000 + number)],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "REGISTRY_ACTOR": f"worker {number}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    findings: list[str] = []
    for process in running:
        said, _ = process.communicate()
        if process.returncode:
            findings.append(f"a process ended with {process.returncode}")
            continue
        told = json.loads(said)
        done.update(told["done"])
        refused.update(told["refused"])
        findings += told["findings"]
    findings += broken(folder, url)
    findings += [f"afterwards, {finding}" for finding in [*leftovers(folder, url), *broken(folder, url)]]
    return Crowd(done, refused, tuple(findings))


def main(arguments: list[str]) -> None:
    folder, url, operations, seed = Path(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3])
    with Registry.open(folder / "home", database_url=url) as catalog:
        worker = Worker(catalog, folder, seed)
        worker.work(operations)
    print(json.dumps({"done": worker.done, "refused": worker.refused, "findings": worker.findings}))


if __name__ == "__main__":
    main(sys.argv[1:])
