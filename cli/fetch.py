"""``registry fetch``."""

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._parts import Cell, short, table
from ._render import emit_all
from ._text import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Fetched

    from ._parts import Screen


@click.command("fetch")
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@options.device
@options.base_values
@options.common
def command(refs: tuple[str, ...], *, device: str, base_path: str | None) -> None:
    """Get the bytes of versions that are known and not held.

    They come from the Hub repo where they were published, or else are computed by their recipe, whose inputs have to be
    held. Either way they have to be the content that the catalog knows.

    For example:

      registry fetch alpaca@1 toxic@1
    """
    with options.open_registry() as catalog:
        results = catalog.fetch(refs, device=device, base_path=base_path)
    emit_all(results, _fetched, quiet=lambda result: result.ref, empty="nothing was fetched")


def _fetched(results: "Sequence[Fetched]", console: "Screen") -> "RenderableType":
    rows = [
        [
            Cell(each.ref, "bold"),
            Cell("fetched", "green") if each.changed else "held already",
            each.source,
            size(each.size),
            short(each.digest, console),
        ]
        for each in results
    ]
    return table(console, ["version", "outcome", "from", "size", "digest"], rows, spare=["digest"])
