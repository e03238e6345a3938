"""``registry add``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from registry.errors import Refused

from . import _options as options
from ._parts import Cell, line, table
from ._render import emit, progress, warn
from ._text import plural
from ._views import added

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import AddedAll


@click.command("add")
@click.argument("source")
@click.argument("name", required=False)
@click.option("--recursive", is_flag=True, help="Add every adapter in and below the folder SOURCE.")
@click.option(
    "--prefix", metavar="GROUP", help="With --recursive: the group of all names, as in GROUP/run-1."
)
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
@click.option("--no-provenance", is_flag=True, help="Of a Hub repo: ignore what its provenance.json tells.")
@options.common
def command(
    *,
    source: str,
    name: str | None,
    recursive: bool,
    prefix: str | None,
    base_path: str | None,
    parents: tuple[str, ...],
    new: bool,
    no_provenance: bool,
    **said: Any,
) -> None:
    """Catalog an adapter as the next version of NAME.

    SOURCE is a PEFT folder or hf://owner/repo[@revision]. Adding content that the adapter already has is a
    no-op that says so. What a registry published comes with its recipe and lineage: what it was derived from is
    recorded as known, and its bytes can be had with registry fetch.

    With --recursive every PEFT folder in or below SOURCE is added under a name made from its path. What is refused is
    listed with the reason, and the exit code is 7; doing it again goes on with what is new or changed.

    For example:

      registry add ./toxic-lora toxic --task toxicity --tag team=safety

      registry add --recursive ./runs --prefix nightly
    """
    if recursive:
        if name is not None or base_path is not None or parents or new or no_provenance:
            raise click.UsageError(
                "--recursive takes no NAME, --base-path, --parent, --new or --no-provenance"
            )
        _add_all(source, prefix, said)
        return
    if name is None:
        raise click.UsageError("missing argument 'NAME'")
    if prefix is not None:
        raise click.UsageError("--prefix needs --recursive")
    with options.open_registry() as catalog:
        result = catalog.add(
            source, name, base_path=base_path, parents=parents, new=new, provenance=not no_provenance, **said
        )
    warn(result.warnings)
    emit(result, added, quiet=lambda version: [version.ref])


def _add_all(source: str, prefix: str | None, said: dict[str, Any]) -> None:
    with options.open_registry() as catalog, progress() as advance:
        result = catalog.add_all(source, prefix=prefix, progress=advance, **said)
    emit(result, _added_all, quiet=lambda all_: [each.ref for each in all_.found if each.ref is not None])
    if result.refused:
        raise Refused(
            f"{plural(result.refused, 'adapter')} of {len(result.found)} refused",
            hint="the others are there; run it again once these are mended",
        )


def _added_all(result: AddedAll, console: Console) -> Iterator[RenderableType]:
    yield line(
        ("added ", "green"), plural(result.added, "adapter"), f", {result.present:,} there already, ",
        (f"{result.refused:,} refused", "red" if result.refused else ""),
    )  # fmt: skip
    renamed = [[each.path, Cell(each.name, "bold")] for each in result.found if not each.named]
    if renamed:
        yield table(console, ["path", "name"], renamed, title="named otherwise than their paths")
    warned = [[each.ref, "; ".join(each.warnings)] for each in result.found if each.warnings]
    if warned:
        yield table(console, ["version", "not composable"], warned)
    refused = [[each.path, each.error, each.hint] for each in result.found if each.outcome == "refused"]
    if refused:
        yield table(
            console,
            ["path", "refused because", "hint"],
            refused,
            title="refused",
            prose=["refused because", "hint"],
        )
