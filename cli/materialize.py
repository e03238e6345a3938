"""``registry materialize``."""

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._render import emit, progress, warn
from ._views import materialized, plan

if TYPE_CHECKING:
    from registry.results import Target


@click.command("materialize")
@click.argument("ref")
@options.into
@options.base_path
@click.option(
    "--out", type=click.Path(), metavar="DIR", help="Write a new folder; else keep it in the blob store."
)
@options.devices
@options.dtype("Data type of a merged model.")
@click.option(
    "--max-shard-size", type=options.size, metavar="SIZE", help="Split a model's files, such as 5GB."
)
@click.option("--explain", is_flag=True, help="Print what would be read, computed and written; do nothing.")
@options.common
def command(
    *,
    ref: str,
    into: "Target",
    base_path: str | None,
    out: str | None,
    device: str,
    dtype: str | None,
    max_shard_size: int | None,
    explain: bool,
) -> None:
    """Compute a version as an adapter, or merged into its base.

    For example:

      registry materialize detox --as model --base-path ./llama --out ./detox-model
    """
    if explain:
        if out is not None:
            raise click.UsageError("--explain writes nothing, so --out has no meaning")
        with options.open_registry() as catalog:
            planned = catalog.explain(
                ref, into=into, base_path=base_path, device=device, dtype=dtype, max_shard_size=max_shard_size
            )
        warn(planned.warnings)
        emit(planned, plan, quiet=lambda result: [result.ref])
        return
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.materialize(
            ref, into=into, base_path=base_path, out=out, device=device,
            dtype=dtype, max_shard_size=max_shard_size, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    warn(f"this recipe has also given {digest}" for digest in result.differs)
    emit(result, materialized, quiet=lambda version: [version.ref])
