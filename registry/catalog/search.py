"""Listings: the latest version of each adapter that fits, paged by key so that every page costs the same."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from registry.catalog import references, views
from registry.catalog.tables import AdapterRow, ArtifactRow, BaseModelRow, TagRow, VersionRow
from registry.errors import UsageError
from registry.reference import Reference
from registry.results import Page, Version

SORTS = ("name", "created", "size")
LARGEST_PAGE = 1_000_000
MOST_TAGS = 100
_LONGEST_TOKEN = 1_000


def listing(
    session: Session,
    *,
    base: str | None,
    task: str | None,
    kind: str | None,
    tags: Mapping[str, str],
    sort: str,
    limit: int,
    after: str | None,
) -> Page:
    """A page of at most ``limit`` adapters, each by its latest live version."""
    if sort not in SORTS:
        raise UsageError(f"cannot sort by {sort!r}", hint=f"sort by one of: {', '.join(SORTS)}")
    if not 1 <= limit <= LARGEST_PAGE:
        raise UsageError(f"a page of {limit} makes no sense", hint=f"--limit is from 1 to {LARGEST_PAGE}")
    if len(tags) > MOST_TAGS:
        raise UsageError(f"{len(tags)} tags are too many to filter by", hint=f"at most {MOST_TAGS}")
    statement = _filtered(base=base, task=task, kind=kind, tags=tags)
    statement = _ordered(statement, sort, after)
    rows = session.execute(statement.limit(limit + 1)).all()
    page = rows[:limit]
    token = _token(sort, page[-1]) if len(rows) > limit else None
    return Page(versions=views.versions(session, [row.id for row in page]), next=token)


def log(session: Session, name: str) -> tuple[Version, ...]:
    """All versions of an adapter, newest first, tombstones included."""
    adapter = references.adapter(session, name)
    ids = session.scalars(
        select(VersionRow.id).where(VersionRow.adapter_id == adapter.id).order_by(VersionRow.number.desc())
    )
    return views.versions(session, ids.all())


def live(session: Session) -> list[Reference]:
    """Every version that was not deleted, oldest first."""
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.id)
    )
    return [Reference(name=name, version=number) for name, number in session.execute(statement)]


def _filtered(
    *, base: str | None, task: str | None, kind: str | None, tags: Mapping[str, str]
) -> Select[int, str, int]:
    statement = (
        select(VersionRow.id, AdapterRow.name_key, ArtifactRow.size)
        .join(AdapterRow, VersionRow.latest_of == AdapterRow.id)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
    )
    if base is not None:
        repo, _, revision = base.partition("@")
        chosen = BaseModelRow.repo == repo
        chosen = chosen & (BaseModelRow.revision == revision) if revision else chosen
        statement = statement.where(VersionRow.base_model_id.in_(select(BaseModelRow.id).where(chosen)))
    if task is not None:
        statement = statement.where(VersionRow.task == task)
    if kind is not None:
        statement = statement.where(ArtifactRow.kind == kind)
    if tags:
        # One sub-query whatever their number: a join per tag would be beyond PostgreSQL's planner.
        each = [and_(TagRow.key == key, TagRow.value == value) for key, value in tags.items()]
        having = select(TagRow.version_id).where(or_(*each)).group_by(TagRow.version_id)
        statement = statement.where(VersionRow.id.in_(having.having(func.count() == len(tags))))
    return statement


def _ordered(statement: Select[int, str, int], sort: str, after: str | None) -> Select[int, str, int]:
    last = None if after is None else _read_token(sort, after)
    if sort == "name":
        statement = statement.order_by(AdapterRow.name_key)
        return statement if last is None else statement.where(AdapterRow.name_key > last["name"])
    if sort == "created":
        statement = statement.order_by(VersionRow.id.desc())
        return statement if last is None else statement.where(VersionRow.id < last["id"])
    statement = statement.order_by(ArtifactRow.size.desc(), VersionRow.id.desc())
    if last is None:
        return statement
    same = and_(ArtifactRow.size == last["size"], VersionRow.id < last["id"])
    return statement.where(or_(ArtifactRow.size < last["size"], same))


def _token(sort: str, row: Any) -> str:
    state = {"sort": sort, "name": row.name_key, "id": row.id, "size": row.size}
    return base64.urlsafe_b64encode(json.dumps(state).encode()).decode()


def _read_token(sort: str, token: str) -> dict[str, Any]:
    try:
        state = json.loads(base64.urlsafe_b64decode(token)) if len(token) <= _LONGEST_TOKEN else {}
        valid = (
            state["sort"] == sort
            and isinstance(state["name"], str)
            and state["name"].isprintable()
            and all(type(state[key]) is int and 0 <= state[key] < 2**63 for key in ("id", "size"))
        )
    except (ValueError, KeyError, TypeError, binascii.Error):
        valid = False
    if not valid:
        raise UsageError("the page token does not fit this listing", hint="start again without it")
    return dict(state)
