"""Staleness: a reference that an expression follows now means other content than was pinned, or nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, exists, select
from sqlalchemy.orm import aliased

from registry.catalog.tables import AliasRow, FollowedRow, VersionRow


def moved() -> ColumnElement[bool]:
    """Whether the reference in a row of ``followed`` means other content now. The same content again is no move."""
    latest, aliased_now, pinned = aliased(VersionRow), aliased(VersionRow), aliased(VersionRow)
    at_alias = (
        select(aliased_now.artifact_digest)
        .join(AliasRow, AliasRow.version_id == aliased_now.id)
        .where(AliasRow.adapter_id == FollowedRow.adapter_id, AliasRow.alias_key == FollowedRow.alias_key)
        .correlate(FollowedRow)
        .scalar_subquery()
    )
    at_latest = (
        select(latest.artifact_digest)
        .where(latest.latest_of == FollowedRow.adapter_id)
        .correlate(FollowedRow)
        .scalar_subquery()
    )
    then = (
        select(pinned.artifact_digest)
        .where(pinned.id == FollowedRow.pinned_id)
        .correlate(FollowedRow)
        .scalar_subquery()
    )
    return case((FollowedRow.alias_key == "", at_latest), else_=at_alias).is_distinct_from(then)


def stale_predicate(version_id: ColumnElement[int] | Any) -> ColumnElement[bool]:
    """Whether the version with this row id would pin differently today."""
    return exists().where(FollowedRow.version_id == version_id, moved())
