"""``registry check``."""

import click

from . import _options as options
from ._group import Signed
from ._render import emit, warn
from ._views import check


@click.command("check", cls=Signed)
@click.argument("expression")
@options.rank
@options.energy
@options.dtype("Data type of the result, by default that of the inputs.")
@options.common
def command(expression: str, rank: int | None, energy: str | None, dtype: str | None) -> None:
    """Explain what composing EXPRESSION would do. Writes nothing.

    Its inputs must exist, and be of one kind and on one base model.

    For example:

      registry check "yelp - (yelp-lm - amazon-lm)"
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog:
        result = catalog.check(expression, rank=rank, energy=energy, dtype=dtype)
    warn(result.warnings)
    emit(result, check, quiet=lambda found: [source.ref for source in found.inputs])
