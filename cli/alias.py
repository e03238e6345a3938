"""``registry alias``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line
from ._render import emit, emit_all
from ._tables import aliases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from rich.console import Console, RenderableType

    from registry.results import Alias


def _expected(text: str) -> int | Literal["none"]:
    """A version number, or ``none``."""
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a version number nor none")
    return int(text)


_expect = click.option(
    "--expect", type=_expected, metavar="VERSION|none", help="Only if it points there now."
)


@click.group("alias")
@common
def command() -> None:
    """Name versions with movable pointers, such as toxic@prod."""


@command.command("set")
@click.argument("name")
@click.argument("alias")
@click.argument("version")
@_expect
@click.option("--protect", is_flag=True, help="From now on it moves only with --expect.")
@common
def set_(name: str, alias: str, version: str, expect: int | Literal["none"] | None, *, protect: bool) -> None:
    """Point NAME@ALIAS at VERSION.

    VERSION is a number, another alias, or a reference. A protected alias moves only with --expect, by somebody who
    knows where it points.

    For example:

      registry alias set toxic prod 7 --expect 6
    """
    target = int(version) if version.isdecimal() else version
    with open_registry() as catalog:
        emit(catalog.set_alias(name, alias, target, expect=expect, protect=protect), _moved, quiet=_quiet)


@command.command("list")
@click.argument("name", required=False)
@common
def list_(name: str | None) -> None:
    """List all aliases, or those of one adapter.

    For example:

      registry alias list toxic
    """
    with open_registry() as catalog:
        results = catalog.aliases(name)
    emit_all(results, aliases, quiet=lambda alias: f"{alias.name}@{alias.alias}", empty="no aliases")


@command.command("delete")
@click.argument("name")
@click.argument("alias")
@_expect
@common
def delete(name: str, alias: str, expect: int | Literal["none"] | None) -> None:
    """Remove an alias; the version it points at stays. Prints the alias as it was.

    A protected alias goes only with --expect.

    For example:

      registry alias delete toxic staging
    """
    with open_registry() as catalog:
        removed = catalog.delete_alias(name, alias, expect=expect)
    emit(removed, _removed, quiet=_quiet)


@command.command("protect")
@click.argument("name")
@click.argument("alias")
@click.option("--off", is_flag=True, help="No longer protect it.")
@common
def protect(name: str, alias: str, *, off: bool) -> None:
    """Let an alias move, and be deleted, only with --expect.

    Two people who promote at once then never overwrite each other without knowing.

    For example:

      registry alias protect toxic prod
    """
    with open_registry() as catalog:
        emit(catalog.protect_alias(name, alias, protected=not off), _protected, quiet=_quiet)


def _moved(result: Alias, _: Console) -> Iterator[RenderableType]:
    before = f" (was {result.name}@{result.previous})" if result.previous and result.moved else ""
    verb = " → " if result.moved else " already points at "
    yield line((f"{result.name}@{result.alias}", "bold"), verb, (result.ref, "bold"), before, _suffix(result))


def _protected(result: Alias, _: Console) -> Iterator[RenderableType]:
    word = "is protected" if result.protected else "is no longer protected"
    yield line((f"{result.name}@{result.alias}", "bold"), f" → {result.ref} {word}")


def _suffix(result: Alias) -> str:
    return ", protected" if result.protected else ""


def _removed(result: Alias, _: Console) -> Iterator[RenderableType]:
    yield line("removed ", (f"{result.name}@{result.alias}", "bold"), f", which pointed at {result.ref}")


def _quiet(result: Alias) -> list[str]:
    return [f"{result.name}@{result.alias}"]
