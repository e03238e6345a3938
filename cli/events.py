"""``registry events``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._options import common, open_registry, time
from ._render import emit_all, hint
from ._tables import events

if TYPE_CHECKING:
    from datetime import datetime


@click.command("events")
@click.argument("subject", required=False)
@click.option("--actor", "--by", metavar="NAME", help="Only what this one did.")
@click.option(
    "--action",
    metavar="ACTION",
    help="Only import, compose, rebuild, alias, protect, revoke, tag, note, publish, delete and so on.",
)
@click.option(
    "--since",
    type=time,
    metavar="TIME",
    help="From this time on: ISO 8601, in UTC without a zone, or 7d for a week ago.",
)
@click.option("--until", type=time, metavar="TIME", help="Before this time.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most this many.",
)
@click.option(
    "--before", type=click.IntRange(min=1), metavar="ID", help="Go on after the event with this id."
)
@common
def command(
    subject: str | None,
    *,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    before: int | None,
) -> None:
    """Show who changed what and when, newest first.

    SUBJECT is an adapter, with all its versions, or one version.

    For example:

      registry events toxic --action alias --since 2026-08-01
    """
    with open_registry() as catalog:
        found = catalog.events(
            subject,
            actor=actor,
            action=action,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )
    emit_all(
        found,
        events,
        quiet=lambda event: event.subject,
        empty=f"no events of {subject}" if subject else "no events",
    )
    if len(found) == limit:
        hint(f"there may be more: --before {found[-1].id}")
