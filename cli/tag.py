"""``registry tag``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import as_mapping, common, key_value, open_registry
from ._parts import line, table
from ._render import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Tagged


@click.group("tag")
@common
def command() -> None:
    """Label versions with key=value tags."""


@command.command("set")
@click.argument("ref")
@click.argument("tags", metavar="K=V...", type=key_value, nargs=-1, required=True, callback=as_mapping)
@common
def set_(ref: str, tags: dict[str, str]) -> None:
    """Set tags on a version, overwriting those of the same key.

    For example:

      registry tag set toxic@3 team=safety reviewed=yes
    """
    with open_registry() as catalog:
        emit(catalog.set_tags(ref, tags), _tags, quiet=lambda result: [result.ref])


@command.command("delete")
@click.argument("ref")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@common
def delete(ref: str, keys: tuple[str, ...]) -> None:
    """Remove tags from a version.

    For example:

      registry tag delete toxic@3 reviewed
    """
    with open_registry() as catalog:
        emit(catalog.delete_tags(ref, keys), _tags, quiet=lambda result: [result.ref])


def _tags(result: Tagged, console: Console) -> Iterator[RenderableType]:
    yield line((result.ref, "bold"), "" if result.tags else " has no tags")
    if result.tags:
        yield table(console, ["tag", "value"], sorted(result.tags.items()))
