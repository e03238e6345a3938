"""``registry rebuild``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import RegistryError

from . import _options as options
from ._parts import Cell, table
from ._render import emit_all, mode, progress, warn
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Rebuilt

    from ._parts import Screen

_STYLES = {"made": "green", "planned": "yellow", "unchanged": "dim", "failed": "bold red", "blocked": "red"}


@click.command("rebuild")
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show what would be made, make nothing.")
@options.device
@options.base_values
@options.common
def command(refs: tuple[str, ...], *, dry_run: bool, device: str, base_path: str | None) -> None:
    """Make new versions of stale compositions.

    All of them and what follows them, or those named and what they follow, each after its inputs. Only what changed
    is computed; run it again to continue where it was interrupted.

    For example:

      registry rebuild --dry-run
    """
    with options.open_registry() as catalog, progress() as bar:
        results = catalog.rebuild(refs, dry_run=dry_run, device=device, base_path=base_path, progress=bar)
    warn(warning for result in results for warning in result.warnings)
    shown = [result for result in results if result.made] if mode() == "quiet" and not dry_run else results
    emit_all(shown, _rebuilt, quiet=lambda result: result.made or result.ref, empty="nothing is stale")
    failed = [result for result in results if result.state in {"failed", "blocked"}]
    if failed:
        first = next(result for result in failed if result.state == "failed")
        raise RegistryError(
            f"{plural(len(failed), 'composition')} of {len(results)} not rebuilt; {first.ref}: {first.reason}",
            hint="what is stale, and why: registry stale",
        )


def _rebuilt(results: Sequence[Rebuilt], console: Screen) -> RenderableType:
    rows = [
        [
            Cell(result.ref, "bold"),
            Cell(result.state, _STYLES[result.state]),
            Cell(result.made, "bold") if result.made else None,
            result.reason or "; ".join(str(each) for each in result.references),
            result.expression,
        ]
        for result in results
    ]
    columns = ["version", "state", "made", "because", "expression"]
    return table(console, columns, rows, spare=["expression"], prose=["because"])
