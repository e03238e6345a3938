"""``registry convert``."""

import click

from . import _options as options
from ._render import emit, progress, warn
from ._views import composed


@click.command("convert")
@click.argument("ref")
@click.option(
    "--to", type=click.Choice(["lora"]), default="lora", show_default=True, help="The kind to make."
)
@click.option("--name", metavar="NAME", help="What to call the result, by default REF's name and the kind.")
@options.rank
@options.energy
@click.option(
    "--initial", metavar="REF", help="The adapter before training, where its initialization changed the base."
)
@options.dtype("Data type of the result, by default that of the input.")
@options.device
@options.base_values
@options.tags
@options.note
@options.common
def command(
    *,
    ref: str,
    to: str,
    name: str | None,
    rank: int | None,
    energy: str | None,
    initial: str | None,
    dtype: str | None,
    device: str,
    base_path: str | None,
    tags: dict[str, str],
    note: str | None,
) -> None:
    """Write an adapter of another type as a LoRA.

    LoHa, LoKr and VeRA are exact at a rank of their own; DoRA needs the base model and a rank; PiSSA, OLoRA and
    CorDA need the adapter as it was before training. What a rank loses is shown.

    For example:

      registry convert style-loha --rank 16
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.convert(
            ref, to=to, name=name, rank=rank, energy=energy, initial=initial, dtype=dtype,
            device=device, base_path=base_path, tags=tags, note=note, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, composed, quiet=lambda version: [version.ref])
