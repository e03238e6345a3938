"""``registry db``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import Registry
from registry.errors import Stale

from ._errors import redact
from ._options import common
from ._parts import line
from ._render import emit
from ._text import few
from ._views import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Schema


@click.group("db")
@common
def command() -> None:
    """Look after the catalog's database schema."""


@command.command("upgrade")
@common
def upgrade() -> None:
    """Bring the schema to this release's revision.

    Each step is one transaction.

    For example:

      registry db upgrade
    """
    emit(_shown(Registry.upgrade()), schema, quiet=_revision)


@command.command("current")
@common
def current() -> None:
    """Print the schema revision of the catalog, or "none".

    For example:

      registry db current
    """
    emit(_shown(Registry.schema()), _current, quiet=_revision)


@command.command("check")
@common
def check() -> None:
    """Compare the schema with the one this release needs.

    Tables, columns, indexes, constraints, defaults and triggers that were changed by hand are named. The exit code is 6
    when anything differs.

    For example:

      registry db check
    """
    result = _shown(Registry.check_schema())
    emit(result, schema, quiet=_revision)
    if result.problems:
        raise Stale(
            f"the catalog's tables were changed by hand: {few(result.problems, most=3)}",
            hint="undo it, or restore a backup into a new catalog: registry backup, registry restore",
        )
    if not result.ok:
        raise Stale(
            f"the catalog's schema is {result.current or 'none'}, this release needs {result.head}",
            hint="run 'registry db upgrade'",
        )


def _shown(result: Schema) -> Schema:
    """The same without a password in the URL."""
    return result.model_copy(update={"url": redact(result.url)})


def _revision(result: Schema) -> list[str]:
    return [result.current or "none"]


def _current(result: Schema, _: Console) -> Iterator[RenderableType]:
    yield line(*_revision(result))
