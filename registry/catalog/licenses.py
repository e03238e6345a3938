"""The licenses of everything that a version was made of, and those of base models."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from registry.catalog import references
from registry.catalog.events import record
from registry.catalog.lineage import closure
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, BaseModelRow, VersionRow
from registry.licenses import Source


def sources(session: Session, pin: Pin) -> tuple[Source, ...]:
    """What a version was made of, itself first where it was imported: every imported ancestor, and those derived
    ones that a license was stated for. One statement, however deep the lineage is.
    """
    reached = closure(session, pin.id, "up")
    statement = (
        select(AdapterRow.name, VersionRow.number, VersionRow.license)
        .join(VersionRow, VersionRow.adapter_id == AdapterRow.id)
        .join(reached, reached.c.id == VersionRow.id)
        .where(or_(VersionRow.recipe_digest.is_(None), VersionRow.license.is_not(None)))
        .where(or_(VersionRow.id != pin.id, VersionRow.recipe_digest.is_(None)))
        .order_by(VersionRow.id.desc())  # children come after their parents
    )
    return tuple(Source(f"{row.name}@{row.number}", row.license) for row in session.execute(statement))


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
