"""``registry export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line, table
from ._render import emit, progress
from ._text import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Exported


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--with-blobs/--no-blobs", "blobs", default=True, show_default=True, help="With the bytes, or without."
)
@common
def command(file: str, *, blobs: bool) -> None:
    """Write the whole catalog to FILE.

    It holds every adapter with its versions, numbers, aliases, tags, recipes, lineage and history, and the bytes
    unless --no-blobs. FILE is a tar that must not exist yet. Equal catalogs give equal bytes.

    For example:

      registry export catalog.tar
    """
    with open_registry() as catalog, progress() as advance:
        result = catalog.export(file, blobs=blobs, progress=advance)
    emit(result, _exported, quiet=lambda exported: [exported.digest])


def _exported(result: Exported, console: Console) -> Iterator[RenderableType]:
    what = "with blobs" if result.blobs else "without blobs"
    yield line(("exported ", "green"), (result.path, "bold"), f", {size(result.size)}, {what}")
    yield line((result.digest, "cyan"))
    rows = [[name.replace("_", " "), count] for name, count in result.counts.items() if count]
    if rows:
        yield table(console, ["what", "number"], rows)
