"""The outbox of publications: a row before the push, closed after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import CTE, Select, or_, select
from sqlalchemy.orm import Session

from registry.catalog import views
from registry.catalog.events import now, record
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, PublicationRow, VersionRow
from registry.results import Publication, Target

_RECENT = timedelta(days=7)  # longer than any push that was still on its way when it was given up


@dataclass(frozen=True)
class Unsettled:
    """A push whose outcome has to be looked up, of the version ``ref``, and the digests of what it sends."""

    publish_id: str
    ref: str
    files: Mapping[str, str]


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
    """Close a push that arrived, also one that was given up before; one that is closed so stays as it is."""
    row = _row(session, publish_id)
    if row.state == "done":
        return
    row.state, row.commit, row.url, row.error, row.finished_at = "done", commit, url, None, now()
    record(
        session, actor, "publish", ref, repo=row.repo, revision=row.revision, target=row.target, commit=commit
    )


def fail(session: Session, publish_id: str, *, error: str) -> None:
    """Close a push that did not arrive; one that somebody closed meanwhile stays as it is."""
    row = _row(session, publish_id)
    if row.state == "pending":
        row.state, row.error, row.finished_at = "failed", error, now()


def unsettled(session: Session, repo: str, revision: str) -> list[Unsettled]:
    """Pushes to this place that may have arrived without a record of it, oldest first.

    Those without an outcome, and those that failed lately: one that was given up while it was still on its way
    can have arrived afterwards.
    """
    statement = (
        select(PublicationRow.publish_id, PublicationRow.files, AdapterRow.name, VersionRow.number)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(PublicationRow.repo == repo, PublicationRow.revision == revision)
        .where(
            or_(
                PublicationRow.state == "pending",
                (PublicationRow.state == "failed") & (PublicationRow.finished_at > now() - _RECENT),
            )
        )
        .order_by(PublicationRow.id)
    )
    return [
        Unsettled(row.publish_id, f"{row.name}@{row.number}", row.files) for row in session.execute(statement)
    ]


def last(session: Session, repo: str, revision: str) -> dict[str, str]:
    """The digests of the files that this registry published last to this place."""
    statement = select(PublicationRow.files).where(
        PublicationRow.repo == repo, PublicationRow.revision == revision, PublicationRow.state == "done"
    )
    return dict(session.scalars(statement.order_by(PublicationRow.id.desc()).limit(1)).first() or {})


def newest(session: Session, repo: str, revision: str) -> Publication | None:
    """What this registry published last to this place, of all versions."""
    statement = (
        select(PublicationRow, AdapterRow.name, VersionRow.number)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(
            PublicationRow.repo == repo, PublicationRow.revision == revision, PublicationRow.state == "done"
        )
        .order_by(PublicationRow.id.desc())
        .limit(1)
    )
    return next(iter(_publications(session, statement)), None)


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
    return _publications(session, statement)


def reached(session: Session, versions: CTE) -> tuple[Publication, ...]:
    """The publications of these versions (a column ``id``) that arrived, or may have, oldest first."""
    statement = (
        select(PublicationRow, AdapterRow.name, VersionRow.number)
        .join(versions, versions.c.id == PublicationRow.version_id)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(PublicationRow.state != "failed")
        .order_by(PublicationRow.id)
    )
    return _publications(session, statement)


def _publications(session: Session, statement: Select[PublicationRow, str, int]) -> tuple[Publication, ...]:
    return tuple(
        views.publication(row.PublicationRow, {row.PublicationRow.version_id: f"{row.name}@{row.number}"})
        for row in session.execute(statement)
    )


def _row(session: Session, publish_id: str) -> PublicationRow:
    return session.execute(
        select(PublicationRow).where(PublicationRow.publish_id == publish_id).with_for_update()
    ).scalar_one()
