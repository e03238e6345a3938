"""``registry list``."""

import click

from . import _options as options
from ._render import emit_all, hint
from ._tables import versions
from ._text import few


@click.command("list")
@click.argument("filter", required=False, metavar="[FILTER]")
@click.option("--base", metavar="REPO[@REVISION]", help="Only adapters of this base model, or alias of one.")
@click.option("--task", metavar="TASK", help="Only adapters for this task.")
@click.option("--kind", metavar="KIND", help="Only adapters of this kind, such as lora or ia3.")
@options.tags
@click.option(
    "--latest/--all",
    default=None,
    help="Only the latest version of each adapter (as without FILTER), or every live one (as with FILTER).",
)
@click.option(
    "--sort",
    type=click.Choice(["name", "created", "size", "parameters"]),
    help="By name (as without FILTER), newest first (as with FILTER or --all), or largest first.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most this many."
)
@click.option(
    "--page-token", "--after", "after", metavar="TOKEN", help="Continue where the page before ended."
)
@options.common
def command(
    *,
    filter: str | None,  # noqa: A002  (its name in the help)
    base: str | None,
    task: str | None,
    kind: str | None,
    tags: dict[str, str],
    latest: bool | None,
    sort: str | None,
    limit: int,
    after: str | None,
) -> None:
    """List the versions that fit FILTER and every option.

    A page at a time. FILTER compares what is known of a version, or is words to search for in names, notes and tags; docs/filters.md
    has all of it. The token of the next page goes to stderr.

    For example:

      registry list --task sentiment --tag team=safety --sort created

      registry list "task = 'qa' AND eval.accuracy['squad'] > 0.8 AND NOT stale = true"

      registry list "ancestor = 'toxic@2' OR tag.team IN ('safety', 'red')" --format quiet
    """
    from registry import filters

    with options.open_registry() as catalog:
        page = catalog.list(
            filter,
            base=base,
            task=task,
            kind=kind,
            tags=tags,
            latest=latest,
            sort=sort,
            limit=limit,
            after=after,
        )
    emit_all(page.versions, versions, quiet=lambda result: result.ref, empty="no adapters found")
    if filter and not page.versions and (words := filters.searched(filters.parse(filter))):
        hint(f"searched names, notes and tags for {few(words)}; a condition is KEY OPERATOR VALUE")
    if page.next:
        hint(f"there are more: repeat the command with --page-token {page.next}")
