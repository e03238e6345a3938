"""``registry base``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry
from ._parts import fitting, line, panel, table
from ._render import emit, emit_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from registry.results import BaseAlias, BaseModelInfo

    from ._parts import Screen


@click.group("base")
@common
def command() -> None:
    """Base models: list, look at, name, and record them."""


@command.command("list")
@common
def list_() -> None:
    """List the base models that adapters were trained on.

    For example:

      registry base list
    """
    with open_registry() as catalog:
        found = catalog.base_models()
    emit_all(found, _table, quiet=lambda base: base.name, empty="no base models")


@command.command("show")
@click.argument("base")
@click.option("--tensors", is_flag=True, help="List its tensors with their shapes.")
@common
def show(base: str, *, tensors: bool) -> None:
    """Show what is known of a base model.

    BASE is REPO[@REVISION], an alias, or the start of a fingerprint.

    For example:

      registry base show llama3
    """
    with open_registry() as catalog:
        found = catalog.base_model(base)
        held = catalog.base_tensors(base) if tensors else {}

    def view(result: BaseModelInfo, console: Console) -> Iterator[RenderableType]:
        yield from _shown(result, console)
        if held:
            rows = [[name, dtype, "×".join(map(str, shape))] for name, (dtype, shape) in sorted(held.items())]
            yield table(console, ["tensor", "dtype", "shape"], rows)

    emit(found, view, quiet=lambda result: [result.name])


@command.command("add")
@click.argument("base")
@click.option(
    "--base-path",
    type=click.Path(),
    metavar="DIR",
    help="Its checkpoint folder; by default the Hub is asked.",
)
@click.option("--replace", is_flag=True, help="What is recorded so far is wrong.")
@common
def add(base: str, base_path: str | None, *, replace: bool) -> None:
    """Record what a base model's weights are and hold.

    BASE is REPO[@REVISION], as adapters name it. Adapters that are added later are checked against its tensors. From
    the Hub only digests and headers are read.

    For example:

      registry base add meta-llama/Llama-3.1-8B

      registry base add team/llama --base-path ./llama
    """
    with open_registry() as catalog:
        emit(
            catalog.add_base_model(base, base_path=base_path, replace=replace),
            _shown,
            quiet=lambda r: [r.name],
        )


@command.command("license")
@click.argument("base")
@click.argument("license_", metavar="ID", required=False)
@click.option("--forget", is_flag=True, help="Forget what is recorded.")
@common
def license_(base: str, license_: str | None, *, forget: bool) -> None:
    """Record a base model's license, such as llama3.1.

    What adapters and compositions on it are published under follows from it. By default it is what the model's card on
    the Hub says when it is needed first.

    For example:

      registry base license meta-llama/Llama-3.1-8B llama3.1
    """
    if forget == (license_ is not None):
        raise click.UsageError("give either a license or --forget")
    with open_registry() as catalog:
        emit(catalog.set_base_license(base, license_), _shown, quiet=lambda result: [result.name])


@command.group("alias")
@common
def alias() -> None:
    """Short names for base models, which --base takes."""


@alias.command("set")
@click.argument("alias_", metavar="ALIAS")
@click.argument("base")
@common
def alias_set(alias_: str, base: str) -> None:
    """Let ALIAS stand for a base model.

    For example:

      registry base alias set llama3 meta-llama/Llama-3.1-8B
    """
    with open_registry() as catalog:
        emit(catalog.set_base_alias(alias_, base), _aliased, quiet=lambda result: [result.alias])


@alias.command("list")
@common
def alias_list() -> None:
    """List the short names of base models.

    For example:

      registry base alias list
    """
    with open_registry() as catalog:
        found = catalog.base_aliases()
    emit_all(found, _aliases, quiet=lambda result: result.alias, empty="no aliases")


@alias.command("delete")
@click.argument("alias_", metavar="ALIAS")
@common
def alias_delete(alias_: str) -> None:
    """Remove a short name. Prints it as it was.

    For example:

      registry base alias delete llama3
    """
    with open_registry() as catalog:
        emit(catalog.delete_base_alias(alias_), _removed, quiet=lambda result: [result.alias])


def _shown(result: BaseModelInfo, console: Console) -> Iterator[RenderableType]:
    seen = None
    if result.tensors is not None:
        seen = f"{result.tensors:,} tensors, {result.parameters:,} parameters, {', '.join(result.dtypes)}"
    yield panel(
        line((result.name, "bold")),
        [
            ("aliases", result.aliases),
            ("fingerprint", fitting(result.fingerprint, console) or "its weights were not seen yet"),
            ("same as", result.same_as),
            ("holds", seen),
            ("license", result.license),
            ("versions", result.versions),
        ],
    )


def _table(results: Sequence[BaseModelInfo], console: Screen) -> RenderableType:
    rows = [
        [b.name, b.aliases, b.versions, b.parameters, b.same_as, fitting(b.fingerprint, console)]
        for b in results
    ]
    columns = ["base model", "aliases", "versions", "parameters", "same as", "fingerprint"]
    return table(console, columns, rows, spare=["fingerprint", "parameters"])


def _aliases(results: Sequence[BaseAlias], console: Screen) -> RenderableType:
    return table(console, ["alias", "base model"], [[a.alias, a.base_model] for a in results])


def _aliased(result: BaseAlias, _: Console) -> Iterator[RenderableType]:
    yield line((result.alias, "bold"), " → ", (result.base_model, "bold"))


def _removed(result: BaseAlias, _: Console) -> Iterator[RenderableType]:
    yield line("removed ", (result.alias, "bold"), f", which stood for {result.base_model}")
