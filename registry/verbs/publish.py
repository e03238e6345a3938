"""Publish a version: describe the release, write down the intention, push it in one commit, record what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sqlalchemy.orm import Session

from registry import digest, hub, kinds, reference, signing
from registry.blobs import BlobStore
from registry.catalog import publications as outbox
from registry.catalog import references, revocations, turns
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.publications import Entry
from registry.catalog.references import Pin
from registry.errors import Conflict, Refused, RegistryError, UsageError
from registry.publishers import Plan, Terms, _template, holds_token, planned
from registry.publishers import hub as publisher
from registry.publishers.hub import Consent, Found, Overtaken, Place, Receipt, Unknown
from registry.results import Publication, Target
from registry.verbs import _drift, _proposals, _release, _terms
from registry.verbs._drift import Drift, Recorded
from registry.verbs._proposals import Proposal
from registry.verbs._release import Presentation
from registry.verbs._text import check_text

Progress = Callable[[str, int, int], None]
_LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class _Request:
    """A version that is to be published somewhere, by somebody; ``again`` also where only its card would be another."""

    pin: Pin
    where: Place
    target: Target
    title: str
    actor: str
    propose: bool
    tag: str | None
    progress: Progress | None
    terms: Terms
    presentation: Presentation
    again: bool

    def planned(self, wanted: Plan) -> Publication:
        return Publication(
            ref=self.pin.ref,
            repo=self.where.repo,
            revision=self.where.revision,
            target=self.target,
            state="planned",
            files=wanted.digests,
            pull_request=0 if self.propose else None,
            tag=self.tag,
        )

    def is_told_by(self, record: Publication, wanted: Plan) -> bool:
        """Whether a record is of this very release at this place."""
        there = (record.repo, record.revision) == (self.where.repo, self.where.revision)
        same = record.target == self.target and record.files == wanted.digests
        return record.state == "done" and there and same

    def is_proposed_by(self, record: Publication, wanted: Plan) -> bool:
        """Whether a pull request to this place is for this, if need be with another card."""
        version = (record.ref, record.target) == (self.pin.ref, self.target)
        return self.is_told_by(record, wanted) or (version and not self.again)


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
    propose: bool = False,
    tag: str | None = None,
    presentation: Presentation = _release.PLAIN,
    again: bool = True,
) -> Publication:
    if into not in get_args(Target):
        raise UsageError(f"unknown target {into!r}", hint=f"one of: {', '.join(get_args(Target))}")
    where = publisher.place(repo, revision)
    check_manner(where, propose=propose, tag=tag)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        revocations.refuse(session, [pin], "not published")
    if into == "adapter" and not kinds.load(pin.kind).loadable:
        raise Refused(
            f"{pin.ref} is {pin.kind}, which PEFT does not load",
            hint="publish it merged into its base model: --as model",
        )
    title = _title(pin, message)
    if not dry_run:
        database.require("publications")
        hub.require_token()
        _terms.ask_base(database, pin, actor)
    terms = _terms.terms(database, pin, into, presentation, public=not private)
    _terms.check(pin.ref, terms)
    request = _Request(pin, where, into, title, actor, propose, tag, progress, terms, presentation, again)
    release = _planned(
        database, blobs, request, base_path=base_path, remembered=remembered, progress=progress
    )
    if dry_run:
        with release as wanted:
            return request.planned(wanted)
    if not propose:
        return _publish(database, request, release, private=private, adopt=adopt)
    # Of two pushes to a branch the Hub takes one; of two pull requests it opens both.
    with turns.turn(database, f"the pull requests of {where.repo}"):
        return _publish(database, request, release, private=private, adopt=adopt)


def _publish(
    database: Database,
    request: _Request,
    release: AbstractContextManager[Plan],
    *,
    private: bool,
    adopt: bool,
) -> Publication:
    # Whether the push is possible is seen before anything is computed for it.
    where = request.where
    found = publisher.look(where)
    left = settle(database, where, found, request.actor)
    consent = _consent(database, where, private=private, adopt=adopt)
    publisher.check_ours(where, found, consent)
    if not request.again and (there := _there(database, request, found)) is not None:
        return there
    with release as planned_files:
        if request.target == "model":
            found = publisher.look(where)  # merging took its time
            publisher.check_ours(where, found, consent)
        wanted = publisher.fitted(where, planned_files, found, consent)
        done = _bring(database, request, wanted, found, consent)
    return done.model_copy(update={"warnings": (*done.warnings, *left)})


def check_manner(where: Place, *, propose: bool, tag: str | None) -> None:
    """Raise ``UsageError`` for a tag that is none, and for a pull request that the Hub does not open."""
    if tag is not None:
        publisher.check_tag(tag)
    if propose and tag is not None:
        raise UsageError(
            "a pull request cannot be tagged: its commit comes with the merge",
            hint="leave out the tag, and publish with it once the pull request is merged",
        )
    if propose and where.revision != hub.MAIN:
        raise UsageError(
            f"the Hub opens pull requests to {hub.MAIN} only", hint="leave out the branch, or push to it"
        )


def _bring(
    database: Database, request: _Request, wanted: Plan, found: Found, consent: Consent
) -> Publication:
    """See to it that the release is there, in as few commits as it takes: one, or none."""
    where = request.where
    if found.head is not None and found.branch and not publisher.changes(where, wanted, found, consent):
        return _already(database, request, wanted, publisher.there(where, found.head.commit))
    if request.propose and (opened := _opened(database, request, wanted)) is not None:
        return opened.model_copy(update={"created": False})
    if request.tag is not None and found.head is not None:
        try:
            _refuse_taken(where, request.tag, hub.tags(where.repo), None)
        except Conflict as taken:
            if publisher.look(where).head == found.head:
                raise
            # Whoever pushed since we looked may have tagged this very release.
            raise Overtaken(taken.message, hint=taken.hint) from taken
    publisher.check_card(wanted)
    return _push(database, request, wanted, found, consent)


class _Sent:
    """Tells how much of a push is done."""

    def __init__(self, progress: Progress | None, wanted: Plan) -> None:
        self._progress = progress
        self._total = sum(file.size for file in wanted.files.values())
        self._done = 0

    def __call__(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress("pushing", self._done, self._total)

    def all(self) -> None:
        if self._done < self._total:
            self(self._total - self._done)


def settle(database: Database, where: Place, found: Found, actor: str) -> list[str]:
    """Finish what earlier publishes to a place left open, and return what of it could not be finished.

    Pushes whose outcome was not seen are closed by what the Hub has, merged pull requests are counted as being on
    the branch, and missing tags are made.
    """
    reconcile(database, where, found, actor)
    with database.read() as session:
        entries = outbox.at(session, where.repo, where.revision)
    for each in _proposals.follow(database, entries, actor).values():
        if each.error is not None:
            raise each.error
    if found.head is None:
        return []
    untagged = complete_tags(database, where, actor=actor)
    return [f"{each.ref} has no tag {each.tag}: {error.message}" for each, error in untagged if error]


def complete_tags(
    database: Database, where: Place | None = None, *, actor: str
) -> list[tuple[Publication, RegistryError | None]]:
    """Make the tags that publications were to get, at one place or everywhere, where a crash or the Hub prevented it.

    Returns each of those publications, as it is recorded now, and why it has no tag yet. A tag that is on another commit stays there.
    """
    with database.read() as session:
        missing = outbox.untagged(session, *(() if where is None else (where.repo, where.revision)))
    done: list[tuple[Publication, RegistryError | None]] = []
    for each in missing:
        try:
            done.append((_tag(database, each.publish_id, each.shown, actor), None))
        except RegistryError as error:
            done.append((each.shown, error))
    return done


def _tag(database: Database, publish_id: str, shown: Publication, actor: str) -> Publication:
    if shown.tag is None or shown.tagged or shown.commit is None:
        return shown
    hub.tag(shown.repo, shown.tag, shown.commit)
    with database.write() as session:
        outbox.tagged(session, publish_id, ref=shown.ref, actor=actor)
    return shown.model_copy(update={"tagged": True})


def _refuse_taken(where: Place, tag: str, tags: Mapping[str, str], commit: str | None) -> None:
    if tag in tags and tags[tag] != commit:
        raise hub.tag_taken(where.repo, tag, tags[tag])


def _opened(database: Database, request: _Request, wanted: Plan) -> Publication | None:
    """The pull request that proposes this very release, and that nobody has decided about."""
    with database.read() as session:
        entries = outbox.at(session, request.where.repo, request.where.revision)
    mine = [each for each in entries if request.is_proposed_by(each.shown, wanted) and not each.on_branch]
    states = _proposals.follow(database, mine, request.actor)
    return next((each.shown for each in mine if states[each.publish_id].state == "open"), None)


def publications(database: Database, ref: str | None, *, check: bool, actor: str) -> tuple[Publication, ...]:
    with database.read() as session:
        pin = None if ref is None else references.resolve(session, reference.parse(ref), deleted=True)
        listed = outbox.entries(session, pin)
    if not check:
        return tuple(each.shown for each in listed)
    proposals = _proposals.follow(database, listed, actor)
    with database.read() as session:
        listed = outbox.entries(session, pin)  # a pull request may have been merged
        # What is there now is the latest of them all, also where only one version was asked for.
        everything = listed if pin is None else outbox.entries(session, None)
    latest = {_place(each): each for each in everything if _counts(each)}
    wanted = {_place(each) for each in listed if _counts(each)}
    drift = _looked(database, {where: latest[where] for where in latest if where in wanted})
    return tuple(_checked(each, proposals, latest, drift) for each in listed)


def _place(each: Entry) -> Place:
    return Place(each.shown.repo, each.shown.revision)


def _counts(each: Entry) -> bool:
    return each.shown.state == "done" and each.on_branch


def _looked(database: Database, latest: Mapping[Place, Entry]) -> Mapping[Place, Drift]:
    """What the Hub has at these places; a head that was found to hold our files is remembered."""
    expected = {
        where: Recorded(each.shown.commit, each.seen, each.shown.files) for where, each in latest.items()
    }
    drift = _drift.look(expected)
    seen = [
        (latest[where], found.head)
        for where, found in drift.items()
        if found.state == "moved" and found.head is not None and found.head != latest[where].seen
    ]
    if seen and database.allows("publications"):
        with database.write() as session:
            for each, commit in sorted(seen, key=lambda pair: pair[0].number):  # as all lock these rows
                outbox.see(session, each.publish_id, commit)
    return drift


def _checked(
    each: Entry,
    proposals: Mapping[str, Proposal],
    latest: Mapping[Place, Entry],
    drift: Mapping[Place, Drift],
) -> Publication:
    if each.shown.state != "done":
        return each.shown
    proposal, where = proposals.get(each.publish_id), _place(each)
    if proposal is not None and proposal.state != "merged":
        return _remote(each.shown, proposal.state, proposal.error)
    if latest[where].publish_id != each.publish_id and latest[where].shown.commit != each.shown.commit:
        return _remote(each.shown, "superseded", None)
    return _remote(each.shown, drift[where].state, drift[where].error)


def _remote(shown: Publication, state: str, error: RegistryError | None) -> Publication:
    if error is not None:
        return shown.model_copy(update={"warnings": (error.message,)})
    return shown.model_copy(update={"remote": state})


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
    pin, shown = request.pin, request.presentation
    # A template or a key that cannot be used is known before anything is computed.
    template = None if shown.card_template is None else _template.read(shown.card_template)
    if shown.sign_key is not None:
        signing.check_key(shown.sign_key)
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
        seen = _release.traits(database, blobs, pin)
        with database.read() as session:
            release = _release.collect(session, pin, request.target, built, seen=seen, terms=request.terms)
        yield publisher.plan(release, built, request.where.repo, template=template, key=shown.sign_key)


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
    sent = _Sent(request.progress, wanted)
    publish_id = _begin(database, request, wanted.digests)
    try:
        sent(0)
        receipt = publisher.push(
            request.where,
            wanted,
            found,
            consent,
            publish_id=publish_id,
            title=request.title,
            propose=request.propose,
            sent=sent,
        )
    except Unknown:
        raise  # the row stays pending: the next push to this place looks again
    except RegistryError as error:
        with database.write() as session:
            outbox.fail(session, publish_id, error=error.message)
        raise
    sent.all()
    return _finish(database, request, publish_id, receipt)


def _already(database: Database, request: _Request, wanted: Plan, receipt: Receipt) -> Publication:
    """The release is there: what is recorded of it, which is written down now if it never was."""
    with database.read() as session:
        entries = outbox.at(session, request.where.repo, request.where.revision)
    told = [each for each in entries if request.is_told_by(each.shown, wanted)]
    if request.tag is not None:
        return _already_tagged(database, request, wanted, told, receipt)
    if told:
        return told[-1].shown.model_copy(update={"created": False})
    return _finish(database, request, _begin(database, request, wanted.digests), receipt)


def _already_tagged(
    database: Database, request: _Request, wanted: Plan, told: Sequence[Entry], receipt: Receipt
) -> Publication:
    """The release is there, and is to have a tag: on the commit that brought it, or else on what is there now."""
    tag, where = request.tag or "", request.where
    # The commit of a pull request is not the one that the branch got.
    mine = [each for each in told if each.shown.pull_request is None and each.shown.tag in {tag, None}]
    mine.sort(key=lambda each: each.shown.tag == tag)
    entry = mine[-1] if mine else None
    _refuse_taken(where, tag, hub.tags(where.repo), entry.shown.commit if entry else receipt.commit)
    if entry is not None:
        with database.write() as session:
            kept = outbox.want_tag(session, entry.publish_id, tag)
            shown = outbox.get(session, entry.publish_id)
        if kept:
            done = _tag(database, entry.publish_id, shown, request.actor)
            return done.model_copy(update={"created": False})
    return _finish(database, request, _begin(database, request, wanted.digests), receipt)


def _there(database: Database, request: _Request, found: Found) -> Publication | None:
    """The record of this version where it is what came here last, and the branch is known to hold it; with its tag.

    Its card may tell other things by now; that alone is no reason to push again.
    """
    where = request.where
    if found.head is None or not found.branch:
        return None
    with database.read() as session:
        entries = [each for each in outbox.at(session, where.repo, where.revision) if each.on_branch]
    if not entries or found.head.commit not in {entries[-1].shown.commit, entries[-1].seen}:
        return None
    last, shown = entries[-1], entries[-1].shown
    if (shown.ref, shown.target) != (request.pin.ref, request.target):
        return None
    if (tag := request.tag) is not None and not (shown.tagged and shown.tag == tag):
        with database.write() as session:
            kept = outbox.want_tag(session, last.publish_id, tag)
            shown = outbox.get(session, last.publish_id)
        if not kept:
            # A record has one tag: the same commit gets another one by another record.
            receipt = publisher.there(where, shown.commit or found.head.commit)
            _refuse_taken(where, tag, hub.tags(where.repo), receipt.commit)
            return _finish(database, request, _begin(database, request, shown.files), receipt)
        shown = _tag(database, last.publish_id, shown, request.actor)
    return shown.model_copy(update={"created": False})


def _begin(database: Database, request: _Request, files: Mapping[str, str]) -> str:
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
            files=files,
            proposed=request.propose,
            tag=request.tag,
            actor=request.actor,
        )
        if request.terms.despite is not None:
            told = {"repo": request.where.repo, **_despite(request)}
            record(session, request.actor, "publish despite license", request.pin.ref, **told)
    return publish_id


def _finish(database: Database, request: _Request, publish_id: str, receipt: Receipt) -> Publication:
    with database.write() as session:
        _close(session, publish_id, receipt, request.pin.ref, request.actor, **_despite(request))
        session.flush()
        shown = outbox.get(session, publish_id)
    shown = shown.model_copy(update={"created": receipt.made})
    return _tag(database, publish_id, shown, request.actor)


def _despite(request: _Request) -> dict[str, Any]:
    """What an event tells of a release that goes against a license."""
    terms = request.terms
    return {} if terms.despite is None else {"despite": terms.despite, "conflicts": list(terms.conflicts)}


def _close(session: Session, publish_id: str, receipt: Receipt, ref: str, actor: str, **detail: Any) -> None:
    outbox.finish(
        session,
        publish_id,
        commit=receipt.commit,
        url=receipt.url,
        pull_request=receipt.pull_request,
        ref=ref,
        actor=actor,
        **detail,
    )


def reconcile(database: Database, where: Place, found: Found, actor: str) -> None:
    """Close pushes to this place whose outcome was not seen, by what the Hub has."""
    with database.read() as session:
        left = outbox.unsettled(session, where.repo, where.revision)
    if not left:
        return
    pushed = [each.publish_id for each in left if not each.proposed]
    arrived = publisher.arrived(where, pushed) if found.branch and pushed else {}
    asked = [each for each in left if each.proposed]
    if asked and found.head is not None:
        since = min(each.created_at for each in asked)
        arrived |= publisher.proposed(where, [each.publish_id for each in asked], since)
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
                damaged = arrived.get(each.publish_id)
                error = "arrived damaged" if damaged else "interrupted before it arrived"
                outbox.fail(session, each.publish_id, error=error, commit=damaged.commit if damaged else None)


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
