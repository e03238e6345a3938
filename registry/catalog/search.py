"""Listings: versions that fit a filter, paged by key so that every page costs the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, or_, select, true
from sqlalchemy.orm import Session

from registry.catalog import references, views
from registry.catalog._filtering import VERSION, Filtering
from registry.catalog._postings import choose
from registry.catalog.tables import AdapterRow, ArtifactRow, VersionRow
from registry.digest import of_bytes
from registry.errors import UsageError
from registry.filters import Compare, Key, Node, conjuncts, mentions
from registry.reference import Reference
from registry.results import Page, Version

LARGEST_PAGE = 1_000_000
MOST_TAGS = 100
_LONGEST_TOKEN = 1_000
_KEYS: dict[str, list[type]] = {
    "name": [str, int],
    "created": [int],
    "size": [int, str, int],
    "parameters": [int, str, int],
}
_ADAPTER, _ARTIFACT = AdapterRow.__table__.alias("a"), ArtifactRow.__table__.alias("f")
SORTS = tuple(_KEYS)


def listing(
    session: Session,
    *,
    where: Node | None = None,
    base: str | None = None,
    task: str | None = None,
    kind: str | None = None,
    tags: Mapping[str, str] | None = None,
    latest: bool | None = None,
    sort: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page:
    """A page of at most ``limit`` versions that fit everything that is asked.

    With ``latest``, which is meant where there is no filter, each adapter is shown by its latest live version.
    """
    latest = where is None if latest is None else latest
    sort = ("name" if latest and where is None else "created") if sort is None else sort
    if sort not in SORTS:
        raise UsageError(f"cannot sort by {sort!r}", hint=f"sort by one of: {', '.join(SORTS)}")
    if not 1 <= limit <= LARGEST_PAGE:
        raise UsageError(f"a page of {limit} makes no sense", hint=f"--limit is from 1 to {LARGEST_PAGE}")
    if tags is not None and len(tags) > MOST_TAGS:
        raise UsageError(f"{len(tags)} tags are too many to filter by", hint=f"at most {MOST_TAGS}")
    terms = [
        *_options(base=base, task=task, kind=kind, tags=tags or {}),
        *(conjuncts(where) if where else ()),
    ]
    asked = of_bytes(repr((terms, latest, sort)).encode())[-16:]
    last = (
        None
        if after is None
        else _read_token(after, asked, _KEYS[sort][:1] if latest and sort == "name" else _KEYS[sort])
    )
    filtering = Filtering(session)
    statement = _statement(filtering, terms, latest=latest, sort=sort, last=last, limit=limit + 1)
    rows = session.connection().execute(statement).all()
    token = _token(asked, rows[limit - 1]) if len(rows) > limit else None
    return Page(versions=views.versions(session, [row.id for row in rows[:limit]]), next=token)


def log(session: Session, name: str) -> tuple[Version, ...]:
    """All versions of an adapter, newest first, tombstones included."""
    adapter = references.adapter(session, name)
    ids = session.scalars(
        select(VersionRow.id).where(VersionRow.adapter_id == adapter.id).order_by(VersionRow.number.desc())
    )
    return views.versions(session, ids.all())


def live(session: Session) -> list[Reference]:
    """Every version that was not deleted, oldest first."""
    rows = session.execute(_LIVE.order_by(VersionRow.id))
    return [Reference(name=name, version=number) for name, number in rows]


def is_live(session: Session, ref: Reference) -> bool:
    """Whether :func:`live` lists it, whatever else is to be had of it."""
    this = _LIVE.where(AdapterRow.name == ref.name, VersionRow.number == ref.version)
    return session.execute(this).first() is not None


_LIVE = (
    select(AdapterRow.name, VersionRow.number)
    .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
    .where(VersionRow.deleted_at.is_(None))
)


def _options(
    *, base: str | None, task: str | None, kind: str | None, tags: Mapping[str, str]
) -> Iterator[Node]:
    """What options ask, as terms of a filter."""
    for key, value in tags.items():
        yield Compare(Key("tag", key), "=", value)
    for name, text in (("base", base), ("task", task), ("kind", kind)):
        if text is not None:
            yield Compare(Key(name), "=", text)


def _statement(
    filtering: Filtering,
    terms: Sequence[Node],
    *,
    latest: bool,
    sort: str,
    last: list[Any] | None,
    limit: int,
) -> Select[*tuple[Any, ...]]:
    """The row ids and sort keys of a page: read from the rarest term, or else in the order that is asked for."""
    version = filtering.version.c
    newest_first = sort == "created"
    before = last[-1] if last is not None and newest_first else None
    source = choose(
        filtering,
        terms,
        latest=latest and sort != "name",
        newest_first=newest_first,
        before=before,
        limit=limit,
    )
    rows: FromClause = filtering.version
    row_id: ColumnElement[int] = version.id
    if source is not None:
        rows = source.source.join(filtering.version, version.id == source.ids)
        if source.ordered:
            row_id = source.ids
            filtering.read_from(source.source, source.ids)
            # What it picks by itself need not be asked again.
            terms = [term for term in terms if term is not source.term]
    keys: list[ColumnElement[Any]] = [row_id]
    if sort == "name" and latest:
        line = version.latest_of if source is None else version.adapter_id
        rows, keys = rows.join(_ADAPTER, line == _ADAPTER.c.id), [_ADAPTER.c.name_key]
    elif sort == "name":
        rows, keys = rows.join(_ADAPTER, version.adapter_id == _ADAPTER.c.id), [_ADAPTER.c.name_key, row_id]
    elif not newest_first:
        rows = rows.join(_ARTIFACT, version.artifact_digest == _ARTIFACT.c.digest)
        keys = [_ARTIFACT.c[sort], _ARTIFACT.c.digest, row_id]
    statement = select(*(key.label(f"key{place}") for place, key in enumerate(keys)), version.id.label("id"))
    statement = statement.select_from(rows).where(*(source.where if source else ()))
    statement = statement.where(*map(filtering.condition, terms))
    if latest:
        statement = statement.where(version.latest_of.is_not(None))
    elif not any(mentions(term, "deleted") for term in terms):
        statement = statement.where(version.deleted_at.is_(None))
    downwards = [key is not _ADAPTER.c.name_key for key in keys]
    if last is not None:
        statement = statement.where(_beyond(keys, last, downwards))
    order = [key.desc() if down else key for key, down in zip(keys, downwards, strict=True)]
    if sort == "name" and not latest and source is None and filtering.postgresql:
        return _line_by_line(statement, limit)
    return statement.order_by(*order).limit(limit)


def _line_by_line(statement: Select[*tuple[Any, ...]], limit: int) -> Select[*tuple[Any, ...]]:
    """The page from the newest of each line: PostgreSQL would sort a line to its end before it shows the first."""
    line = _ADAPTER.alias("line")
    newest = (
        statement.where(_ADAPTER.c.id == line.c.id)
        .order_by(VERSION.c.id.desc())
        .limit(limit)
        .lateral("newest")
    )
    paged = select(newest).select_from(line.join(newest, true()))
    return paged.order_by(line.c.name_key, newest.c.id.desc()).limit(limit)


def _beyond(
    keys: Sequence[ColumnElement[Any]], last: Sequence[Any], downwards: Sequence[bool]
) -> ColumnElement[bool]:
    """Whether a row comes after the last one that was shown."""
    key, value, down = keys[0], last[0], downwards[0]
    further: ColumnElement[bool] = key < value if down else key > value
    if len(keys) == 1:
        return further
    # The first key alone is a range of an index, which the alternatives are not.
    start = key <= value if down else key >= value
    return and_(start, or_(further, and_(key == value, _beyond(keys[1:], last[1:], downwards[1:]))))


def _token(asked: str, row: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([asked, *row[:-1]]).encode()).decode()


def _read_token(token: str, asked: str, kinds: Sequence[type]) -> list[Any]:
    """The sort keys that the page before ended with."""
    state: Any = None
    if len(token) <= _LONGEST_TOKEN:
        with suppress(ValueError, RecursionError):
            state = json.loads(base64.urlsafe_b64decode(token))
    match state:
        case [found, *keys] if found == asked and [*map(type, keys)] == [*kinds] and all(map(_sound, keys)):
            return keys
    raise UsageError("the page token does not fit this listing", hint="start again without it")


def _sound(key: str | int) -> bool:
    """Whether a database takes it."""
    return key.isprintable() if isinstance(key, str) else 0 <= key < 2**63
