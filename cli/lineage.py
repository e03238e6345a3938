"""``registry lineage``."""

import click

from . import _graph
from ._options import FORMAT, common, open_registry
from ._render import echo, emit, mode


@click.command("lineage")
@click.argument("ref")
@click.option(
    "--up/--down",
    "upstream",
    default=True,
    help="What it was derived from (default), or what was derived from it.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Go at most this far.")
@click.option(
    "--as",
    "shape",
    type=click.Choice(["tree", "mermaid", "dot", "json"]),
    default="tree",
    show_default=True,
    help="A tree, a diagram's source, or the graph as JSON.",
)
@common
@click.pass_context
def command(ctx: click.Context, ref: str, depth: int | None, shape: str, *, upstream: bool) -> None:
    """Show what a version was derived from, or what from it.

    For example:

      registry lineage alpaca --down --as mermaid
    """
    with open_registry() as catalog:
        result = catalog.lineage(ref, direction="up" if upstream else "down", depth=depth)
    if shape == "json":
        ctx.meta[FORMAT] = "json"
    if mode() == "human" and shape != "tree":
        echo(_graph.mermaid(result) if shape == "mermaid" else _graph.dot(result))
    else:
        emit(result, _graph.tree, quiet=lambda graph: [node.ref for node in graph.nodes])
