"""``registry log``."""

import click

from ._options import common, open_registry
from ._render import emit_all
from ._tables import history


@click.command("log")
@click.argument("name")
@common
def command(name: str) -> None:
    """List all versions of NAME, newest first, deleted ones too.

    For example:

      registry log toxic
    """
    with open_registry() as catalog:
        results = catalog.log(name)
    emit_all(results, history, quiet=lambda result: result.ref, empty=f"{name} has no versions")
