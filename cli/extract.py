"""``registry extract``."""

import click

from . import _options as options
from ._render import emit, progress, warn
from ._views import extracted


@click.command("extract")
@click.argument("base")
@click.argument("finetuned")
@click.argument("name")
@options.rank
@options.energy
@options.dtype("Data type of the result, by default float32.")
@click.option("--base", "repo", metavar="REPO[@REVISION]", help="What BASE is called, if it is a folder.")
@options.task
@options.tags
@click.option("--license", metavar="ID", help="License identifier, such as apache-2.0.")
@options.note
@options.common
def command(
    *,
    base: str,
    finetuned: str,
    name: str,
    rank: int | None,
    energy: str | None,
    dtype: str | None,
    repo: str | None,
    task: str | None,
    tags: dict[str, str],
    license: str | None,  # noqa: A002  (the option's own word)
    note: str | None,
) -> None:
    """Catalog what fine-tuning changed, as the next version of NAME.

    BASE and FINETUNED are checkpoint folders or hf://owner/repo[@revision]. With --rank or --energy the result
    is a LoRA, and the error is shown; without, it is a task vector: the difference of every changed parameter.

    For example:

      registry extract ./llama ./llama-chat chat --rank 64 --base meta-llama/Llama-3.2-1B
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.extract(
            base, finetuned, name, rank=rank, energy=energy, dtype=dtype, repo=repo,
            task=task, tags=tags, license=license, note=note, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, extracted, quiet=lambda version: [version.ref])
