"""``registry stale``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import Stale

from ._options import common, open_registry
from ._parts import Cell, table
from ._render import emit_all
from ._text import few, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Staleness

    from ._parts import Screen


@click.command("stale")
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All versions, not only the latest of each adapter.")
@click.option("--check", is_flag=True, help="Exit code 6 when any is stale.")
@common
def command(refs: tuple[str, ...], *, every: bool, check: bool) -> None:
    """List compositions that would pin differently now.

    One is stale where an alias, or a latest version, that its expression names has other content by now, or is gone.
    What would follow once those are rebuilt is shown beside them, and not counted.

    For example:

      registry stale --check
    """
    with open_registry() as catalog:
        results = catalog.stale(refs, every=every)
    emit_all(results, _stale, quiet=lambda result: result.ref, empty="nothing is stale")
    if check and results:
        names = few([result.ref for result in results])
        raise Stale(f"{plural(len(results), 'composition')} stale: {names}", hint="registry rebuild")


def _stale(results: Sequence[Staleness], console: Screen) -> RenderableType:
    rows = [
        [
            Cell(result.ref, "bold"),
            Cell("broken", "red") if result.broken else Cell("stale", "yellow"),
            "; ".join(str(each) for each in result.references),
            result.followers,
            result.expression,
        ]
        for result in results
    ]
    columns = ["version", "state", "because", "would follow", "expression"]
    return table(console, columns, rows, spare=["expression", "would follow"], prose=["because"])
