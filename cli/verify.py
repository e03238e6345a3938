"""``registry verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import IntegrityFailure, RegistryError, UsageError

from ._options import base_values, common, open_registry
from ._parts import Cell, table
from ._render import emit_all, emit_json, mode, say, warn
from ._tables import verifications
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from registry.results import Damage, DatabaseCheck, Verification

    from ._parts import Screen


@click.command("verify")
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option("--rebuild", is_flag=True, help="Compute derived versions again and compare the digests.")
@click.option(
    "--repair", is_flag=True, help="Put damaged bytes aside, and good copies in their places, where any are."
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="PLACE",
    help="With --repair: another blob store, catalog's home, backup or bundle to take good copies from.",
)
@click.option(
    "--key", type=click.Path(), metavar="PUB.pem", help="Of a Hub repo: the public key of its signature."
)
@base_values
@common
def command(
    refs: tuple[str, ...],
    *,
    rebuild: bool,
    repair: bool,
    sources: tuple[str, ...],
    key: str | None,
    base_path: str | None,
) -> None:
    """Check stored bytes and digests, of all versions or some.

    Without REF the database is checked as well, every row of it. Prints every version, then exits with code 5 when
    anything is not as recorded. --repair puts damaged bytes aside, and good copies in their places: from PLACE, from the Hub, or
    from the recipe. hf://owner/repo[@revision] is checked against its provenance.json, and beside this catalog, without
    downloading its weights; --rebuild makes it again.

    For example:

      registry verify detox@2 --rebuild

      registry verify --repair --from catalog.backup

      registry verify hf://team/detox --key team.pem
    """
    if sources and not repair:
        raise UsageError("--from says where good copies are taken from", hint="say --repair as well")
    database: DatabaseCheck | None = None
    results: tuple[Verification, ...] = ()
    with open_registry() as catalog:
        if not refs:
            database = catalog.verify_database(repair=repair, sources=sources, base_path=base_path)
        try:
            results = catalog.verify(
                refs, rebuild=rebuild, base_path=base_path, key=key, repair=repair, sources=sources
            )
        except (RegistryError, ValueError, LookupError, TypeError):
            if database is None or database.ok:  # otherwise it is what was found already
                raise
    _print(results, database)
    _raise(results, database, repaired=repair)


def _print(results: tuple[Verification, ...], database: DatabaseCheck | None) -> None:
    if mode() == "json":
        emit_json([*results, *([] if database is None else [database])])
        return
    emit_all(results, verifications, quiet=lambda result: result.ref, empty="there is nothing to verify")
    if database is None or mode() == "quiet":
        return
    if database.damage:
        emit_all(database.damage, _damage, quiet=str, empty="")
    if database.more:
        warn([f"{database.more} more were found and are not shown"])
    if database.quarantined:
        say(
            f"{plural(len(database.quarantined), 'damaged file')} put aside: registry gc --quarantine --apply removes them"
        )
    for note in database.notes:
        say(note)


def _damage(damage: Sequence[Damage], console: Screen) -> RenderableType:
    rows = [
        [
            Cell(each.table or "file", "bold"),
            each.row,
            Cell("repaired", "green") if each.repaired else Cell("damaged", "bold red"),
            each.problem,
            ", ".join(each.versions),
        ]
        for each in damage
    ]
    return table(
        console, ["table", "row", "state", "problem", "versions"], rows, prose=["problem", "versions"]
    )


def _raise(results: tuple[Verification, ...], database: DatabaseCheck | None, *, repaired: bool) -> None:
    """Exit code 5 while anything stays damaged."""
    said, hints = [], []
    damaged = [result for result in results if not result.ok]
    if damaged:
        names = ", ".join(result.ref for result in damaged)
        said.append(f"{plural(len(damaged), 'version')} of {len(results)} not as recorded: {names}")
        hints.append(_hint(damaged, repaired=repaired))
    if database is not None and not database.ok:
        left = [each for each in database.damage if not each.repaired]
        said.append(f"{plural(len(left) + database.more, 'thing')} in the database not as written")
        if any(each.derived for each in left):
            hints.append("registry verify --repair computes again what other rows determine")
        if any(not each.derived for each in left):
            hints.append(
                "restore the database from a backup, or registry import a bundle of it into a new one"
            )
    if said:
        raise IntegrityFailure("; ".join(said), hint="; ".join(hints))


def _hint(damaged: list[Verification], *, repaired: bool) -> str:
    there = [each.ref.startswith("hf://") for each in damaged]
    on_the_hub = "do not use what is on the Hub before you asked who published it"
    here = "registry verify --repair looks for good copies, with --from in a backup too"
    if repaired:
        here = "no good copy was found: name a backup, or another store, with --from"
    return "; ".join([*([here] if not all(there) else []), *([on_the_hub] if any(there) else [])])
