"""``registry watch``."""

from typing import TYPE_CHECKING

import click

from registry.errors import HubUnavailable, Stale

from . import _options as options
from ._parts import Cell, table
from ._render import emit_all, hint, mode
from ._text import few, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Watched

    from ._parts import Screen

_STATES = {"same": "green", "same files": "", "moved": "yellow", "gone": "bold red", "unknown": "yellow"}


@click.command("watch")
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with code 6 when one moved on or is gone, 1 when one could not be asked for.",
)
@options.common
def command(refs: tuple[str, ...], *, check: bool) -> None:
    """Show which imported adapters moved on upstream.

    These are the latest versions that were added from a branch or tag of a Hub repo, or those that are named. One that
    was added at a commit is looked at when it is named, beside the main branch.

    For example:

      registry watch --check
    """
    with options.open_registry() as catalog:
        results = catalog.watch(refs)
    emit_all(
        results, _watched, quiet=lambda result: result.ref, empty="nothing came from a branch of the Hub"
    )
    moved = [each for each in results if each.state == "moved"]
    if mode() == "human":
        for each in moved:
            name = each.ref.partition("@")[0]
            hint(f"to take it: registry add hf://{each.repo}@{each.revision} {name}")
    gone = [each for each in results if each.state == "gone"]
    if check and (moved or gone):
        names = few([each.ref for each in (*moved, *gone)])
        raise Stale(
            f"{plural(len(moved) + len(gone), 'adapter')} of {len(results)} moved on or gone upstream: {names}",
            hint="take what moved with registry add",
        )
    if check and (unknown := [each for each in results if each.state == "unknown"]):
        raise HubUnavailable(
            f"{plural(len(unknown), 'adapter')} of {len(results)} could not be asked for: {unknown[0].reason}",
            hint="try again later",
        )


def _watched(results: "Sequence[Watched]", console: "Screen") -> "RenderableType":
    rows = [
        [
            Cell(each.ref, "bold"),
            Cell(each.state, _STATES[each.state]),
            each.repo,
            each.revision,
            _commit(each.imported, console),
            _commit(each.commit, console),
            each.reason,
        ]
        for each in results
    ]
    columns = ["version", "state", "repo", "revision", "imported", "now", "reason"]
    return table(console, columns, rows, spare=["now", "imported"], prose=["reason"])


def _commit(commit: str | None, console: "Screen") -> str | None:
    return commit[:10] if commit and console.is_terminal else commit
