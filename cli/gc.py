"""``registry gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line, table
from ._render import emit, hint, mode
from ._text import plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Garbage


@click.command("gc")
@click.option("--apply", is_flag=True, help="Remove it; without this nothing is touched.")
@click.option("--quarantine", is_flag=True, help="Also damaged files that verify --repair put aside.")
@common
def command(*, apply: bool, quarantine: bool) -> None:
    """Find, and with --apply remove, what nothing refers to.

    That is stored bytes without a version, and leftovers of interrupted work.

    For example:

      registry gc --apply
    """
    with open_registry() as catalog:
        result = catalog.gc(apply=apply, quarantine=quarantine)
    emit(result, _garbage, quiet=lambda garbage: garbage.blobs)
    if mode() == "human" and not apply and (result.blobs or result.leftovers):
        hint(f"registry gc {'--quarantine ' if quarantine else ''}--apply removes it")


def _garbage(result: Garbage, console: Console) -> Iterator[RenderableType]:
    verb = "removed " if result.applied else "would remove "
    blobs, leftovers = plural(len(result.blobs), "blob"), plural(len(result.leftovers), "leftover")
    yield line((verb, "yellow"), f"{blobs} and {leftovers}, {size(result.size)}")
    rows = [["blob", name] for name in result.blobs] + [["leftover", name] for name in result.leftovers]
    if rows:
        yield table(console, ["what", "name"], rows)
