"""Many processes that do anything at once to one catalog; what each is refused is counted, what holds is seen after."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from safetensors.torch import save_file

from registry import Registry
from registry.catalog.database import Contended
from registry.errors import Conflict, NotFound, Refused
from registry.testing.hub import HubServer
from registry.verbs._content import Swept
from registry.verbs.gc import GRACE, gc
from tests import hubs
from tests.adapters import make_lora
from tests.reliability.invariants import broken, leftovers
from tests.reliability.servers import emptied

PROJECT = Path(__file__).parents[2]
Q = "model.layers.0.self_attn.q_proj"
SMALL = {Q: (32, 32)}
SOURCES = 6
LINES = ("a", "b", "c")
MADE = ("mix", "sum")
ALIASES = ("prod", "Next")


@dataclass(frozen=True)
class Crowd:
    """How often each operation was done, refused, and begun again; and what must not be."""

    done: Counter[str]
    refused: Counter[str]
    retried: Counter[str]
    findings: tuple[str, ...]

    def counts(self) -> Counter[str]:
        """One table of it, for those who add up."""
        told = Counter({f"done {name}": count for name, count in self.done.items()})
        told += Counter({f"refused {name}": count for name, count in self.refused.items()})
        told += Counter({f"retried {name}": count for name, count in self.retried.items()})
        told["operations"] = self.done.total() + self.refused.total()
        told["findings"] = len(self.findings)
        return told


class Worker:
    """One process: random operations, the same ones for the same seed."""

    def __init__(self, catalog: Registry, folder: Path, url: str, seed: int) -> None:
        self._catalog = catalog
        self._folder = folder
        self._url = url
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 (any choice will do)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.findings: list[str] = []

    def work(self, operations: int) -> None:
        names = [name for name, (weight, _) in CHOICES.items() for _ in range(weight)]
        for turn in range(operations):
            chosen = self._chance.choice(names)
            try:
                getattr(self, chosen)(turn)
                self.done[chosen] += 1
            except CHOICES[chosen][1] as error:
                self.refused[f"{chosen}: {type(error).__name__}"] += 1
            except Exception:  # noqa: BLE001 (each is a finding)
                self.findings.append(
                    f"seed {self._seed}, turn {turn}, {chosen}: {traceback.format_exc()[-2500:]}"
                )
                self.refused[f"{chosen}: finding"] += 1

    def _line(self) -> str:
        return self._chance.choice(LINES)

    def _any(self) -> str:
        return self._chance.choice(LINES + MADE)

    def _some(self) -> str:
        """A version that may be there, by number, by alias, or the latest."""
        suffix = ("", "", f"@{self._chance.randrange(1, 9)}", f"@{self._chance.choice(ALIASES)}")
        return self._any() + self._chance.choice(suffix)

    def _new(self, turn: int, what: str) -> Path:
        return self._folder / "out" / f"{what}-{self._seed}-{turn}"

    def add(self, _: int) -> None:
        source = self._folder / f"source{self._chance.randrange(SOURCES)}"
        self._catalog.add(source, self._line(), tags={"by": str(self._seed)})

    def add_all(self, _: int) -> None:
        found = self._catalog.add_all(self._folder / f"many{self._chance.randrange(2)}", prefix="team")
        assert found.refused == 0, found

    def compose(self, turn: int) -> None:
        weight = f"0.{self._chance.randrange(1, 10)}"
        one, other = self._any(), self._line()
        name = self._chance.choice([*MADE, f"own{self._seed}-{turn % 5}"])
        self._catalog.compose(name, f"{weight}*{one} + {other}", device="cpu")

    def alias(self, _: int) -> None:
        name, alias = self._any(), self._chance.choice(ALIASES)
        there = {each.alias: int(each.ref.rpartition("@")[2]) for each in self._catalog.aliases(name)}
        expect = there.get(alias, "none") if self._chance.random() < 0.5 else None
        moved = self._catalog.set_alias(
            name,
            alias,
            self._chance.randrange(1, 6),
            expect=expect,  # type: ignore[arg-type]
            protect=self._chance.random() < 0.1,
        )
        assert not moved.moved or expect is None or moved.previous == there.get(alias), moved

    def unalias(self, _: int) -> None:
        name, alias = self._any(), self._chance.choice(ALIASES)
        if self._chance.random() < 0.3:
            self._catalog.protect_alias(name, alias, protected=self._chance.random() < 0.5)
        else:
            self._catalog.delete_alias(name, alias)

    def tag(self, turn: int) -> None:
        if self._chance.random() < 0.2:
            self._catalog.delete_tags(self._some(), ["turn"])
        else:
            self._catalog.set_tags(self._some(), {"turn": f"{self._seed}.{turn}", "of": "all"})

    def evaluate(self, turn: int) -> None:
        dataset = f"d{self._chance.randrange(2)}"
        self._catalog.add_evaluation(self._some(), "accuracy", turn / 1000, dataset=dataset)

    def note(self, turn: int) -> None:
        self._catalog.set_note(self._some(), f"note {turn} of {self._seed}")

    def delete(self, _: int) -> None:
        self._catalog.delete(f"{self._any()}@{self._chance.randrange(1, 9)}")

    def checkout(self, turn: int) -> None:
        target = self._new(turn, "checkout")
        self._catalog.checkout(self._some(), target)
        assert {path.name for path in target.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }

    def materialize(self, _: int) -> None:
        ref = self._some()
        if self._chance.random() < 0.5:
            self._catalog.materialize(ref, into="adapter")
        else:
            made = self._catalog.materialize(ref, into="model", base_path=self._folder / "base", device="cpu")
            assert not made.differs, made

    def look(self, _: int) -> None:
        page = self._catalog.list(latest=False, limit=20)
        for version in page.versions:
            assert version.version >= 1
        self._catalog.lineage(self._some())
        self._catalog.events(limit=5)
        self._catalog.stale()

    def verify(self, _: int) -> None:
        wanted = [self._some()] if self._chance.random() < 0.7 else []
        bad = [f"{each.ref}: {each.problems}" for each in self._catalog.verify(wanted) if not each.ok]
        assert not bad, bad

    def collect(self, _: int) -> None:
        grace = timedelta(0) if self._chance.random() < 0.5 else GRACE
        gc(self._catalog._database, self._catalog._blobs, apply=True, actor="sweeper", grace=grace)

    def revoke(self, _: int) -> None:
        ref = f"{self._line()}@{self._chance.randrange(1, 4)}"
        self._catalog.revoke(ref, f"because of {self._chance.randrange(2)}")
        self._catalog.unrevoke(ref)

    def compare(self, _: int) -> None:
        self._catalog.diff(self._some(), self._some())
        self._catalog.check(f"0.5*{self._some()} + {self._line()}")

    def rebuild(self, _: int) -> None:
        for each in self._catalog.rebuild(device="cpu"):
            assert each.state != "failed" or each.reason, each

    def export(self, turn: int) -> None:
        self._catalog.export(self._new(turn, "export"))

    def bring(self, _: int) -> None:
        """A bundle from elsewhere, or what somebody here exported a while ago."""
        exported = sorted((self._folder / "out").glob("export-*"))
        chosen = self._chance.choice([self._folder / "other.tar", *exported])
        told = self._catalog.import_bundle(chosen)
        assert not told.missing, told

    def backup(self, turn: int) -> None:
        """One moment of the catalog, whole, whatever the others do meanwhile."""
        file = self._new(turn, "backup")
        made = Registry.backup(file, self._folder / "home", database_url=self._url)
        assert Registry.check_backup(file).digest == made.digest
        file.unlink()

    def similar(self, _: int) -> None:
        ref = self._some()
        found = self._catalog.similar(ref, versions=self._chance.random() < 0.5)
        assert all(-1.001 < each.cosine < 1.001 for each in found.versions), found

    def sweep(self, turn: int) -> None:
        name = self._chance.choice(["swept", f"swept{self._seed}"])
        swept = self._catalog.sweep(
            name, f"{self._line()} - {{w}}*{self._line()}", over={"w": f"0,0.{turn % 3 + 1}"}, metric="loss", minimize=True,
            evaluate=lambda _, values: {"loss": 1 - float(values["w"])}, evaluator="crowd", device="cpu",
        )  # fmt: skip
        assert (swept.state, swept.failed) == ("done", 0), swept

    def publish(self, _: int) -> None:
        """All to few repos of one Hub; after it, what is recorded of each is what is there."""
        self._catalog.publish(self._some(), f"team/{self._chance.choice(LINES)}", license="mit")

    def rule(self, _: int) -> None:
        if self._chance.random() < 0.5:
            self._catalog.add_rule(self._line(), "team/{name}", alias=self._chance.choice(ALIASES))
        else:
            self._catalog.delete_rule(self._chance.randrange(1, 20))


GONE = (NotFound, Conflict)
"""What others bring about: the version is gone, or the alias or the line has moved."""
CHOICES: Mapping[str, tuple[int, tuple[type[Exception], ...]]] = {
    "add": (12, ()),
    "add_all": (2, ()),
    "compose": (12, (*GONE, Refused)),
    "alias": (10, (*GONE, Refused)),
    "unalias": (3, GONE),
    "tag": (8, (NotFound,)),
    "evaluate": (6, (NotFound,)),
    "note": (4, (NotFound,)),
    "delete": (4, GONE),
    "checkout": (4, (NotFound,)),
    "materialize": (4, (NotFound,)),
    "compare": (2, (NotFound, Refused)),
    "look": (4, (NotFound,)),
    "verify": (2, (NotFound,)),
    "collect": (2, ()),
    "revoke": (2, GONE),
    "rebuild": (2, ()),
    "export": (1, ()),
    "bring": (1, (Conflict,)),
    "rule": (2, GONE),
    "backup": (1, ()),
    "similar": (2, (NotFound,)),
    "sweep": (2, (*GONE, Refused)),
    "publish": (3, (*GONE, Refused)),
}
"""Every operation: how often, beside the others, and the errors that are right for it."""


def furnish(folder: Path, url: str) -> None:
    (folder / "out").mkdir()
    _base(folder / "base")
    for seed in range(SOURCES):
        make_lora(folder / f"source{seed}", modules=SMALL, seed=seed)
    for seed in range(6):
        make_lora(folder / f"many{seed % 2}" / f"one{seed % 3}", modules=SMALL, seed=seed + 10)
    with Registry.open(folder / "elsewhere", database_url=f"sqlite:///{folder}/elsewhere.db") as other:
        other.add(make_lora(folder / "theirs", modules=SMALL, seed=9), "theirs")
        other.compose("far", "0.5*theirs", device="cpu")
        other.export(folder / "other.tar")
    with Registry.open(folder / "home", database_url=url) as catalog:
        for place, name in enumerate(LINES):
            catalog.add(folder / f"source{place}", name)
        for name in MADE:
            catalog.compose(name, "a + b", device="cpu")


def _base(folder: Path) -> None:
    """A base model of two tensors."""
    folder.mkdir()
    weights = {f"{Q}.weight": torch.eye(32), "model.embed_tokens.weight": torch.ones(8, 32)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')


def crowd(folder: Path, url: str, *, processes: int, operations: int, seed: int = 0) -> Crowd:
    """Let the processes loose, wait for them, and see what holds."""
    furnish(folder, url)
    command = [sys.executable, "-m", "tests.reliability.crowd", str(folder), url, str(operations)]
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    retried: Counter[str] = Counter()
    findings: list[str] = []
    with HubServer(folder / "hub", xet=False, tokens=hubs.TOKENS) as hub:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hubs.OWNER,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        running = [
            subprocess.Popen(
                [*command, str(seed * 1000 + number)],
                cwd=PROJECT,
                env={**environment, "REGISTRY_ACTOR": f"worker {number}"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        for process in running:
            said, _ = process.communicate()
            if process.returncode:
                findings.append(f"seed {seed}: a process ended with {process.returncode}")
                continue
            told = json.loads(said)
            done.update(told["done"])
            refused.update(told["refused"])
            retried.update(told["retried"])
            findings += told["findings"]
        after = broken(folder, url, hub)
        after += [
            f"after a collection, {finding}" for finding in [*leftovers(folder, url), *broken(folder, url)]
        ]
    findings += [f"seed {seed}: {finding}" for finding in after]
    return Crowd(done, refused, retried, tuple(findings))


def full(seed: int = 0, processes: int = 8, operations: int = 500, database: str = "sqlite") -> Counter[str]:
    """The crowd on a fresh "sqlite" or "postgresql" database; prints what it finds, and returns the counts."""
    with emptied(database) as (folder, url):
        found = crowd(folder, url, processes=processes, operations=operations, seed=seed)
    for finding in found.findings:
        print(f"{database} crowd {finding}", flush=True)
    return found.counts()


def _counted(kind: type[Exception], name: str, counts: Counter[str]) -> None:
    """Count how often the program meets this error, which it answers by beginning again."""
    made: Callable[..., None] = kind.__init__

    def init(self: Exception, *arguments: object, **named: object) -> None:
        counts[name] += 1
        made(self, *arguments, **named)

    kind.__init__ = init  # type: ignore[method-assign, assignment]


def main(arguments: list[str]) -> None:
    folder, url, operations, seed = Path(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3])
    retried: Counter[str] = Counter()
    _counted(Contended, "contended", retried)
    _counted(Swept, "swept", retried)
    with Registry.open(folder / "home", database_url=url) as catalog:
        worker = Worker(catalog, folder, url, seed)
        worker.work(operations)
    told = {"done": worker.done, "refused": worker.refused, "retried": retried, "findings": worker.findings}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
