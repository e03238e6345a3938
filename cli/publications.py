"""``registry publications``."""

import click

from registry.errors import HubUnavailable, Stale

from ._options import common, open_registry
from ._render import emit_all, warn
from ._tables import publications
from ._text import few, plural

_AS_PUBLISHED = {"same", "superseded", "open"}


@click.command("publications")
@click.argument("ref", required=False)
@click.option(
    "--check",
    is_flag=True,
    help="Ask the Hub; exit code 6 when any of it moved, changed or is gone, 1 when some could not be asked for.",
)
@common
def command(ref: str | None, *, check: bool) -> None:
    """List what was published where.

    With --check, a repo whose branch did not move takes one request. Its files are looked at where it did.

    For example:

      registry publications detox --check
    """
    with open_registry() as catalog:
        results = catalog.publications(ref, check=check)
    emit_all(results, publications, quiet=lambda result: result.ref, empty="nothing was published")
    if not check:
        return
    unknown = [result for result in results if result.remote is None and result.state == "done"]
    warn(f"{result.ref} in {result.repo}: {warning}" for result in unknown for warning in result.warnings)
    odd = [
        f"{result.ref} in {result.repo} {result.remote}"
        for result in results
        if result.remote is not None and result.remote not in _AS_PUBLISHED
    ]
    if odd:
        raise Stale(
            f"{plural(len(odd), 'publication')} of {len(results)} no longer as published: {few(odd)}",
            hint="publish again (what rules ask for: registry sync --repair), or look at the repo's history",
        )
    if unknown:
        raise HubUnavailable(
            f"{plural(len(unknown), 'publication')} of {len(results)} could not be checked",
            hint="try again later",
        )
