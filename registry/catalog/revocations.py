"""Revoked versions, and everything that was derived from one: kept beside each version, so that a listing looks it up."""

from __future__ import annotations

from sqlalchemy import insert, literal, select, union
from sqlalchemy.orm import Session

from registry.catalog.tables import AffectedRow, Identity, LineageRow, RevocationRow


def inherit(session: Session, version_id: int) -> None:
    """Mark a new version as affected by whatever its parents are, or are affected by.

    Its edges are written first: whoever revokes holds the table of edges, so that one of the two sees the other.
    """
    parents = select(LineageRow.parent_id).where(LineageRow.child_id == version_id)
    own = select(RevocationRow.version_id.label("revoked")).where(RevocationRow.version_id.in_(parents))
    theirs = select(AffectedRow.revoked_id.label("revoked")).where(AffectedRow.version_id.in_(parents))
    found = union(own, theirs).subquery()
    marked = select(literal(version_id, Identity), found.c.revoked)
    session.execute(insert(AffectedRow).from_select(["version_id", "revoked_id"], marked))
