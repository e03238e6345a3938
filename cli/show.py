"""``registry show``."""

import click

from ._options import common, open_registry
from ._render import emit
from ._views import version


@click.command("show")
@click.argument("ref")
@common
def command(ref: str) -> None:
    """Show everything known of a version.

    That is its facts, recipe, parents, evaluations and publications.

    For example:

      registry show toxic@prod
    """
    with open_registry() as catalog:
        emit(catalog.show(ref), version, quiet=lambda result: [result.ref])
