"""``registry delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line
from ._render import emit, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Deleted


@click.command("delete")
@click.argument("ref")
@common
def command(ref: str) -> None:
    """Turn a version into a tombstone.

    Its number, digest and lineage stay; its bytes go with "registry gc".

    For example:

      registry delete toxic@2
    """
    with open_registry() as catalog:
        result = catalog.delete(ref)
    warn(f"{child} was derived from it" for child in result.downstream)
    emit(result, _deleted, quiet=lambda tombstone: [tombstone.ref])


def _deleted(result: Deleted, _: Console) -> Iterator[RenderableType]:
    yield line("deleted ", (result.ref, "bold"), f" ({result.digest})")
