"""What expressions follow: references that mean another version by now, and who follows whom.

A composition is stale where a moving reference of its expression (an alias, or the latest version) means other content
today than when it was pinned, or nothing any more. What became since of its own line does not count: ``a - 0.1*b``
composed as ``a`` followed the ``a`` of then, and would be stale as soon as it is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVarTuple

from sqlalchemy import CTE, ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from registry.catalog.references import base_identity
from registry.catalog.tables import AdapterRow, AliasRow, BaseModelRow, FollowedRow, VersionRow
from registry.results import BaseModelIdentity, MovedReference

Columns = TypeVarTuple("Columns")
Scope = Literal["latest", "live"] | Sequence[int]
"""Which compositions are looked at: the latest of each line, all that are not deleted, or those with these row ids."""

_Composed = aliased(VersionRow, name="composed")
_Pinned = aliased(VersionRow, name="pinned")
_Named = aliased(VersionRow, name="named")
_Latest = aliased(VersionRow, name="latest")
_LINE = FollowedRow.alias_key == ""


@dataclass(frozen=True)
class Moved:
    """A reference of the composition ``version_id`` that means something else now."""

    version_id: int
    adapter_id: int
    current_id: int | None
    reference: MovedReference


@dataclass(frozen=True)
class Follower:
    """The composition ``version_id``, and the lines whose latest version its expression names.

    ``latest`` says whether it is its own line's, and ``base`` which base model it is on.
    """

    version_id: int
    adapter_id: int
    name: str
    ref: str
    base: BaseModelIdentity
    expression: str
    latest: bool
    lines: frozenset[int]


def stale_ids(scope: Scope) -> Select[int]:
    """The row ids of stale compositions, some of them several times."""
    return _where_moved(select(FollowedRow.version_id), scope)


def is_stale(version_id: Any) -> ColumnElement[bool]:
    """Whether the composition with this row id is stale, for a filter."""
    # Not EXISTS, which PostgreSQL may answer by looking at what every version follows.
    found = stale_ids("live").where(FollowedRow.version_id == version_id).limit(1)
    return found.scalar_subquery().is_not(None)


def moved(session: Session, scope: Scope) -> list[Moved]:
    """Every reference that makes a composition stale, by composition and then by name; one statement."""
    named = (FollowedRow.alias_key, AdapterRow.name, AliasRow.alias)
    statement = _where_moved(
        select(
            FollowedRow.version_id,
            FollowedRow.adapter_id,
            *named,
            _Pinned.number.label("pinned"),
            func.coalesce(_Named.id, _Latest.id).label("current_id"),
            func.coalesce(_Named.number, _Latest.number).label("current"),
        ),
        scope,
    )
    order = (FollowedRow.version_id, AdapterRow.name_key, FollowedRow.alias_key)
    return [
        Moved(row.version_id, row.adapter_id, row.current_id, _reference(row))
        for row in session.execute(statement.order_by(*order))
    ]


def followers(session: Session, scope: Scope) -> list[Follower]:
    """The stale compositions in this scope and all that follow them, over any number of steps; oldest first.

    These are the latest versions of their lines: what a new version of a line changes is what follows its latest.
    """
    reached = select(_Composed.id).where(_Composed.id.in_(stale_ids(scope))).cte("reached", recursive=True)
    before, next_ = aliased(VersionRow), aliased(VersionRow)
    onward = (
        select(next_.id)
        .select_from(reached)
        .join(before, and_(before.id == reached.c.id, before.latest_of.is_not(None)))
        .join(FollowedRow, and_(FollowedRow.adapter_id == before.adapter_id, _LINE))
        .join(next_, and_(next_.id == FollowedRow.version_id, next_.latest_of.is_not(None)))
        .where(next_.adapter_id != before.adapter_id)
    )
    return _described(session, reached.union(onward))


def needed(session: Session, version_ids: Sequence[int]) -> list[Follower]:
    """These compositions and all whose latest version they follow, over any number of steps; oldest first."""
    reached = select(_Composed.id).where(_Composed.id.in_(version_ids)).cte("reached", recursive=True)
    onward = (
        select(_Latest.id)
        .select_from(reached)
        .join(FollowedRow, and_(FollowedRow.version_id == reached.c.id, _LINE))
        .join(_Latest, _Latest.latest_of == FollowedRow.adapter_id)
        .where(_Latest.recipe_digest.is_not(None))
    )
    return _described(session, reached.union(onward))


def outgrown(session: Session, version_id: int) -> dict[str, str]:
    """References of a composition to its own line that mean itself or a later one by now: alias to what was pinned."""
    current = func.coalesce(_Named.id, _Latest.id)
    statement = (
        _where_now(select(FollowedRow.alias_key, AdapterRow.name, _Pinned.number))
        .where(_Composed.id == version_id, FollowedRow.adapter_id == _Composed.adapter_id)
        .where(current >= _Composed.id)
    )
    return {alias: f"{name}@{number}" for alias, name, number in session.execute(statement)}


def _where_now(
    statement: Select[*Columns],
    version_id: ColumnElement[int] | InstrumentedAttribute[int] = FollowedRow.version_id,
) -> Select[*Columns]:
    """The statement over every moving reference, what it was pinned to, and what it means now."""
    return (
        statement.select_from(FollowedRow)
        .join(_Composed, _Composed.id == version_id)
        .join(_Pinned, _Pinned.id == FollowedRow.pinned_id)
        .join(AdapterRow, AdapterRow.id == FollowedRow.adapter_id)
        .outerjoin(
            AliasRow,
            and_(AliasRow.adapter_id == FollowedRow.adapter_id, AliasRow.alias_key == FollowedRow.alias_key),
        )
        .outerjoin(_Named, _Named.id == AliasRow.version_id)
        .outerjoin(_Latest, and_(_Latest.latest_of == FollowedRow.adapter_id, _LINE))
    )


def _where_moved(statement: Select[*Columns], scope: Scope) -> Select[*Columns]:
    digest = func.coalesce(_Named.artifact_digest, _Latest.artifact_digest)
    current = func.coalesce(_Named.id, _Latest.id, 0)
    return (
        # Where any is asked for, what is followed is read first: SQLite would begin with all versions.
        _where_now(statement, FollowedRow.version_id + 0 if scope == "live" else FollowedRow.version_id)
        .where(_within(scope))
        .where(digest.is_distinct_from(_Pinned.artifact_digest))
        .where(or_(FollowedRow.adapter_id != _Composed.adapter_id, current < _Composed.id))
    )


def _within(scope: Scope) -> ColumnElement[bool]:
    if scope == "latest":
        return _Composed.latest_of.is_not(None)
    if scope == "live":
        return _Composed.deleted_at.is_(None)
    return _Composed.id.in_(scope)


def _reference(row: Any) -> MovedReference:
    typed = f"{row.name}@{row.alias or row.alias_key}" if row.alias_key else str(row.name)
    return MovedReference(
        reference=typed,
        pinned=f"{row.name}@{row.pinned}",
        current=None if row.current is None else f"{row.name}@{row.current}",
    )


def _described(session: Session, reached: CTE) -> list[Follower]:
    statement = (
        select(
            VersionRow.id,
            VersionRow.adapter_id,
            VersionRow.number,
            VersionRow.latest_of,
            VersionRow.expression,
            AdapterRow.name,
            BaseModelRow,
            FollowedRow.adapter_id.label("line"),
        )
        .select_from(reached)
        .join(VersionRow, VersionRow.id == reached.c.id)
        .join(AdapterRow, AdapterRow.id == VersionRow.adapter_id)
        .join(BaseModelRow, BaseModelRow.id == VersionRow.base_model_id)
        .outerjoin(FollowedRow, and_(FollowedRow.version_id == VersionRow.id, _LINE))
        .order_by(VersionRow.id)
    )
    found: dict[int, Follower] = {}
    lines: dict[int, set[int]] = defaultdict(set)
    for row in session.execute(statement):
        lines[row.id] |= {row.line} - {None, row.adapter_id}
        found[row.id] = Follower(
            version_id=row.id,
            adapter_id=row.adapter_id,
            name=row.name,
            ref=f"{row.name}@{row.number}",
            base=base_identity(row.BaseModelRow),
            expression=row.expression or "",
            latest=row.latest_of is not None,
            lines=frozenset(lines[row.id]),
        )
    return list(found.values())
