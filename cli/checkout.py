"""``registry checkout``."""

import click

from registry import exports

from . import _options as options
from ._render import emit, warn
from ._views import checkout


@click.command("checkout")
@click.argument("ref")
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option(
    "--for",
    "for_",
    metavar="FORMAT",
    help=f"What loads it: {', '.join(exports.names())}; PEFT as it is today if not given.",
)
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --for vllm: this rank for all modules, cut optimally where they have more.",
)
@click.option(
    "--base-path",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="With --for gguf: folder with the base model's config.json.",
)
@options.common
def command(ref: str, directory: str, *, for_: str | None, rank: int | None, base_path: str | None) -> None:
    """Write a version as a PEFT folder, or for another program.

    PeftModel.from_pretrained loads the plain folder. With --for it is what vLLM, an old PEFT or llama.cpp loads, checked
    by reading it back. DIR must not exist.

    For example:

      registry checkout detox@prod ./detox

      registry checkout detox@prod ./detox-gguf --for gguf --base-path ./base
    """
    with options.open_registry() as catalog:
        result = catalog.checkout(ref, directory, for_=for_, rank=rank, base_path=base_path)
    warn(result.warnings)
    emit(result, checkout, quiet=lambda result: [result.ref])
