"""``registry compose``."""

import click

from . import _options as options
from ._group import Signed
from ._render import emit, progress, warn
from ._views import composed


@click.command("compose", cls=Signed)
@click.argument("name")
@click.argument("expression")
@options.rank
@options.energy
@options.dtype("Data type of the result, by default that of the inputs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of methods that draw at random.")
@options.device
@options.base_values
@options.task
@options.tags
@options.note
@options.common
def command(
    *,
    name: str,
    expression: str,
    rank: int | None,
    energy: str | None,
    dtype: str | None,
    seed: int,
    device: str,
    base_path: str | None,
    task: str | None,
    tags: dict[str, str],
    note: str | None,
) -> None:
    """Compute EXPRESSION as the next version of NAME.

    The inputs are pinned, so that the result can be explained and rebuilt. A recipe whose output is known
    is not computed again.

    For example:

      registry compose detox "alpaca@prod - 0.4*toxic"

      registry compose neg "-toxic"
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.compose(
            name, expression, rank=rank, energy=energy, dtype=dtype, seed=seed,
            device=device, base_path=base_path, task=task, tags=tags, note=note, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, composed, quiet=lambda version: [version.ref])
