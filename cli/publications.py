"""``registry publications``."""

import click

from registry.errors import Stale

from ._options import common, open_registry
from ._render import emit_all
from ._tables import publications
from ._text import plural


@click.command("publications")
@click.argument("ref", required=False)
@click.option(
    "--check", is_flag=True, help="Ask the Hub; exit code 6 when any of it moved, changed or is gone."
)
@common
def command(ref: str | None, *, check: bool) -> None:
    """List what was published where.

    For example:

      registry publications detox --check
    """
    with open_registry() as catalog:
        results = catalog.publications(ref, check=check)
    emit_all(results, publications, quiet=lambda result: result.ref, empty="nothing was published")
    odd = [
        f"{result.ref} in {result.repo} {result.remote}"
        for result in results
        if result.remote not in (None, "same", "superseded")
    ]
    if check and odd:
        raise Stale(
            f"{plural(len(odd), 'publication')} of {len(results)} no longer as published: {', '.join(odd)}",
            hint="publish again, or look at the repo's history",
        )
