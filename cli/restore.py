"""``registry restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import Registry

from ._options import common
from ._parts import line, table
from ._render import emit, hint, mode, progress, warn
from ._text import plural, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Restored


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False))
@common
def command(file: str) -> None:
    """Make the catalog again that registry backup wrote to FILE.

    It is made where REGISTRY_HOME and the other variables lead, whole or not at all; where a catalog is already,
    nothing is changed. Everything in FILE is checked first.

    For example:

      registry restore catalog.backup
    """
    with progress() as advance:
        result = Registry.restore(file, progress=advance)
    if result.missing:
        warn([f"the bytes of {plural(result.missing, 'blob')} are not in the blob store: copy them there"])
    emit(result, _shown, quiet=lambda restored: [restored.digest])
    if mode() == "human":
        older = result.schema_revision < result.head
        hint("registry db upgrade" if older else "registry verify reads every version once more")


def _shown(result: Restored, console: Console) -> Iterator[RenderableType]:
    stored = f", {plural(result.stored, 'blob')} stored" if result.stored else ""
    yield line(("restored ", "green"), (result.path, "bold"), f", taken {shown(result.taken)}{stored}")
    yield line(f"schema {result.schema_revision}, ", (result.digest, "cyan"))
    rows = [[name.replace("_", " "), count] for name, count in result.counts.items() if count]
    if rows:
        yield table(console, ["rows", "number"], rows)
