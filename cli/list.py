"""``registry list``."""

import click

from . import _options as options
from ._render import emit_all, hint
from ._tables import versions


@click.command("list")
@click.option("--base", metavar="REPO[@REVISION]", help="Only adapters of this base model.")
@click.option("--task", metavar="TASK", help="Only adapters for this task.")
@click.option("--kind", metavar="KIND", help="Only adapters of this kind, such as lora or ia3.")
@options.tags
@click.option(
    "--sort",
    type=click.Choice(["name", "created", "size"]),
    default="name",
    show_default=True,
    help="By name, newest first, or largest first.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most this many."
)
@click.option("--after", metavar="TOKEN", help="Continue where the page before ended.")
@options.common
def command(
    *,
    base: str | None,
    task: str | None,
    kind: str | None,
    tags: dict[str, str],
    sort: str,
    limit: int,
    after: str | None,
) -> None:
    """List adapters that fit every filter.

    Each at its latest version, a page at a time.

    For example:

      registry list --task sentiment --tag team=safety --sort created
    """
    with options.open_registry() as catalog:
        page = catalog.list(base=base, task=task, kind=kind, tags=tags, sort=sort, limit=limit, after=after)
    emit_all(page.versions, versions, quiet=lambda result: result.ref, empty="no adapters found")
    if page.next:
        hint(f"there are more: repeat the command with --after {page.next}")
