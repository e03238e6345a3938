"""Staleness: a reference that an expression follows now means other content than was pinned, or nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, case, literal_column, select

from registry.catalog.tables import AliasRow, FollowedRow, VersionRow

FOLLOWED, _ALIAS = FollowedRow.__table__.c, AliasRow.__table__.c
_NOW = VersionRow.__table__.alias().c


def moved() -> ColumnElement[bool]:
    """Whether the reference in a row of ``followed`` means other content now. The same content again is no move."""
    at_alias = (
        select(_NOW.artifact_digest)
        .where(_NOW.id == _ALIAS.version_id)
        .where(_ALIAS.adapter_id == FOLLOWED.adapter_id, _ALIAS.alias_key == FOLLOWED.alias_key)
        .correlate(FollowedRow.__table__)
        .scalar_subquery()
    )
    at_latest = (
        select(_NOW.artifact_digest)
        .where(_NOW.latest_of == FOLLOWED.adapter_id)
        .correlate(FollowedRow.__table__)
        .scalar_subquery()
    )
    then = (
        select(_NOW.artifact_digest)
        .where(_NOW.id == FOLLOWED.pinned_id)
        .correlate(FollowedRow.__table__)
        .scalar_subquery()
    )
    return case((FOLLOWED.alias_key == "", at_latest), else_=at_alias).is_distinct_from(then)


def stale_predicate(version_id: ColumnElement[int] | Any) -> ColumnElement[bool]:
    """Whether the version with this row id would pin differently today."""
    # Not EXISTS, which PostgreSQL may answer by looking at what every version follows.
    found: Select[Any] = (
        select(literal_column("1")).where(FOLLOWED.version_id == version_id, moved()).limit(1)
    )
    return found.correlate_except(FollowedRow.__table__).scalar_subquery().is_not(None)
