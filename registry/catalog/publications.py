"""The outbox of publications: a row before the push, closed after it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.catalog import views
from registry.catalog.events import now, record
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, PublicationRow, VersionRow
from registry.results import Publication, Target


def begin(
    session: Session,
    pin: Pin,
    *,
    publish_id: str,
    repo: str,
    revision: str,
    target: Target,
    files: Mapping[str, str],
    actor: str,
) -> None:
    """Write down what is about to be pushed, so that a crash in between can be reconciled."""
    session.add(
        PublicationRow(
            publish_id=publish_id,
            version_id=pin.id,
            repo=repo,
            revision=revision,
            target=target,
            state="pending",
            files=dict(files),
            created_at=now(),
            created_by=actor,
        )
    )


def finish(session: Session, publish_id: str, *, commit: str, url: str, ref: str, actor: str) -> None:
    row = _row(session, publish_id)
    row.state, row.commit, row.url, row.finished_at = "done", commit, url, now()
    record(
        session, actor, "publish", ref, repo=row.repo, revision=row.revision, target=row.target, commit=commit
    )


def fail(session: Session, publish_id: str, *, error: str) -> None:
    """Close a push that did not arrive; one that somebody closed meanwhile stays as it is."""
    row = _row(session, publish_id)
    if row.state == "pending":
        row.state, row.error, row.finished_at = "failed", error, now()


def pending(session: Session, repo: str, revision: str) -> dict[str, str]:
    """Publish ids of pushes to this place whose outcome was never recorded, with their versions, oldest first."""
    statement = (
        select(PublicationRow.publish_id, AdapterRow.name, VersionRow.number)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(
            PublicationRow.repo == repo,
            PublicationRow.revision == revision,
            PublicationRow.state == "pending",
        )
        .order_by(PublicationRow.id)
    )
    return {row.publish_id: f"{row.name}@{row.number}" for row in session.execute(statement)}


def known(session: Session, repo: str) -> bool:
    """Whether this registry ever published to the repo."""
    statement = select(PublicationRow.id).where(PublicationRow.repo == repo, PublicationRow.state == "done")
    return session.scalars(statement.limit(1)).first() is not None


def listed(session: Session, pin: Pin | None) -> tuple[Publication, ...]:
    """Publications, of one version or of all, oldest first."""
    statement = (
        select(PublicationRow, AdapterRow.name, VersionRow.number)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .order_by(PublicationRow.id)
    )
    if pin is not None:
        statement = statement.where(PublicationRow.version_id == pin.id)
    return tuple(
        views.publication(row.PublicationRow, {row.PublicationRow.version_id: f"{row.name}@{row.number}"})
        for row in session.execute(statement)
    )


def _row(session: Session, publish_id: str) -> PublicationRow:
    return session.execute(
        select(PublicationRow).where(PublicationRow.publish_id == publish_id).with_for_update()
    ).scalar_one()
