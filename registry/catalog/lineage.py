"""The lineage graph, up or down to any depth in one recursive statement."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from registry.catalog import views
from registry.catalog.references import Pin
from registry.catalog.tables import Identity, LineageRow, VersionRow
from registry.results import Lineage, LineageEdge, LineageNode

_DEEPEST = 10_000


def lineage(session: Session, pin: Pin, *, direction: Literal["up", "down"], depth: int | None) -> Lineage:
    """Versions reached from ``pin`` within ``depth`` steps, nearest first, with the edges between them."""
    start, end = (LineageRow.child_id, LineageRow.parent_id)
    if direction == "down":
        start, end = end, start
    reached = select(literal(pin.id, Identity).label("id"), literal(0).label("depth")).cte(
        "reached", recursive=True
    )
    # UNION drops what was reached at the same depth before, which ends diamonds; the graph has no cycle.
    reached = reached.union(
        select(end, reached.c.depth + 1)
        .join(reached, start == reached.c.id)
        .where(reached.c.depth < min(_DEEPEST if depth is None else depth, _DEEPEST))
    )
    depths: dict[int, int] = {}
    for row in session.execute(select(reached.c.id, reached.c.depth).order_by(reached.c.depth, reached.c.id)):
        depths.setdefault(row.id, row.depth)
    return Lineage(
        ref=pin.ref, direction=direction, nodes=_nodes(session, depths), edges=_edges(session, depths)
    )


def _nodes(session: Session, depths: dict[int, int]) -> tuple[LineageNode, ...]:
    versions = views.versions(session, list(depths))
    return tuple(
        LineageNode(
            ref=version.ref,
            digest=version.digest,
            kind=version.kind,
            depth=depth,
            expression=version.recipe.expression if version.recipe else None,
            aliases=version.aliases,
            deleted=version.deleted_at is not None,
        )
        for version, depth in zip(versions, depths.values(), strict=True)
    )


def _edges(session: Session, depths: dict[int, int]) -> tuple[LineageEdge, ...]:
    ids = list(depths)
    refs = dict(zip(ids, (version.ref for version in views.versions(session, ids)), strict=True))
    statement = (
        select(LineageRow)
        .where(LineageRow.child_id.in_(ids), LineageRow.parent_id.in_(ids))
        .order_by(LineageRow.child_id, LineageRow.position)
    )
    return tuple(
        LineageEdge.model_validate(
            {
                "child": refs[row.child_id],
                "parent": refs[row.parent_id],
                "coefficient": row.coefficient,
                "relation": row.relation,
            }
        )
        for row in session.scalars(statement)
    )


def is_input(session: Session, version_id: int) -> bool:
    """Whether a live version was computed from this one, so that its bytes are needed to rebuild that."""
    statement = (
        select(LineageRow.child_id)
        .join(VersionRow, LineageRow.child_id == VersionRow.id)
        .where(
            LineageRow.parent_id == version_id,
            LineageRow.relation == "input",
            VersionRow.deleted_at.is_(None),
        )
        .limit(1)
    )
    return session.scalars(statement).first() is not None
