"""``registry impact``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import _graph
from ._options import common, open_registry
from ._parts import line
from ._render import emit
from ._tables import publications
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Impact


@click.command("impact")
@click.argument("ref")
@click.option("--repos", is_flag=True, help="With --format quiet: the Hub repos instead of the versions.")
@common
def command(ref: str, *, repos: bool) -> None:
    """Show all that a version reached, here and on the Hub.

    Everything derived from it at any depth, the aliases that point there, and every publication of any of it.

    For example:

      registry impact toxic@2
    """
    with open_registry() as catalog:
        result = catalog.impact(ref)
    emit(result, _impact, quiet=_repos if repos else _versions)


def _versions(result: Impact) -> list[str]:
    return [node.ref for node in result.derived.nodes[1:]]


def _repos(result: Impact) -> list[str]:
    return list(dict.fromkeys(publication.repo for publication in result.publications))


def _impact(result: Impact, console: Console) -> Iterator[RenderableType]:
    repos = _repos(result)
    counts = [
        f"{plural(len(result.derived.nodes) - 1, 'version')} derived from it",
        "1 alias" if len(result.aliases) == 1 else f"{len(result.aliases):,} aliases",
        plural(len(repos), "Hub repo"),
    ]
    yield line((result.ref, "bold"), f": {', '.join(counts)}")
    if result.reason is not None:
        yield line(("revoked: ", "red"), result.reason)
    yield from _graph.tree(result.derived, console)
    if result.aliases:
        yield line("aliases: ", (result.aliases, "green"))
    if result.publications:
        yield publications(result.publications, console, title="publications")
