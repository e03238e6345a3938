"""``registry eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._group import Signed
from ._options import common, finite, open_registry
from ._parts import line
from ._render import emit, emit_all
from ._tables import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Evaluation


@click.group("eval")
@common
def command() -> None:
    """Record and list what versions score."""


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


def _recorded(result: Evaluation, _: Console) -> Iterator[RenderableType]:
    where = f"{result.dataset}/{result.split}" if result.split else result.dataset
    yield line((result.ref, "bold"), f"  {result.metric} = ", (result.value, "cyan"), f" on {where}")
