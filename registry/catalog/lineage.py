"""The lineage graph, up or down to any depth, each part of it in one recursive statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import CTE, ColumnElement, FromClause, Select, exists, func, join, literal, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.catalog.references import Pin
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactFileRow,
    ArtifactRow,
    Identity,
    LineageRow,
    RevocationRow,
    VersionRow,
)
from registry.results import Lineage

Direction = Literal["up", "down"]

_FEW = 8
"""Up to so many steps are counted by the database, which then may look at a version once for each; beyond, the whole
graph is read, each version once, and cut here."""
_BETWEEN = ","  # aliases: it is in none


def lineage(session: Session, pin: Pin, *, direction: Direction, depth: int | None) -> Lineage:
    """Versions reached from ``pin`` within ``depth`` steps, nearest first, with the edges between them.

    Two statements, however large and however deep the graph is.
    """
    reached, edges, depths = _reached(session, pin, direction, depth)
    rows = {row[0]: row for row in session.execute(_nodes(reached))}
    refs = {row_id: f"{name}@{number}" for row_id, name, number, *_ in rows.values()}
    # Validated as one: a model made of each by itself would take most of the time.
    return Lineage.model_validate(
        {
            "ref": pin.ref,
            "direction": direction,
            "nodes": [_node(rows[row_id], refs[row_id], depths[row_id]) for row_id in _order(depths)],
            "edges": [
                {
                    "child": refs[child],
                    "parent": refs[parent],
                    "coefficient": coefficient,
                    "relation": relation,
                }
                for child, parent, coefficient, relation in edges
                if child in depths and parent in depths
            ],
        }
    )


def nearest(session: Session, pin: Pin, *, direction: Direction, depth: int | None) -> list[int]:
    """The row ids of the versions that :func:`lineage` has, in its order; one statement."""
    _, _, depths = _reached(session, pin, direction, depth)
    return _order(depths)


def _reached(
    session: Session, pin: Pin, direction: Direction, depth: int | None
) -> tuple[CTE, Sequence[Any], dict[int, int]]:
    """What is reached, perhaps from further than asked, the edges of it, and how far what was asked is."""
    few = depth if depth is not None and depth <= _FEW else None
    reached = closure(session, pin.id, direction, depth=few)
    edges = session.execute(_edges(reached, direction)).all()
    return reached, edges, _depths(pin.id, edges, direction, depth)


def _order(depths: Mapping[int, int]) -> list[int]:
    return sorted(depths, key=lambda row_id: (depths[row_id], row_id))


def closure(session: Session, version_id: int, direction: Direction, *, depth: int | None = None) -> CTE:
    """The row ids of a version and of everything that it reaches, each once.

    Without ``depth`` no more is kept than which versions were reached: UNION then drops one that is reached again,
    so that neither the paths of a diamond nor the steps of a chain are counted, and every edge is followed once.
    """
    first = literal(version_id, Identity).label("id")
    if depth is None:
        reached = select(first).cte("reached", recursive=True)
        end, source = _onward(session, reached, direction)
        return reached.union(select(end).select_from(source))
    steps = select(first, literal(0).label("depth")).cte("steps", recursive=True)
    end, source = _onward(session, steps, direction)
    further = select(end, steps.c.depth + 1).select_from(source).where(steps.c.depth < depth)
    return select(steps.union(further).c.id).distinct().cte("reached")


def _onward(session: Session, reached: CTE, direction: Direction) -> tuple[ColumnElement[int], FromClause]:
    """A step of the recursion: the far ends of the edges of what was reached last."""
    start, end = _ends(direction)
    if session.get_bind().dialect.name != "postgresql":
        return end.expression, join(reached, LineageRow, start == reached.c.id)
    # OFFSET keeps the planner from joining, for which it may read all edges anew at every step.
    edges = select(end.label("id")).where(start == reached.c.id).offset(0).lateral("edges")
    return edges.c.id, join(reached, edges, true())


def _ends(direction: Direction) -> tuple[InstrumentedAttribute[int], InstrumentedAttribute[int]]:
    """The end of an edge that is come from, and the one that is reached."""
    ends = (LineageRow.child_id, LineageRow.parent_id)
    return ends if direction == "up" else (ends[1], ends[0])


def _edges(reached: CTE, direction: Direction) -> Select[int, int, str | None, str]:
    """The edges onward from what was reached, by child and then as its recipe has them."""
    return (
        select(LineageRow.child_id, LineageRow.parent_id, LineageRow.coefficient, LineageRow.relation)
        .join(reached, _ends(direction)[0] == reached.c.id)
        .order_by(LineageRow.child_id, LineageRow.position)
    )


def _nodes(reached: CTE) -> Select[*tuple[Any, ...]]:
    affected = exists().where(AffectedRow.version_id == VersionRow.id)
    held = exists().where(ArtifactFileRow.artifact_digest == VersionRow.artifact_digest)
    # Looked up for each version: joined, PostgreSQL might read all the aliases there are.
    aliases = select(func.aggregate_strings(AliasRow.alias, _BETWEEN)).where(
        AliasRow.version_id == VersionRow.id
    )
    return (
        select(
            VersionRow.id,
            AdapterRow.name,
            VersionRow.number,
            VersionRow.artifact_digest,
            ArtifactRow.kind,
            VersionRow.task,
            VersionRow.expression,
            VersionRow.deleted_at.is_not(None),
            RevocationRow.version_id.is_not(None),
            affected,
            aliases.scalar_subquery(),
            held,
        )
        .select_from(reached)
        .join(VersionRow, VersionRow.id == reached.c.id)
        .join(AdapterRow, AdapterRow.id == VersionRow.adapter_id)
        .join(ArtifactRow, ArtifactRow.digest == VersionRow.artifact_digest)
        .outerjoin(RevocationRow, RevocationRow.version_id == VersionRow.id)
    )


def _depths(
    start: int, edges: Sequence[tuple[int, int, Any, Any]], direction: Direction, deepest: int | None
) -> dict[int, int]:
    """The shortest way to each version, in steps, breadth first."""
    onward: dict[int, list[int]] = defaultdict(list)
    for child, parent, _, _ in edges:
        near, far = (child, parent) if direction == "up" else (parent, child)
        onward[near].append(far)
    depths, front, step = {start: 0}, {start: 0}, 0
    while front and step != deepest:
        step += 1
        front = {far: step for near in front for far in onward[near] if far not in depths}
        depths |= front
    return depths


def _node(row: Any, ref: str, depth: int) -> dict[str, Any]:
    _, _, _, digest, kind, task, expression, deleted, revoked, affected, aliases, held = row
    return {
        "ref": ref,
        "digest": digest,
        "kind": kind,
        "depth": depth,
        "task": task,
        "expression": expression,
        "aliases": tuple(sorted(aliases.split(_BETWEEN), key=str.lower)) if aliases else (),
        "deleted": deleted,
        "revoked": revoked,
        "affected": affected,
        "held": held,
    }
