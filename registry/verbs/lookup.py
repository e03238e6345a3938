"""Look things up: versions, listings, history, lineage. Nothing here touches a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, get_args

from sqlalchemy.orm import Session

from registry import filters, reference
from registry.catalog import events as journal
from registry.catalog import lineage as graph
from registry.catalog import references, search, views
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import UsageError
from registry.results import Compared, Comparison, Event, Lineage, Page, Pinned, Version
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


def compare(database: Database, ref: str, *, depth: int) -> Comparison:
    if depth < 1:
        raise UsageError(f"a depth of {depth} compares with nothing", hint="--depth is at least 1")
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref), deleted=True)
        return compared(session, pin, depth=depth)


def compared(session: Session, pin: Pin, *, depth: int) -> Comparison:
    """A version's evaluations beside those of what it was derived from, over so many steps."""
    found = views.versions(session, graph.nearest(session, pin, direction="up", depth=depth))
    refs = [version.ref for version in found]
    values = {
        version.ref: {(e.dataset, e.split, e.metric): e.value for e in version.evaluations}
        for version in found
    }
    keys = sorted(
        {key for each in values.values() for key in each}, key=lambda key: (key[0], key[1] or "", key[2])
    )
    rows = [
        Compared(
            metric=metric,
            dataset=dataset,
            split=split,
            value=values[pin.ref].get((dataset, split, metric)),
            others={each: values[each].get((dataset, split, metric)) for each in refs if each != pin.ref},
        )
        for dataset, split, metric in keys
    ]
    return Comparison(ref=pin.ref, others=tuple(each for each in refs if each != pin.ref), rows=tuple(rows))


def events(
    database: Database,
    *,
    subject: str | None,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    before: int | None,
) -> tuple[Event, ...]:
    if not 1 <= limit <= search.LARGEST_PAGE:
        raise UsageError(
            f"a page of {limit} makes no sense", hint=f"--limit is from 1 to {search.LARGEST_PAGE}"
        )
    for what, text in (("subject", subject), ("actor", actor), ("action", action)):
        if text is not None:
            check_text(what, text)
    with database.read() as session:
        return journal.listing(
            session,
            subject=subject,
            actor=actor,
            action=action,
            since=_in_utc(since),
            until=_in_utc(until),
            limit=limit,
            before=before,
        )


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
