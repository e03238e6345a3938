"""``registry methods``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import Registry

from ._options import common
from ._parts import Cell, line, panel, table, text
from ._render import emit, emit_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from registry.results import MethodInfo, MethodParameter

    from ._parts import Screen


@click.command("methods")
@click.argument("name", metavar="[METHOD]", required=False)
@common
def command(name: str | None) -> None:
    """List the merge methods, or tell everything about one.

    Its formula and source, its parameters, its cost, and how to get from it what other libraries give.

    For example:

      registry methods ties
    """
    if name is None:
        emit_all(Registry.methods(), _all, quiet=_name, empty="no methods")
    else:
        emit(Registry.method(name), _one, quiet=lambda method: [_name(method)])


def _name(method: MethodInfo) -> str:
    return method.name


def _all(methods: Sequence[MethodInfo], console: Screen) -> RenderableType:
    rows = [
        [Cell(m.name, "bold"), m.summary, m.domain, m.kinds, [parameter.name for parameter in m.parameters]]
        for m in methods
    ]
    columns = ["method", "summary", "domain", "kinds", "parameters"]
    return table(console, columns, rows, spare=["kinds", "parameters"])


def _one(method: MethodInfo, _: Console) -> Iterator[RenderableType]:
    yield panel(
        line((method.name, "bold")),
        [
            ("summary", method.summary),
            ("formula", text(method.formula, "cyan")),
            ("source", method.source),
            ("domain", method.domain),
            ("kinds", method.kinds),
            ("inputs", method.inputs),
            ("cost", method.cost),
            ("in PEFT", method.in_peft or "—"),
            ("in mergekit", method.in_mergekit or "—"),
            ("in adapters", method.in_adapters or "—"),
            ("example", method.example),
        ],
    )
    for paragraph in method.definition.split("\n\n"):
        yield line(paragraph)
    if method.parameters:
        yield panel(line(("parameters", "bold")), [(p.name, _explained(p)) for p in method.parameters])


def _explained(parameter: MethodParameter) -> str:
    given = f", by default {parameter.default}" if parameter.default else ""
    return f"{parameter.type}{', required' if parameter.required else given}: {parameter.description}"
