"""``registry import``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line, table
from ._render import emit, progress, warn
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Imported


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
@common
def command(file: str) -> None:
    """Bring in what registry export wrote to FILE.

    An empty catalog becomes the one that was exported. Another one is given the adapters that it lacks, and the
    versions that follow its own; where anything contradicts, nothing is changed.

    For example:

      registry import catalog.tar
    """
    with open_registry() as catalog, progress() as advance:
        result = catalog.import_bundle(file, progress=advance)
    warn(_warnings(result))
    emit(result, _imported, quiet=lambda imported: [imported.digest])


def _warnings(result: Imported) -> Iterator[str]:
    if result.missing:
        yield f"the bytes of {plural(result.missing, 'blob')} are not in the blob store: import a bundle that has them"
    if result.kept:
        yield f"aliases that point elsewhere here stay: {', '.join(result.kept)}"


def _imported(result: Imported, console: Console) -> Iterator[RenderableType]:
    if not result.changed and result.stored:
        yield line(
            (result.path, "bold"), f" holds nothing new but bytes: {plural(result.stored, 'blob')} stored"
        )
        return
    if not result.changed:
        yield line((result.path, "bold"), " holds nothing new; nothing was changed")
        return
    how = "the whole catalog" if result.complete else f"extending {plural(result.extended, 'adapter')}"
    yield line(("imported ", "green"), (result.path, "bold"), f", {how}")
    rows = [[name.replace("_", " "), count] for name, count in result.added.items()]
    if result.stored:
        rows.append(["blobs stored", result.stored])
    if rows:
        yield table(console, ["added", "number"], rows)
