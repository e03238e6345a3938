"""``registry sync-dir``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import Conflict, IntegrityFailure, Stale

from ._options import common, open_registry
from ._parts import Cell, table
from ._render import emit, progress, say
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import SyncedFolder

_STYLES = {
    "added": "green",
    "updated": "green",
    "unchanged": "dim",
    "removed": "yellow",
    "left out": "yellow",
    "failed": "bold red",
}


@click.command("sync-dir")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--alias", required=True, metavar="ALIAS", help="Which version of each adapter, as in NAME@prod."
)
@click.option(
    "--base", metavar="REPO[@REVISION]", help="Only adapters on this base model, named as it is served."
)
@click.option("--max-rank", type=click.IntRange(min=1), metavar="N", help="Leave out what has a larger rank.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--check", is_flag=True, help="As --dry-run, and exit with 6 if something would change.")
@common
def command(
    *, directory: str, alias: str, base: str | None, max_rank: int | None, dry_run: bool, check: bool
) -> None:
    """Keep DIR in step with an alias, for vLLM and LoRAX.

    Each adapter that has the alias gets a PEFT folder in DIR, as long as it can be served; why others are left out is
    said. Each is replaced in one step. What a sync did not put into DIR stays as it is.

    For example:

      registry sync-dir /srv/adapters --alias prod --base meta-llama/Llama-3.1-8B --max-rank 64
    """
    looking = dry_run or check
    with open_registry() as catalog, progress() as advance:
        result = catalog.sync_dir(
            directory, alias, base=base, max_rank=max_rank, dry_run=looking, progress=advance
        )
    emit(result, _synced, quiet=_served)
    if not result.adapters:
        say(f"no adapter has the alias {alias}")
    failed = [each for each in result.adapters if each.outcome == "failed"]
    if failed:
        damaged = any(each.code == IntegrityFailure.code for each in failed)
        raise (IntegrityFailure if damaged else Conflict)(
            f"{plural(len(failed), 'adapter')} of {len(result.adapters)} could not be synced: "
            f"{', '.join(each.folder for each in failed[:5])}",
            hint="the folders of these stay as they were",
        )
    if check and result.changed:
        raise Stale(
            f"{directory} is not in step with {alias}", hint="the same without --check puts it in step"
        )


def _served(result: SyncedFolder) -> Iterator[str]:
    for each in result.adapters:
        if each.ref is not None and each.outcome in {"added", "updated", "unchanged"}:
            yield each.ref


def _synced(result: SyncedFolder, console: Console) -> Iterator[RenderableType]:
    rows = [
        [Cell(each.folder, "bold"), each.ref, Cell(each.outcome, _STYLES[each.outcome]), each.reason]
        for each in result.adapters
    ]
    outcome = "outcome" if result.applied else "would be"
    if rows:
        yield table(console, ["folder", "version", outcome, "because"], rows, prose=["because"])
