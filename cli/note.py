"""``registry note``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line
from ._render import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Version


@click.command("note")
@click.argument("ref")
@click.argument("text", required=False)
@click.option("--delete", is_flag=True, help="Remove the note.")
@common
def command(ref: str, text: str | None, *, delete: bool) -> None:
    """Write a version's note, or remove it. The one before stays in the events.

    For example:

      registry note toxic@3 "trained without the 2024 data"
    """
    if delete == (text is not None):
        raise click.UsageError("give the note, or --delete")
    with open_registry() as catalog:
        emit(catalog.set_note(ref, text), _noted, quiet=lambda version: [version.ref])


def _noted(result: Version, _: Console) -> Iterator[RenderableType]:
    yield line((result.ref, "bold"), f"  {result.note}" if result.note else " has no note")
