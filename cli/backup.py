"""``registry backup``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry import Registry
from registry.errors import UsageError

from ._options import common
from ._parts import line, table
from ._render import emit, hint, mode, progress
from ._text import shown, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Backup


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--with-blobs/--no-blobs", "blobs", default=True, show_default=True, help="With the bytes, or without."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists, once the new one is whole.")
@click.option("--check", is_flag=True, help="Write nothing: read FILE, and say whether it is whole.")
@common
def command(file: str, *, blobs: bool, force: bool, check: bool) -> None:
    """Write a backup of the catalog to FILE, or check one.

    It holds everything exactly as it is: every row, and the bytes unless --no-blobs. The catalog may be in use
    meanwhile, and may be of an earlier release. FILE is private to you. With --check the exit code is 5 or 7 if it is
    damaged.

    For example:

      registry backup catalog.backup
    """
    if check and (force or not blobs):
        raise UsageError("--check writes nothing", hint="leave out --force and --no-blobs")
    with progress() as advance:
        if check:
            result = Registry.check_backup(file, progress=advance)
        else:
            result = Registry.backup(file, with_blobs=blobs, replace=force, progress=advance)
    emit(result, lambda it, to: _shown(it, to, checked=check), quiet=lambda backup: [backup.digest])
    if mode() == "human" and not result.blobs:
        hint("this backup is without bytes: keep a copy of the blobs too, made after it")


def _shown(result: Backup, console: Console, *, checked: bool) -> Iterator[RenderableType]:
    what = "with blobs" if result.blobs else "without blobs"
    verb = "whole " if checked else "backed up to "
    yield line((verb, "green"), (result.path, "bold"), f", {size(result.size)}, {what}")
    yield line(f"schema {result.schema_revision}, taken {shown(result.taken)}, ", (result.digest, "cyan"))
    rows = [[name.replace("_", " "), count] for name, count in result.counts.items() if count]
    if rows:
        yield table(console, ["rows", "number"], rows)
