"""Look things up: versions, listings, history, lineage. Nothing here touches a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from registry import filters, reference
from registry.catalog import lineage as graph
from registry.catalog import references, search, views
from registry.catalog.database import Database
from registry.errors import UsageError
from registry.results import Lineage, Page, Pinned, Version
from registry.verbs._text import check_tags, check_text

Direction = Literal["up", "down"]


def show(database: Database, ref: str) -> Version:
    with database.glance() as session:
        pin = references.resolve(session, reference.parse(ref), deleted=True)
        return views.version(session, pin.id)


def resolve(database: Database, ref: str) -> Pinned:
    meant = reference.parse(ref)
    with database.glance() as session:
        return references.pinned(references.resolve(session, meant))


def listing(
    database: Database,
    *,
    filter: str | None,  # noqa: A002  (its name in Python and on the command line)
    base: str | None,
    task: str | None,
    kind: str | None,
    tags: Mapping[str, str],
    latest: bool | None,
    sort: str | None,
    limit: int,
    after: str | None,
) -> Page:
    for what, text in (("base", base), ("task", task), ("kind", kind)):
        if text is not None:
            check_text(what, text)
    check_tags(tags)
    where = None if filter is None else filters.parse(filter)
    with database.glance() as session:
        return search.listing(
            session,
            where=where,
            base=base,
            task=task,
            kind=kind,
            tags=tags,
            latest=latest,
            sort=sort,
            limit=limit,
            after=after,
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
