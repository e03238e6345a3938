"""``registry add``."""

import click

from . import _options as options
from ._render import emit, warn
from ._views import added


@click.command("add")
@click.argument("source")
@click.argument("name")
@click.option(
    "--base", metavar="REPO[@REVISION]", help="Base model, by default what the adapter's config says."
)
@options.base_path
@options.task
@options.tags
@click.option("--license", metavar="ID", help="License identifier, such as apache-2.0.")
@click.option(
    "--parent", "parents", metavar="REF", multiple=True, help="A version it was trained from, repeatable."
)
@options.note
@click.option("--new", is_flag=True, help="Refuse a name that exists.")
@options.common
def command(
    *,
    source: str,
    name: str,
    base: str | None,
    base_path: str | None,
    task: str | None,
    tags: dict[str, str],
    license: str | None,  # noqa: A002  (the option's own word)
    parents: tuple[str, ...],
    note: str | None,
    new: bool,
) -> None:
    """Catalog an adapter as the next version of NAME.

    SOURCE is a PEFT folder or hf://owner/repo[@revision]. Adding content that the adapter already has is a
    no-op that says so.

    For example:

      registry add ./toxic-lora toxic --task toxicity --tag team=safety
    """
    with options.open_registry() as catalog:
        result = catalog.add(
            source, name, base=base, base_path=base_path, task=task, tags=tags,
            license=license, parents=parents, note=note, new=new,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, added, quiet=lambda version: [version.ref])
