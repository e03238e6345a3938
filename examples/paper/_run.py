"""Measure a setting: register its modules, compose them for each λ by the public API, evaluate what was written."""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from examples.paper import initialization
from examples.paper._claims import operators
from examples.paper._rows import KINDS, Kind, Operator, Row, Setting, Split, folder
from registry import Registry

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
TOLERANCE = 0.01  # relative: another processor rounds otherwise, and a sentence or two change sides

Given = TypeVar("Given")
Result = TypeVar("Result")


def setting(name: str) -> Setting:
    return cast("Setting", importlib.import_module(f"examples.paper.{name}"))


def expression(template: str, operator: Operator | None, weight: str | None = None) -> str:
    """A setting's template with λ put in, as ``registry compose`` takes it."""
    if weight is not None:
        template = template.format(w=weight, v=f"{1 - Decimal(weight):f}")
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


def measure(job: Job) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        if job.home is not None:
            home = job.home / f"{job.setting}-{job.kind}-{job.seed}"
        with catalog(home) as opened:
            setting(job.setting).register(opened, job.seed, job.kind)
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

    def curves(self) -> list[Row]:
        """The base model and every λ, on the validation split."""
        rows = [self._base("validation")]
        for operator in operators(self._job.kind):
            for weight in self._setting.GRID:
                row = self._row("composition", "validation", operator, weight)
                rows.append(self._composed(row, self._setting.COMPOSITION))
        return rows

    def tables(self, chosen: Mapping[Operator, str]) -> list[Row]:
        """The base model, the modules, the reference and the compositions, on the test split."""
        rows = [self._base("test")]
        for name in (*self._setting.MODULES, self._setting.REFERENCE):
            if name is not None:
                what = "reference" if name == self._setting.REFERENCE else name
                path = folder(self._job.setting, self._job.kind, self._job.seed, name)
                rows.append(self._measured(self._row(what, "test"), name, path))
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
            return self._measured(row, made.ref, path)

    def _measured(self, row: Row, ref: str, path: Path) -> Row:
        """Evaluate a PEFT folder, and record the metrics with the version that it is."""
        measured = _rounded(row, self._setting.evaluate(path, row.split))
        for metric, value in measured.metrics.items():
            self._catalog.add_evaluation(ref, metric, value, dataset=row.setting, split=row.split)
        return measured

    def _base(self, split: Split) -> Row:
        return _rounded(self._row("base", split), _of_base(self._job.setting, split))

    def _row(
        self, what: str, split: Split, operator: Operator | None = None, weight: str | None = None
    ) -> Row:
        job = self._job
        return Row(job.setting, job.kind, job.seed, what, operator, weight, split, {})


def _rounded(row: Row, metrics: Mapping[str, float]) -> Row:
    return replace(row, metrics={name: round(value, 4) for name, value in metrics.items()})


@cache
def _of_base(name: str, split: Split) -> Mapping[str, float]:
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
    if jobs == 1 or len(given) < 2:
        _one_thread()
        return [work(each) for each in given]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        return list(pool.map(work, given))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # transformers about its own names, at each adapter


def jobs_of(
    names: Sequence[str], kinds: Sequence[Kind], seeds: Sequence[int], home: Path | None
) -> list[Job]:
    return [
        Job(name, kind, seed, home=home)
        for name in names
        for kind in kinds
        for seed in seeds
        if kind == "lora" or name not in LORA_ONLY
    ]


def curves(given: Sequence[Job], jobs: int) -> list[Row]:
    return [row for rows in spread(measure, given, jobs) for row in rows]


def tables(given: Sequence[Job], validation: Sequence[Row], jobs: int) -> list[Row]:
    """The test rows, at the λ that the validation rows say. Each job's figures are independent of the others'."""
    ready = [
        Job(job.setting, job.kind, job.seed, choose(job.setting, job.kind, validation), job.home)
        for job in given
    ]
    return [row for rows in spread(measure, ready, jobs) for row in rows]


# --- training


def train(job: Job, work: Path) -> None:
    """Train what is not there yet of one seed; the initialization experiment is of setting 1 and LoRA."""
    setting(job.setting).train(job.seed, job.kind, work)
    if (job.setting, job.kind) == ("distribution", "lora"):
        initialization.train(job.seed, work)


# --- what is kept


@dataclass(frozen=True)
class Measured:
    """All figures that the page is made of."""

    rows: tuple[Row, ...]
    starts: tuple[initialization.Start, ...]


def load(path: Path = MEASURED) -> Measured:
    kept = json.loads(path.read_text("utf-8"))
    return Measured(
        tuple(Row(**row) for row in kept["rows"]),
        tuple(initialization.Start(**row) for row in kept["starts"]),
    )


def save(measured: Measured, path: Path = MEASURED) -> None:
    """One row a line, so that a change is seen as what it is."""
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(asdict(each), sort_keys=True) for each in each_kind) + "\n]"
        for name, each_kind in (("rows", measured.rows), ("starts", measured.starts))
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def merged(kept: Measured, rows: Sequence[Row], starts: Sequence[initialization.Start] = ()) -> Measured:
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
    return Measured(tuple(ordered), tuple(by_start.values()))


def _is_test(row: Row) -> bool:
    return row.split == "test" and row.what == "composition"


def _key(row: Row) -> tuple[object, ...]:
    return (row.setting, row.kind, row.seed, row.what, row.operator, row.weight, row.split)


def differences(kept: Measured, rows: Sequence[Row]) -> list[str]:
    """Every figure that is not what was kept, beyond the tolerance."""
    before = {_key(row): row.metrics for row in kept.rows}
    return [
        f"{row.setting} {row.kind} seed {row.seed} {row.what} {row.operator or ''} {row.weight or ''}: {metric} is "
        f"{value:g}, kept is {before.get(_key(row), {}).get(metric)}"
        for row in rows
        for metric, value in row.metrics.items()
        if not math.isclose(
            value, before.get(_key(row), {}).get(metric, math.nan), rel_tol=TOLERANCE, abs_tol=TOLERANCE
        )
    ]
