"""Publish a version: describe the release, write down the intention, push it in one commit, record what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from sqlalchemy.orm import Session

from registry import digest, hub, kinds, reference
from registry.blobs import BlobStore
from registry.catalog import publications as outbox
from registry.catalog import references, revocations
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import Refused, RegistryError, UsageError
from registry.publishers import Plan, holds_token, planned
from registry.publishers import hub as publisher
from registry.publishers.hub import Consent, Found, Place, Receipt, Unknown
from registry.results import Publication, Target
from registry.verbs import _release
from registry.verbs._text import check_text

Progress = Callable[[str, int, int], None]
_LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class _Request:
    """A version that is to be published somewhere, by somebody."""

    pin: Pin
    where: Place
    target: Target
    title: str
    actor: str

    def planned(self, wanted: Plan) -> Publication:
        return Publication(
            ref=self.pin.ref,
            repo=self.where.repo,
            revision=self.where.revision,
            target=self.target,
            state="planned",
            files=wanted.digests,
        )

    def is_told_by(self, record: Publication, wanted: Plan) -> bool:
        """Whether a record is of this very release at this place."""
        there = (record.repo, record.revision) == (self.where.repo, self.where.revision)
        same = record.target == self.target and record.files == wanted.digests
        return record.state == "done" and there and same


def publish(
    database: Database,
    blobs: BlobStore,
    ref: str,
    repo: str,
    *,
    into: Target,
    private: bool,
    revision: str | None,
    message: str | None,
    base_path: str | Path | None,
    adopt: bool,
    dry_run: bool,
    remembered: Path | None,
    actor: str,
    progress: Progress | None,
    again: bool = True,
) -> Publication:
    if into not in get_args(Target):
        raise UsageError(f"unknown target {into!r}", hint=f"one of: {', '.join(get_args(Target))}")
    where = publisher.place(repo, revision)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        revocations.refuse(session, [pin], "not published")
    if into == "adapter" and not kinds.load(pin.kind).loadable:
        raise Refused(
            f"{pin.ref} is {pin.kind}, which PEFT does not load",
            hint="publish it merged into its base model: --as model",
        )
    request = _Request(pin, where, into, _title(pin, message), actor)
    release = _planned(
        database, blobs, request, base_path=base_path, remembered=remembered, progress=progress
    )
    if dry_run:
        with release as wanted:
            return request.planned(wanted)
    hub.require_token()
    # Whether the push is possible is seen before anything is computed for it.
    found = publisher.look(where)
    _reconcile(database, where, found, actor)
    consent = _consent(database, where, private=private, adopt=adopt)
    publisher.check_ours(where, found, consent)
    if not again and (there := _there(database, request, found)) is not None:
        return there
    with release as wanted:
        if into == "model":
            found = publisher.look(where)  # merging took its time
            publisher.check_ours(where, found, consent)
        if found.head is not None and found.branch and not publisher.changes(where, wanted, found, consent):
            return _already(database, request, wanted, publisher.there(where, found.head))
        _tell(progress, wanted, done=False)
        done = _push(database, request, wanted, found, consent)
        _tell(progress, wanted, done=True)
        return done


def publications(database: Database, ref: str | None, *, check: bool) -> tuple[Publication, ...]:
    with database.read() as session:
        pin = None if ref is None else references.resolve(session, reference.parse(ref), deleted=True)
        listed = outbox.listed(session, pin)
        # What is there now is the latest of them all, also where only one version was asked for.
        latest = {_place(each): each.commit for each in outbox.listed(session, None) if each.state == "done"}
    if not check:
        return listed
    return tuple(_checked(each, latest[_place(each)]) if each.state == "done" else each for each in listed)


def _place(each: Publication) -> tuple[str, str]:
    return each.repo, each.revision


@contextmanager
def _planned(
    database: Database,
    blobs: BlobStore,
    request: _Request,
    *,
    base_path: str | Path | None,
    remembered: Path | None,
    progress: Progress | None,
) -> Iterator[Plan]:
    """The plan of the release, for as long as its files are there."""
    pin = request.pin
    with ExitStack() as stack:
        if request.target == "adapter":
            files = stack.enter_context(_release.adapter_files(database, blobs, pin))
        else:
            from registry.verbs import materialize  # what merges is paid for where a model is published

            merged = materialize.model_files(
                database,
                blobs,
                pin.ref,
                base_path=base_path,
                remembered=remembered,
                actor=request.actor,
                progress=progress,
            )
            files = stack.enter_context(merged)
        built = {
            path: planned(path, files[path], sha256=_known(blobs, files[path])) for path in sorted(files)
        }
        task = _release.task_type(database, blobs, pin)
        with database.read() as session:
            release = _release.collect(session, pin, request.target, built, task)
        yield publisher.plan(release, built, request.where.repo)


def _known(blobs: BlobStore, path: Path) -> str | None:
    """The digest of a file that is a blob, which was checked before it was handed out.

    A store whose paths do not spell it gets its files hashed again.
    """
    found = digest.PREFIX + path.parent.name + path.name
    return found if digest.is_digest(found) and blobs.has(found) and blobs.path(found) == path else None


def _consent(database: Database, where: Place, *, private: bool, adopt: bool) -> Consent:
    with database.read() as session:
        return Consent(
            known=outbox.known(session, where.repo),
            private=private,
            adopt=adopt,
            last=outbox.last(session, where.repo, where.revision),
        )


def _push(database: Database, request: _Request, wanted: Plan, found: Found, consent: Consent) -> Publication:
    """The outbox: a row before anything is sent, closed when it is known what became of it."""
    publish_id = _begin(database, request, wanted)
    try:
        receipt = publisher.push(
            request.where, wanted, found, consent, publish_id=publish_id, title=request.title
        )
    except Unknown:
        raise  # the row stays pending: the next push to this place looks again
    except RegistryError as error:
        with database.write() as session:
            outbox.fail(session, publish_id, error=error.message)
        raise
    return _finish(database, request, wanted, publish_id, receipt)


def _already(database: Database, request: _Request, wanted: Plan, receipt: Receipt) -> Publication:
    """The release is there: what is recorded of it, which is written down now if it never was."""
    with database.read() as session:
        listed = outbox.listed(session, request.pin)
    known = [each for each in listed if request.is_told_by(each, wanted)]
    if known:
        return known[-1].model_copy(update={"created": False})
    return _finish(database, request, wanted, _begin(database, request, wanted), receipt)


def _there(database: Database, request: _Request, found: Found) -> Publication | None:
    """The record of this version where it is what was pushed here last, and nobody pushed since.

    Its card may tell other things by now; that alone is no reason to push again.
    """
    if found.head is None or not found.branch:
        return None
    with database.read() as session:
        newest = outbox.newest(session, request.where.repo, request.where.revision)
    if newest is None or (newest.ref, newest.target) != (request.pin.ref, request.target):
        return None
    return newest.model_copy(update={"created": False}) if newest.commit == found.head.commit else None


def _begin(database: Database, request: _Request, wanted: Plan) -> str:
    publish_id = uuid.uuid4().hex
    with database.write() as session:
        revocations.refuse(session, [request.pin], "not published")  # it may have been revoked meanwhile
        outbox.begin(
            session,
            request.pin,
            publish_id=publish_id,
            repo=request.where.repo,
            revision=request.where.revision,
            target=request.target,
            files=wanted.digests,
            actor=request.actor,
        )
    return publish_id


def _finish(
    database: Database, request: _Request, wanted: Plan, publish_id: str, receipt: Receipt
) -> Publication:
    with database.write() as session:
        _close(session, publish_id, receipt, request.pin.ref, request.actor)
        session.flush()
        listed = outbox.listed(session, request.pin)
    mine = [each for each in listed if request.is_told_by(each, wanted) and each.commit == receipt.commit]
    return mine[-1].model_copy(update={"created": receipt.made})


def _close(session: Session, publish_id: str, receipt: Receipt, ref: str, actor: str) -> None:
    outbox.finish(session, publish_id, commit=receipt.commit, url=receipt.url, ref=ref, actor=actor)


def _reconcile(database: Database, where: Place, found: Found, actor: str) -> None:
    """Close pushes to this place whose outcome was not seen, by what the Hub has."""
    with database.read() as session:
        left = outbox.unsettled(session, where.repo, where.revision)
    if not left:
        return
    ids = [each.publish_id for each in left]
    arrived = publisher.arrived(where, ids) if found.branch else {}
    whole = {
        each.publish_id
        for each in left
        if each.publish_id in arrived and publisher.holds(where, arrived[each.publish_id].commit, each.files)
    }
    with database.write() as session:
        for each in left:
            if each.publish_id in whole:
                _close(session, each.publish_id, arrived[each.publish_id], each.ref, actor)
            else:
                damaged = each.publish_id in arrived
                error = "arrived damaged" if damaged else "interrupted before it arrived"
                outbox.fail(session, each.publish_id, error=error)


def _checked(each: Publication, latest: str | None) -> Publication:
    if each.commit != latest:
        return each.model_copy(update={"remote": "superseded"})
    where = Place(each.repo, each.revision)
    return each.model_copy(update={"remote": publisher.compare(where, each.files, each.commit)})


def _title(pin: Pin, message: str | None) -> str:
    if message is None:
        return f"Publish {pin.ref}"
    check_text("commit message", message)
    title = " ".join(message.split())
    if not title or len(title) > _LONGEST_MESSAGE:
        raise UsageError(f"a commit message has 1 to {_LONGEST_MESSAGE} characters")
    if holds_token(title):
        raise Refused("the commit message holds a Hub token", hint="revoke that token on the Hub")
    return title


def _tell(progress: Progress | None, wanted: Plan, *, done: bool) -> None:
    if progress is not None:
        size = sum(file.size for file in wanted.files.values())
        progress("pushing", size if done else 0, size)
