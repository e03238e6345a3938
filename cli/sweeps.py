"""``registry sweeps``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import table
from ._render import emit, emit_all
from ._sweeps import sweep_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Sweep

    from ._parts import Screen


@click.group("sweeps")
@common
def command() -> None:
    """List sweeps, and show what one measured."""


@command.command("list")
@click.argument("name", required=False)
@common
def list_(name: str | None) -> None:
    """List sweeps, or those for one adapter, newest first.

    For example:

      registry sweeps list detox
    """
    with open_registry() as catalog:
        results = catalog.sweeps(name)
    emit_all(results, _listed, quiet=lambda sweep: str(sweep.id), empty="there are no sweeps")


@command.command("show")
@click.argument("number", type=click.IntRange(min=1), metavar="ID")
@common
def show(number: int) -> None:
    """Show a sweep with every point that was measured.

    For example:

      registry sweeps show 3
    """
    with open_registry() as catalog:
        result = catalog.sweep_result(number)
    emit(result, sweep_parts, quiet=lambda sweep: [sweep.ref] if sweep.ref else [])


def _listed(results: Sequence[Sweep], console: Screen) -> RenderableType:
    rows = [
        [
            str(sweep.id),
            sweep.name,
            sweep.expression,
            "; ".join(f"{name}={text}" for name, text in sweep.variables.items()),
            ", ".join(f"{each.metric}:{each.direction}" for each in sweep.metrics),
            sweep.state,
            sweep.ref,
        ]
        for sweep in results
    ]
    return table(
        console, ["sweep", "name", "expression", "over", "metrics", "state", "best"], rows, spare=["over"]
    )
