"""``registry diff``."""

import click

from ._options import base_values, common, open_registry
from ._render import emit
from ._views import difference


@click.command("diff")
@click.argument("before", metavar="REF")
@click.argument("after", metavar="REF")
@base_values
@common
def command(before: str, after: str, *, base_path: str | None) -> None:
    """Show how two versions differ.

    Metadata, inputs with their coefficients, and the weights of each module.

    For example:

      registry diff detox@1 detox@2
    """
    with open_registry() as catalog:
        result = catalog.diff(before, after, base_path=base_path)
    emit(result, difference, quiet=lambda result: [result.before, result.after])
