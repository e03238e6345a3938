"""``registry plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import plots

from ._group import Signed
from ._options import base_values, common, open_registry
from ._parts import line
from ._render import emit, say
from ._text import size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from rich.console import Console, RenderableType

    from registry.results import Plotted


@click.command("plot", cls=Signed)
@click.argument("what", metavar=f"{{{'|'.join(plots.family.names())}}}")
@click.argument("subject", metavar="REF")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where to: FILE.svg, .png or .html.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists, once the new one is whole.")
@click.option("--up", "direction", flag_value="up", help="lineage: what it was derived from (default).")
@click.option("--down", "direction", flag_value="down", help="lineage: what was derived from it.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="lineage: go at most this far.")
@base_values
@common
def command(
    what: str,
    subject: str,
    out: str,
    *,
    force: bool,
    direction: Literal["up", "down"] | None,
    depth: int | None,
    base_path: str | None,
) -> None:
    """Draw a lineage, a conflict of inputs, or a sweep.

    conflict compares the inputs of a composed version, or of an expression in place of REF, two by two and layer by
    layer. lineage draws the versions around one. sweep draws what a sweep measured, and which point it chose. It needs
    the extra "plot". docs/plots.md says how to read each.

    For example:

      registry plot lineage detox --out detox.svg

      registry plot conflict "alpaca - 0.4*toxic" --out conflict.png
    """
    with open_registry() as catalog:
        result = catalog.plot(
            what, subject, out, replace=force, direction=direction, depth=depth, base_path=base_path
        )
    for note in result.notes:
        say(note)
    emit(result, _plotted, quiet=lambda plotted: [plotted.path])


def _plotted(result: Plotted, _: Console) -> Iterator[RenderableType]:
    numbered = result.subject.startswith(f"{result.what} ")  # as in "sweep 3 of detox"
    yield line(
        ("drew ", "green"),
        f"{result.subject} to " if numbered else f"{result.what} of {result.subject} to ",
        (result.path, "bold"),
        f", {size(result.size)}",
    )
