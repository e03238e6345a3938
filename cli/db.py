"""``registry db``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import Registry
from registry._secrets import redact
from registry.errors import Stale

from ._options import common
from ._parts import line
from ._render import emit, mode
from ._text import few
from ._views import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Roles, Schema


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


@command.command("roles")
@click.option(
    "--prefix",
    default="registry",
    show_default=True,
    metavar="WORD",
    help="What the roles' names begin with.",
)
@click.option("--apply", is_flag=True, help="Run the statements, in one transaction.")
@click.option("--check", "comparing", is_flag=True, help="Exit with 6 when what is granted differs.")
@common
def roles(*, prefix: str, apply: bool, comparing: bool) -> None:
    """Print the SQL that makes PostgreSQL's roles, or run it.

    PREFIX_reader, _contributor, _publisher and _admin each have the rights of the one before. Grant one of them to each person's login role; an administrator owns the tables. Applying it again changes nothing, and takes back what is too much.

    For example:

      registry db roles --apply
    """
    if apply and comparing:
        raise click.UsageError("--apply and --check exclude each other")
    result = Registry.roles(prefix=prefix, apply=apply)
    if mode() == "json" or not (apply or comparing):
        emit(result, _sql, quiet=_script)
    elif apply:
        emit(result, _roles, quiet=lambda found: found.roles)
    else:
        emit(result, _differing, quiet=lambda found: found.differences)
    if comparing and result.differences:
        raise Stale(
            f"{len(result.differences)} rights differ from those of the roles {prefix}_…",
            hint="run 'registry db roles --apply'",
        )


def _script(result: Roles) -> Iterator[str]:
    for statement in result.sql:
        yield from f"{statement};".splitlines()


def _sql(result: Roles, _: Console) -> Iterator[RenderableType]:
    yield from map(line, _script(result))


def _roles(result: Roles, _: Console) -> Iterator[RenderableType]:
    yield line(f"{', '.join(result.roles)}: grant one of them to each person's login role")


def _differing(result: Roles, _: Console) -> Iterator[RenderableType]:
    for difference in result.differences:
        yield line(difference)


def _shown(result: Schema) -> Schema:
    """The same without a password in the URL."""
    return result.model_copy(update={"url": redact(result.url)})


def _revision(result: Schema) -> list[str]:
    return [result.current or "none"]


def _current(result: Schema, _: Console) -> Iterator[RenderableType]:
    yield line(*_revision(result))
