"""``registry checkout``."""

import click

from ._options import common, open_registry
from ._render import emit, warn
from ._views import checkout


@click.command("checkout")
@click.argument("ref")
@click.argument("directory", metavar="DIR", type=click.Path())
@common
def command(ref: str, directory: str) -> None:
    """Write a version as a PEFT folder.

    PeftModel.from_pretrained and vLLM load it. DIR must not exist.

    For example:

      registry checkout detox@prod ./detox
    """
    with open_registry() as catalog:
        result = catalog.checkout(ref, directory)
    warn(result.warnings)
    emit(result, checkout, quiet=lambda result: [result.ref])
