"""The outbox of publications: a row before the push, closed after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from registry.catalog import references, views
from registry.catalog.database import chunked
from registry.catalog.events import now, record
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, PublicationRow, VersionRow
from registry.results import Publication, Target

_RECENT = timedelta(days=7)  # longer than any push that was still on its way when it was given up


@dataclass(frozen=True)
class Unsettled:
    """A push whose outcome has to be looked up, of the version ``ref``, and the digests of what it sends.

    ``proposed`` says that it goes into a pull request instead of the branch.
    """

    publish_id: str
    ref: str
    files: Mapping[str, str]
    proposed: bool
    created_at: datetime


@dataclass(frozen=True)
class Entry:
    """A publication, and what is kept of it beside what is shown (see the table); numbers grow."""

    number: int
    publish_id: str
    shown: Publication
    seen: str | None

    @property
    def on_branch(self) -> bool:
        """Whether the branch itself was given it: a pull request has to be merged first."""
        return self.shown.pull_request is None or self.seen is not None


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
    proposed: bool = False,
    tag: str | None = None,
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
            pull_request=0 if proposed else None,
            tag=tag,
            tagged=False,
            created_at=now(),
            created_by=actor,
        )
    )


def finish(
    session: Session,
    publish_id: str,
    *,
    commit: str,
    url: str,
    ref: str,
    actor: str,
    pull_request: int | None = None,
    **detail: Any,
) -> None:
    """Close a push that arrived, also one that was given up before; one that is closed so stays as it is."""
    row = _row(session, publish_id)
    if row.state in {"done", "withdrawn"}:
        return
    row.state, row.commit, row.url, row.error, row.finished_at = "done", commit, url, None, now()
    row.pull_request = pull_request
    if pull_request is not None:
        detail["pull_request"] = pull_request
    record(
        session,
        actor,
        "publish",
        ref,
        repo=row.repo,
        revision=row.revision,
        target=row.target,
        commit=commit,
        **detail,
    )


def want_tag(session: Session, publish_id: str, tag: str) -> bool:
    """Write down that a publication is to be tagged so; False where it is to have another tag."""
    row = _row(session, publish_id)
    if row.tag is None:
        row.tag = tag
    return row.tag == tag


def tagged(session: Session, publish_id: str, *, ref: str, actor: str) -> None:
    """The tag is on its commit."""
    row = _row(session, publish_id)
    if row.tag is not None and not row.tagged:
        row.tagged = True
        record(
            session,
            actor,
            "publish-tag",
            ref,
            repo=row.repo,
            revision=row.revision,
            commit=row.commit,
            tag=row.tag,
        )


def merged(session: Session, publish_id: str, *, commit: str, url: str, ref: str, actor: str) -> None:
    """Record that a pull request was merged, by this commit of the branch, which is the publication's from now on."""
    row = _row(session, publish_id)
    if row.state != "done" or row.seen is not None:
        return
    row.commit = row.seen = commit
    row.url = url
    record(
        session,
        actor,
        "publish-merge",
        ref,
        repo=row.repo,
        revision=row.revision,
        commit=commit,
        pull_request=row.pull_request,
    )


def see(session: Session, publish_id: str, commit: str) -> None:
    """Remember that a commit of the branch holds the files, so that it is not looked into again. It is no event."""
    row = _row(session, publish_id)
    if row.state == "done":
        row.seen = commit


def withdraw(
    session: Session,
    publish_id: str,
    *,
    ref: str,
    reason: str | None,
    actor: str,
    commit: str | None,
    deleted: bool,
) -> None:
    """What arrived was taken off the Hub again, by a commit or together with the repo."""
    row = _row(session, publish_id)
    if row.state != "done":
        return
    row.state, row.withdrawn_at, row.withdrawn_by, row.reason = "withdrawn", now(), actor, reason
    if deleted:
        row.tagged = False  # the repo's tags are gone with it; those of a branch stay
    record(
        session,
        actor,
        "unpublish",
        ref,
        repo=row.repo,
        revision=row.revision,
        commit=commit,
        deleted=deleted,
        reason=reason,
    )


def fail(session: Session, publish_id: str, *, error: str, commit: str | None = None) -> None:
    """Close a push that did not arrive, or not whole (in ``commit``); one that somebody closed meanwhile stays closed."""
    row = _row(session, publish_id)
    if commit is not None and row.state in {"pending", "failed"}:
        row.commit = commit
    if row.state == "pending":
        row.state, row.error, row.finished_at = "failed", error, now()


def unsettled(session: Session, repo: str, revision: str) -> list[Unsettled]:
    """Pushes to this place that may have arrived without a record of it, oldest first.

    Those without an outcome, and those that failed lately: one that was given up while it was still on its way
    can have arrived afterwards.
    """
    statement = (
        select(
            PublicationRow.publish_id,
            PublicationRow.files,
            PublicationRow.pull_request,
            PublicationRow.created_at,
            AdapterRow.name,
            VersionRow.number,
        )
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
        Unsettled(
            row.publish_id,
            f"{row.name}@{row.number}",
            row.files,
            row.pull_request is not None,
            row.created_at,
        )
        for row in session.execute(statement)
    ]


def last(session: Session, repo: str, revision: str) -> dict[str, str]:
    """The digests of the files that this registry brought last to this branch."""
    statement = select(PublicationRow.files).where(
        PublicationRow.repo == repo, PublicationRow.revision == revision, PublicationRow.state == "done"
    )
    statement = statement.where(or_(PublicationRow.pull_request.is_(None), PublicationRow.seen.is_not(None)))
    return dict(session.scalars(statement.order_by(PublicationRow.id.desc()).limit(1)).first() or {})


def known(session: Session, repo: str) -> bool:
    """Whether a commit of this registry ever arrived in the repo, whatever became of it."""
    statement = select(PublicationRow.id).where(
        PublicationRow.repo == repo, PublicationRow.commit.is_not(None)
    )
    return session.scalars(statement.limit(1)).first() is not None


def mentioned(session: Session, repo: str) -> list[str]:
    """The branches of a repo that were pushed to, whatever became of it."""
    statement = select(PublicationRow.revision).where(PublicationRow.repo == repo).distinct()
    return sorted(session.scalars(statement))


def get(session: Session, publish_id: str) -> Publication:
    """What is recorded of one push."""
    return _entries(session, PublicationRow.publish_id == publish_id)[0].shown


def at(session: Session, repo: str, revision: str | None = None) -> list[Entry]:
    """What this registry published to a repo, or to one branch of it, and has not withdrawn, oldest first."""
    branch = [] if revision is None else [PublicationRow.revision == revision]
    return _entries(session, PublicationRow.state == "done", PublicationRow.repo == repo, *branch)


def within(session: Session, repos: Collection[str]) -> list[Entry]:
    """Publications to these repos, regardless of case, in any state but failed, oldest first."""
    found: list[Entry] = []
    for some in chunked(sorted({repo.lower() for repo in repos})):
        found += _entries(
            session, func.lower(PublicationRow.repo).in_(some), PublicationRow.state != "failed"
        )
    return sorted(found, key=lambda entry: entry.number)


def untagged(session: Session, repo: str | None = None, revision: str | None = None) -> list[Entry]:
    """What was published, at one place or anywhere, and is still to be tagged, oldest first."""
    where = [] if repo is None else [PublicationRow.repo == repo, PublicationRow.revision == revision]
    wanted = [PublicationRow.tag.is_not(None), PublicationRow.tagged.is_(False)]
    return _entries(session, PublicationRow.state == "done", *wanted, *where)


def entries(session: Session, pin: Pin | None) -> list[Entry]:
    """Publications in any state, of one version or of all, oldest first."""
    return _entries(session, *([] if pin is None else [PublicationRow.version_id == pin.id]))


def listed(session: Session, pin: Pin | None) -> tuple[Publication, ...]:
    """What is shown of them."""
    return tuple(entry.shown for entry in entries(session, pin))


def reached(session: Session, versions: CTE) -> tuple[Publication, ...]:
    """The publications of these versions (a column ``id``) that arrived, or may have, oldest first."""
    among = PublicationRow.version_id.in_(select(versions.c.id))
    return tuple(entry.shown for entry in _entries(session, among, PublicationRow.state != "failed"))


def places(session: Session, version_ids: Collection[int]) -> dict[str, list[Publication]]:
    """Where the adapters themselves are on the Hub, by version, oldest first.

    What is on a branch; only where nothing is, what was proposed in a pull request that nobody merged yet.
    """
    found: dict[str, list[Entry]] = {}
    for some in chunked(sorted(set(version_ids))):
        arrived = [PublicationRow.state == "done", PublicationRow.target == "adapter"]
        for each in _entries(session, PublicationRow.version_id.in_(some), *arrived):
            found.setdefault(each.shown.ref, []).append(each)
    return {
        ref: [each.shown for each in ([one for one in some if one.on_branch] or some)]
        for ref, some in found.items()
    }


def _entries(session: Session, *where: ColumnElement[bool]) -> list[Entry]:
    statement = (
        select(PublicationRow, AdapterRow.name, VersionRow.number)
        .join(VersionRow, PublicationRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(*where)
        .order_by(PublicationRow.id)
    )
    return [
        Entry(
            row.PublicationRow.id,
            row.PublicationRow.publish_id,
            views.publication(
                row.PublicationRow, {row.PublicationRow.version_id: f"{row.name}@{row.number}"}
            ),
            row.PublicationRow.seen,
        )
        for row in session.execute(statement)
    ]


def _row(session: Session, publish_id: str) -> PublicationRow:
    one = references.locking(select(PublicationRow).where(PublicationRow.publish_id == publish_id))
    return session.execute(one).scalar_one()
