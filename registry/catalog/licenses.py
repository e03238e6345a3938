"""The licenses of everything that a version was made of, and those of base models."""

from __future__ import annotations

from sqlalchemy import CTE, or_, select
from sqlalchemy.orm import Session

from registry.catalog import artifacts, references
from registry.catalog.database import chunked
from registry.catalog.events import record
from registry.catalog.lineage import closure
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, BaseModelRow, LineageRow, VersionRow
from registry.licenses import Source


def sources(session: Session, pin: Pin) -> tuple[Source, ...]:
    """What a version was made of, itself first where it was imported: every imported ancestor, those derived ones
    that a license was stated for, and what is missing of a lineage that somebody published in part. A few statements,
    however deep the lineage is.
    """
    reached = closure(session, pin.id, "up")
    statement = (
        select(AdapterRow.name, VersionRow.number, VersionRow.license)
        .join(VersionRow, VersionRow.adapter_id == AdapterRow.id)
        .join(reached, reached.c.id == VersionRow.id)
        .where(or_(VersionRow.recipe_digest.is_(None), VersionRow.license.is_not(None)))
        .where(or_(VersionRow.id != pin.id, VersionRow.recipe_digest.is_(None)))
        .order_by(VersionRow.id != pin.id, VersionRow.id.desc())  # children mostly come after their parents
    )
    found = [Source(f"{row.name}@{row.number}", row.license) for row in session.execute(statement)]
    return (*found, *(Source(f"an input of {ref}", None) for ref in _cut(session, reached)))


def _cut(session: Session, reached: CTE) -> list[str]:
    """The versions that others told of with a recipe, and not with all of its inputs."""
    statement = (
        select(VersionRow.id, VersionRow.number, AdapterRow.name, VersionRow.recipe_digest)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .join(reached, reached.c.id == VersionRow.id)
        .where(VersionRow.recipe_digest.is_not(None), VersionRow.origin.is_not(None))
        .order_by(VersionRow.id.desc())
    )
    told = session.execute(statement).all()
    there: dict[int, set[str]] = {row.id: set() for row in told}
    for some in chunked(list(there)):
        inputs = (
            select(LineageRow.child_id, VersionRow.artifact_digest)
            .join(VersionRow, LineageRow.parent_id == VersionRow.id)
            .where(LineageRow.child_id.in_(some), LineageRow.relation == "input")
        )
        for child, content in session.execute(inputs):
            there[child].add(content)
    return [
        f"{row.name}@{row.number}"
        for row in told
        if set(artifacts.load_recipe(session, row.recipe_digest).inputs) - there[row.id]
    ]


def of_base(session: Session, base_model_id: int) -> str | None:
    """The license of a base model, or of one with the same weights; None where nobody said."""
    row = session.get_one(BaseModelRow, base_model_id)
    if row.license is not None or row.fingerprint is None:
        return row.license
    same = select(BaseModelRow.license).where(
        BaseModelRow.fingerprint == row.fingerprint, BaseModelRow.license.is_not(None)
    )
    return session.scalars(same.order_by(BaseModelRow.id).limit(1)).first()


def set_base(session: Session, base_model_id: int, license_: str | None, actor: str) -> BaseModelRow:
    """Record a base model's license; None forgets it. An event only where that changes something."""
    locked = references.locking(select(BaseModelRow).where(BaseModelRow.id == base_model_id))
    row = session.execute(locked).scalar_one()
    if row.license != license_:
        previous, row.license = row.license, license_
        name = str(references.base_identity(row))
        record(session, actor, "base license", name, license=license_, previous=previous)
    return row
