"""``registry revoke``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import line
from ._render import emit, hint, mode, warn
from ._text import few, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Revocation


@click.command("revoke")
@click.argument("ref")
@click.option("--reason", metavar="TEXT", help="What is wrong with it.")
@click.option("--undo", is_flag=True, help="Take it back.")
@common
def command(ref: str, *, reason: str | None, undo: bool) -> None:
    """Mark a version as bad, with all that came from it.

    None of them is published, or composed with, any more. What another revocation affects stays so on --undo.

    For example:

      registry revoke toxic@2 --reason "trained on leaked data"
    """
    if (reason is None) != undo:
        raise click.UsageError("give --reason TEXT, or --undo" if not undo else "--undo takes no --reason")
    with open_registry() as catalog:
        result = catalog.unrevoke(ref) if reason is None else catalog.revoke(ref, reason)
    if not result.undone:
        warn(f"{copy} has the same content, and is not revoked" for copy in result.copies)
    emit(result, _revoked, quiet=lambda revoked: [revoked.ref, *revoked.affected])
    if mode() == "human" and not result.undone and result.affected:
        hint(f"where it went: registry impact {result.ref}")


def _revoked(result: Revocation, _: Console) -> Iterator[RenderableType]:
    verb = "no longer revoked: " if result.undone else "revoked " if result.changed else "already revoked: "
    yield line((verb, "red" if result.changed and not result.undone else "green"), (result.ref, "bold"))
    yield line(f"{result.reason} (", (result.revoked_by, ""), ", ", (result.revoked_at, ""), ")")
    if result.affected:
        again = "affected by it no more" if result.undone else "derived from it"
        yield line(f"{plural(len(result.affected), 'version')} {again}: ", (few(result.affected), "bold"))
