"""Measure a setting: register its modules, compose them for each λ by the public API, evaluate what was written."""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from examples.paper import _precision, corpora, initialization, writing
from examples.paper._claims import operators
from examples.paper._rows import KINDS, TRAINED, Kind, Operator, Row, Setting, Split, folder
from registry import Registry
from registry.errors import RegistryError

MEASURED = Path(__file__).parent / "measured.json"
NUMBERS = {
    "distribution": 1,
    "multitask": 2,
    "unlearning": 3,
    "transfer": 4,
    "sentiment_transfer": 4,
    "detox": 5,
}
NAMES = tuple(NUMBERS)
LORA_ONLY = ("sentiment_transfer",)

Given = TypeVar("Given")
Result = TypeVar("Result")


def setting(name: str) -> Setting:
    return cast("Setting", importlib.import_module(f"examples.paper.{name}"))


def expression(template: str, operator: Operator | None, weight: str | None = None) -> str:
    """A setting's template with λ put in, as ``registry compose`` takes it."""
    if weight is not None:
        template = template.replace("{w}", weight).replace("{1-w}", f"{1 - Decimal(weight):f}")
    return f"factors({template})" if operator == "factors" else template


# --- one setting, kind and seed


@dataclass(frozen=True)
class Job:
    """What one process measures at a time: the grid on the validation split, or all at the chosen λ on the test."""

    setting: str
    kind: Kind
    seed: int
    chosen: Mapping[Operator, str] | None = None
    home: Path | None = None
    """A folder for the catalog to stay in; by default it is removed again."""
    modules: Path = TRAINED
    checking: bool = False
    """Whether figures are only put beside the kept ones, so that bfloat16 will do where the processor has it."""


def measure(job: Job) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        if job.home is not None:
            home = job.home / f"{job.setting}-{job.kind}-{job.seed}"
        with catalog(home) as opened:
            setting(job.setting).register(opened, job.seed, job.kind, job.modules)
            bench = Bench(job, opened, Path(scratch))
            return bench.curves() if job.chosen is None else bench.tables(job.chosen)


def catalog(home: Path) -> Registry:
    """A catalog of its own for each seed, so that a module's name is the same in all of them."""
    if not home.exists():
        shutil.copytree(_empty(), home)
    return Registry.open(home, actor="paper")


@cache
def _empty() -> Path:
    """An empty catalog, made once in a process, to be copied."""
    home = Path(tempfile.mkdtemp(prefix="paper-"))
    Registry.open(home, actor="paper").close()
    return home


class Bench:
    """A setting's modules in a catalog, and what is measured of them."""

    def __init__(self, job: Job, opened: Registry, scratch: Path) -> None:
        self._job, self._catalog, self._scratch = job, opened, scratch
        self._setting = setting(job.setting)
        self._found: dict[str, Mapping[str, float]] = {}

    def curves(self) -> list[Row]:
        """The base model and every λ, on the validation split: a sweep for each operator."""
        rows = [self._base("validation")]
        for operator in operators(self._job.kind):
            rows += self._swept(operator)
        return rows

    def _swept(self, operator: Operator) -> list[Row]:
        """No point becomes a version: λ is chosen by the mean over the seeds, see ``choose``."""
        found = self._catalog.sweep(
            f"composition-{operator}",
            expression(self._setting.COMPOSITION, operator),
            over={"w": self._setting.GRID},
            metric=[f"{each.name}:{'max' if each.higher else 'min'}" for each in self._setting.METRICS],
            evaluate=lambda path, _: self._evaluated(path, "validation"),
            evaluator=f"examples.paper.{self._job.setting}@{corpora.fingerprint()}",
            dataset=self._job.setting,
            split="validation",
            record=False,
            dtype="float32",
        )
        rows = []
        for point in found.points:
            if point.metrics is None:
                raise RegistryError(f"{point.expression} could not be measured: {point.error}")
            row = self._row("composition", "validation", operator, point.values["w"])
            rows.append(_rounded(row, point.metrics))
        return rows

    def tables(self, chosen: Mapping[Operator, str]) -> list[Row]:
        """The base model, the modules, the reference and the compositions, on the test split."""
        rows = [self._base("test")]
        for name in (*self._setting.MODULES, self._setting.REFERENCE):
            if name is not None:
                what = "reference" if name == self._setting.REFERENCE else name
                path = folder(self._job.setting, self._job.kind, self._job.seed, name, self._job.modules)
                rows.append(self._measured(self._row(what, "test"), name, path, key=name))
        for operator in operators(self._job.kind):
            row = self._row("composition", "test", operator, chosen[operator])
            rows.append(self._composed(row, self._setting.COMPOSITION))
            for what, template in self._setting.OTHERS.items():
                rows.append(self._composed(self._row(what, "test", operator), template))
        return rows

    def _composed(self, row: Row, template: str) -> Row:
        """Compose, materialize and evaluate: the one place where that is done."""
        text = expression(template, row.operator, row.weight)
        made = self._catalog.compose(f"{row.what}-{row.operator}", text, dtype="float32")
        with tempfile.TemporaryDirectory(dir=self._scratch) as parent:
            path = Path(parent) / "adapter"
            self._catalog.materialize(made, into="adapter", out=path)
            return self._measured(row, made.ref, path, key=made.digest)

    def _measured(self, row: Row, ref: str, path: Path, key: str) -> Row:
        """Evaluate a PEFT folder, once for each key, and record the metrics with the version that it is."""
        if key not in self._found:
            self._found[key] = self._evaluated(path, row.split)
        measured = _rounded(row, self._found[key])
        for metric, value in measured.metrics.items():
            self._catalog.add_evaluation(ref, metric, value, dataset=row.setting, split=row.split)
        return measured

    def _evaluated(self, path: Path | None, split: Split) -> Mapping[str, float]:
        with _precision.products(half=self._job.checking):
            return self._setting.evaluate(path, split)

    def _base(self, split: Split) -> Row:
        job = self._job
        return _rounded(self._row("base", split), _of_base(job.setting, split, checking=job.checking))

    def _row(
        self, what: str, split: Split, operator: Operator | None = None, weight: str | None = None
    ) -> Row:
        job = self._job
        return Row(job.setting, job.kind, job.seed, what, operator, weight, split, {})


def _rounded(row: Row, metrics: Mapping[str, float]) -> Row:
    return replace(row, metrics={name: round(value, 4) for name, value in metrics.items()})


@cache
def _of_base(name: str, split: Split, *, checking: bool) -> Mapping[str, float]:
    with _precision.products(half=checking):
        return setting(name).evaluate(None, split)


# --- λ


def choose(name: str, kind: Kind, rows: Sequence[Row]) -> dict[Operator, str]:
    """The λ of each operator that is best on the validation split, by its mean over the seeds; the first of equals.

    Only those count that keep to the ``within`` of every metric, as long as there are any.
    """
    return {operator: _best(setting(name), kind, operator, rows) for operator in operators(kind)}


def _best(chosen: Setting, kind: Kind, operator: Operator, rows: Sequence[Row]) -> str:
    def mean(metric: str, what: str, weight: str | None) -> float:
        found = [
            row.metrics[metric]
            for row in rows
            if (row.setting, row.kind, row.what, row.weight, row.split)
            == (chosen.NAME, kind, what, weight, "validation")
            and (what == "base" or row.operator == operator)
        ]
        return statistics.fmean(found)

    def kept(weight: str) -> bool:
        return all(
            (
                mean(each.name, "composition", weight)
                - each.within * mean(each.name, "composition", chosen.GRID[0])
            )
            * (1 if each.higher else -1)
            >= 0
            for each in chosen.METRICS
            if each.within is not None
        )

    first = chosen.METRICS[0]
    allowed = [weight for weight in chosen.GRID if kept(weight)] or list(chosen.GRID)
    sign = 1 if first.higher else -1
    return max(allowed, key=lambda weight: sign * mean(first.name, "composition", weight))


# --- all of it


def spread(work: Callable[[Given], Result], given: Sequence[Given], jobs: int) -> list[Result]:
    """The results in order, by that many processes of one thread each."""
    _one_thread()
    if jobs == 1 or len(given) < 2:
        return [work(each) for each in given]
    # A fork has torch and transformers imported already. There are no threads yet that it would lack.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        return list(pool.map(work, given))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # transformers about its own names, at each adapter


def jobs_of(
    names: Sequence[str],
    kinds: Sequence[Kind],
    seeds: Sequence[int],
    home: Path | None,
    modules: Path = TRAINED,
) -> list[Job]:
    return [
        Job(name, kind, seed, home=home, modules=modules)
        for name in names
        for kind in kinds
        for seed in seeds
        if kind == "lora" or name not in LORA_ONLY
    ]


def curves(given: Sequence[Job], jobs: int) -> list[Row]:
    return [row for rows in spread(measure, given, jobs) for row in rows]


def tables(given: Sequence[Job], validation: Sequence[Row], jobs: int, *, checking: bool) -> list[Row]:
    """The test rows, at the λ that the validation rows say. Each job's figures are independent of the others'."""
    ready = [replace(job, checking=checking) for job in at_best(given, validation)]
    # The long ones are at the end of the page; begun first, they keep nobody waiting.
    found = reversed(spread(measure, ready[::-1], jobs))
    return [row for rows in found for row in rows]


def at_best(given: Sequence[Job], validation: Sequence[Row]) -> list[Job]:
    """The jobs, with the λ that the validation rows say."""
    return [replace(job, chosen=choose(job.setting, job.kind, validation)) for job in given]


# --- training


def train(job: Job, work: Path) -> None:
    """Train what is not there yet of one seed; the initialization experiment is of setting 1 and LoRA."""
    chosen = setting(job.setting)
    names = [name for name in (*chosen.MODULES, chosen.REFERENCE) if name is not None]
    if not _trained(job, job.setting, names):
        chosen.train(job.seed, job.kind, work, job.modules)
    starts = (job.setting, job.kind) == ("distribution", "lora")
    if starts and not _trained(job, initialization.NAME, initialization.MODULES):
        initialization.train(job.seed, work, job.modules)


def _trained(job: Job, name: str, modules: Sequence[str]) -> bool:
    """Whether all are there; then no text is needed."""
    return all(folder(name, job.kind, job.seed, each, job.modules).exists() for each in modules)


# --- what is kept


@dataclass(frozen=True)
class Measured:
    """All figures that the page is made of."""

    rows: tuple[Row, ...]
    starts: tuple[initialization.Start, ...]
    written: tuple[writing.Written, ...]


def load(path: Path = MEASURED) -> Measured:
    kept = json.loads(path.read_text("utf-8"))
    return Measured(
        tuple(Row(**row) for row in kept["rows"]),
        tuple(initialization.Start(**row) for row in kept["starts"]),
        tuple(writing.Written(**row) for row in kept.get("written", ())),
    )


def save(measured: Measured, path: Path = MEASURED) -> None:
    """One row a line, so that a change is seen as what it is."""
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(asdict(each), sort_keys=True) for each in each_kind) + "\n]"
        for name, each_kind in vars(measured).items()
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def merged(
    kept: Measured,
    rows: Sequence[Row] = (),
    starts: Sequence[initialization.Start] = (),
    written: Sequence[writing.Written] = (),
) -> Measured:
    """What is kept, with the new rows instead of those that measured the same."""
    by_key = {_key(row): row for row in (*kept.rows, *rows)}
    chosen = {(row.setting, row.kind, row.operator): row.weight for row in rows if _is_test(row)}
    current = [
        row
        for row in by_key.values()
        if not _is_test(row) or row.weight == chosen.get((row.setting, row.kind, row.operator), row.weight)
    ]
    ordered = sorted(current, key=lambda row: (NAMES.index(row.setting), KINDS.index(row.kind), row.split))
    by_start = {(each.pair, each.seed): each for each in (*kept.starts, *starts)}
    anew = {(each.setting, each.kind, each.seed) for each in written}
    before = [each for each in kept.written if (each.setting, each.kind, each.seed) not in anew]
    by_place = sorted(
        [*before, *written], key=lambda each: (NAMES.index(each.setting), KINDS.index(each.kind), each.seed)
    )
    return Measured(tuple(ordered), tuple(by_start.values()), tuple(by_place))


def _is_test(row: Row) -> bool:
    return row.split == "test" and row.what == "composition"


def _key(row: Row) -> tuple[object, ...]:
    return (row.setting, row.kind, row.seed, row.what, row.operator, row.weight, row.split)


def differences(kept: Measured, rows: Sequence[Row]) -> list[str]:
    """Every figure that is farther from the kept one than the ``slack`` of its metric."""
    before = {_key(row): row.metrics for row in kept.rows}
    return [
        f"{row.setting} {row.kind} seed {row.seed} {row.what} {row.operator or ''} {row.weight or ''}: {metric.name} is "
        f"{row.metrics[metric.name]:g}, kept is {before.get(_key(row), {}).get(metric.name)}"
        for row in rows
        for metric in setting(row.setting).METRICS
        if not abs(row.metrics[metric.name] - before.get(_key(row), {}).get(metric.name, math.nan))
        <= metric.slack
    ]
