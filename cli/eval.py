"""``registry eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._group import Signed
from ._options import common, finite, open_registry
from ._parts import line, table
from ._render import emit, emit_all, progress, say
from ._tables import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Compared, Comparison, Evaluation

_NONE = "none"  # a column without content would be left out


@click.group("eval")
@common
def command() -> None:
    """Record, list and compare what versions score."""


@command.command("add", cls=Signed)
@click.argument("ref")
@click.argument("metric")
@click.argument("value", type=finite)
@click.option("--dataset", required=True, metavar="NAME", help="What it was measured on.")
@click.option("--split", metavar="NAME", help="Which part of the dataset.")
@common
def add(ref: str, metric: str, value: float, dataset: str, split: str | None) -> None:
    """Record a metric's value for a version.

    A second value for the same metric, dataset and split replaces the first.

    For example:

      registry eval add detox@2 accuracy 0.814 --dataset sst2 --split validation
    """
    with open_registry() as catalog:
        result = catalog.add_evaluation(ref, metric, value, dataset=dataset, split=split)
    emit(result, _recorded, quiet=lambda evaluation: [evaluation.ref])


@command.command("run", cls=Signed)
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@options.running
@options.measured_on
@common
def run_(
    *, refs: tuple[str, ...], run: str, timeout: float | None, retries: int, dataset: str, split: str | None
) -> None:
    """Measure versions by a command and record what they score.

    Its last line is a JSON object of numbers, such as {"accuracy": 0.81}. {ref} stands for the version.

    For example:

      registry eval run detox@2 --run 'python eval.py {path}' --dataset sst2 --timeout 600
    """
    with open_registry() as catalog, progress() as bar:
        results = catalog.run_evaluation(
            refs, run=run, timeout=timeout, retries=retries, dataset=dataset, split=split, progress=bar
        )
    emit_all(results, evaluations, quiet=lambda result: result.ref, empty="nothing was measured")


@command.command("list")
@click.argument("ref")
@common
def list_(ref: str) -> None:
    """List the evaluations of a version.

    For example:

      registry eval list detox@2
    """
    with open_registry() as catalog:
        results = catalog.evaluations(ref)
    emit_all(results, evaluations, quiet=lambda result: result.ref, empty=f"{ref} has no evaluations")


@command.command("compare")
@click.argument("ref")
@click.option(
    "--depth", type=click.IntRange(min=1), default=1, metavar="N", help="How many steps up; 1 is the parents."
)
@common
def compare(ref: str, depth: int) -> None:
    """Show a version's evaluations beside its parents'.

    Differences are the version's value minus the other's.

    For example:

      registry eval compare detox@2
    """
    with open_registry() as catalog:
        result = catalog.compare_evaluations(ref, depth=depth)
    if not result.rows:
        say(f"neither {result.ref} nor what it was derived from has evaluations")
    emit(result, _compared, quiet=lambda each: [each.ref, *each.others])


def _compared(result: Comparison, console: Console) -> Iterator[RenderableType]:
    rows = [
        [row.dataset, row.split, row.metric, _own(row), *(_beside(row, other) for other in result.others)]
        for row in result.rows
    ]
    if rows:
        yield table(console, ["dataset", "split", "metric", result.ref, *result.others], rows)


def _own(row: Compared) -> float | str:
    return _NONE if row.value is None else row.value


def _beside(row: Compared, other: str) -> str:
    value = row.others[other]
    if value is None:
        return _NONE
    return f"{value:g}" if row.value is None else f"{value:g} ({row.value - value:+.3g})"


def _recorded(result: Evaluation, _: Console) -> Iterator[RenderableType]:
    where = f"{result.dataset}/{result.split}" if result.split else result.dataset
    yield line((result.ref, "bold"), f"  {result.metric} = ", (result.value, "cyan"), f" on {where}")
