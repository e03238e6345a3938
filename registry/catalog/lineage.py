"""The lineage graph, up or down to any depth in one recursive statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from registry.catalog import views
from registry.catalog.database import chunked
from registry.catalog.references import Pin
from registry.catalog.tables import Identity, LineageRow
from registry.results import Lineage, LineageEdge, LineageNode, Version

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
    versions = dict(zip(depths, views.versions(session, list(depths)), strict=True))
    return Lineage(
        ref=pin.ref,
        direction=direction,
        nodes=tuple(_node(version, depths[row_id]) for row_id, version in versions.items()),
        edges=_edges(session, {row_id: version.ref for row_id, version in versions.items()}),
    )


def _node(version: Version, depth: int) -> LineageNode:
    return LineageNode(
        ref=version.ref,
        digest=version.digest,
        kind=version.kind,
        depth=depth,
        expression=version.recipe.expression if version.recipe else None,
        aliases=version.aliases,
        deleted=version.deleted_at is not None,
    )


def _edges(session: Session, refs: Mapping[int, str]) -> tuple[LineageEdge, ...]:
    """The edges between these versions, by child and then as its recipe has them."""
    found: list[LineageRow] = []
    for children in chunked(sorted(refs)):
        statement = (
            select(LineageRow)
            .where(LineageRow.child_id.in_(children))
            .order_by(LineageRow.child_id, LineageRow.position)
        )
        found += (row for row in session.scalars(statement) if row.parent_id in refs)
    return tuple(
        LineageEdge.model_validate(
            {
                "child": refs[row.child_id],
                "parent": refs[row.parent_id],
                "coefficient": row.coefficient,
                "relation": row.relation,
            }
        )
        for row in found
    )
