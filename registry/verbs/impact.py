"""Impact: what a version reached, here and on the Hub."""

from __future__ import annotations

from registry import reference
from registry.catalog import lineage, publications, references, revocations
from registry.catalog.database import Database
from registry.results import Impact


def impact(database: Database, ref: str) -> Impact:
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref), deleted=True)
        derived = lineage.lineage(session, pin, direction="down", depth=None)
        return Impact(
            ref=pin.ref,
            reason=revocations.reason(session, pin.id),
            derived=derived,
            aliases=tuple(
                f"{node.ref.rpartition('@')[0]}@{alias}" for node in derived.nodes for alias in node.aliases
            ),
            publications=publications.reached(session, lineage.closure(session, pin.id, "down")),
        )
