"""Look things up: versions, listings, history, lineage. Nothing here touches a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from registry import reference
from registry.catalog import lineage as graph
from registry.catalog import references, search, views
from registry.catalog.database import Database
from registry.errors import UsageError
from registry.results import Lineage, Page, Version
from registry.verbs._text import check_tags, check_text

Direction = Literal["up", "down"]


def show(database: Database, ref: str) -> Version:
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref), deleted=True)
        return views.version(session, pin.id)


def listing(
    database: Database,
    *,
    base: str | None,
    task: str | None,
    kind: str | None,
    tags: Mapping[str, str],
    sort: str,
    limit: int,
    after: str | None,
) -> Page:
    for what, text in (("base", base), ("task", task), ("kind", kind)):
        if text is not None:
            check_text(what, text)
    check_tags(tags)
    with database.read() as session:
        return search.listing(
            session, base=base, task=task, kind=kind, tags=tags, sort=sort, limit=limit, after=after
        )


def log(database: Database, name: str) -> tuple[Version, ...]:
    reference.check_name(name)
    with database.read() as session:
        return search.log(session, name)


def lineage(database: Database, ref: str, *, direction: Direction, depth: int | None) -> Lineage:
    if direction not in get_args(Direction):
        raise UsageError(f"there is no direction {direction!r}", hint="one of: up, down")
    if depth is not None and depth < 0:
        raise UsageError(f"a depth of {depth} makes no sense", hint="--depth is 0 or more")
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref), deleted=True)
        return graph.lineage(session, pin, direction=direction, depth=depth)
