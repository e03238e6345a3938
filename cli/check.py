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
@click.option(
    "--conflicts/--no-conflicts",
    default=None,
    help="Compare the inputs in all modules, or not at all; by default in as many as take about two seconds.",
)
@options.base_values
@options.common
def command(
    *,
    expression: str,
    rank: int | None,
    energy: str | None,
    dtype: str | None,
    base_path: str | None,
    conflicts: bool | None,
) -> None:
    """Explain what composing EXPRESSION would do. Writes nothing.

    Its inputs must exist, and be of one kind and on one base model. They are compared two by two, each with the sign
    of its coefficient, where both have a module: by the cosine of their deltas (1 the same direction, -1 they cancel),
    by the overlap of the spaces that columns and rows span (0 to 1), and by the share of elements with the same sign
    (half, for unrelated adapters).

    For example:

      registry check "yelp - (yelp-lm - amazon-lm)"
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog:
        result = catalog.check(
            expression, rank=rank, energy=energy, dtype=dtype, base_path=base_path, conflicts=conflicts
        )
    warn(result.warnings)
    emit(result, check, quiet=lambda found: [source.ref for source in found.inputs])
