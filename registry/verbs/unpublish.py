"""Take what was published off the Hub again: a commit that leaves a tombstone, or the whole repo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry import hub, reference
from registry.catalog import publications as outbox
from registry.catalog import references
from registry.catalog.database import Database
from registry.catalog.publications import Entry
from registry.errors import Conflict, NotFound, Refused, UsageError
from registry.publishers import holds_token
from registry.publishers import hub as publisher
from registry.publishers._tombstone import tombstone
from registry.publishers.hub import Place, Receipt, Removal
from registry.results import Unpublished
from registry.verbs import _proposals, publish
from registry.verbs._text import check_text

HUB = "hf://"
_SHOWN = "what was published where: registry publications"
_LONGEST_REASON = 1000


@dataclass(frozen=True)
class _Wish:
    """Where something is to be taken off, and by the name of which version, if it was not the repo's own."""

    where: Place
    ref: str | None
    reason: str | None
    actor: str


def unpublish(
    database: Database,
    what: str,
    *,
    revision: str | None,
    delete: bool,
    reason: str | None,
    actor: str,
) -> Unpublished:
    reason = _checked(reason)
    database.require("publications")
    repo = _repo(database, what)
    if delete:
        if revision is not None:
            raise UsageError("a repo is deleted with all its branches", hint="leave out the branch")
        if repo is None:
            raise UsageError(
                f"a repo is deleted by its own name, and {what!r:.200} is none that was published to",
                hint=f"give OWNER/NAME; {_SHOWN}",
            )
        hub.require_token()
        return _delete(database, _Wish(publisher.place(repo, None), None, reason, actor))
    if repo is not None:
        wish = _Wish(publisher.place(repo, revision), None, reason, actor)
    else:
        wish = _of_version(database, what, revision, reason, actor)
    hub.require_token()
    return _withdraw(database, wish)


def _checked(reason: str | None) -> str | None:
    if reason is None:
        return None
    check_text("reason", reason)
    text = " ".join(reason.split())
    if not text or len(text) > _LONGEST_REASON:
        raise UsageError(f"a reason has 1 to {_LONGEST_REASON} characters")
    if holds_token(text):
        raise Refused("the reason holds a Hub token", hint="revoke that token on the Hub")
    return text


def _repo(database: Database, what: str) -> str | None:
    """The repo that is meant, or None where it can only be a version."""
    name = what.removeprefix(HUB)
    if "@" in what or not ("/" in name and hub.is_repo_id(name)):
        return None
    with database.read() as session:
        told = outbox.mentioned(session, name)  # also by a push that nobody saw arrive
    return name if told or what.startswith(HUB) else None


def _of_version(database: Database, ref: str, revision: str | None, reason: str | None, actor: str) -> _Wish:
    """The one place that a version was published to."""
    with database.read() as session:
        try:
            pin = references.resolve(session, reference.parse(ref), deleted=True)
        except NotFound as error:
            raise NotFound(error.message, hint=_SHOWN) from None
        told = [
            each.shown
            for each in outbox.entries(session, pin)
            if each.shown.state in {"done", "withdrawn"} and revision in {None, each.shown.revision}
        ]
    live = [each for each in told if each.state == "done"] or told
    places = list(dict.fromkeys(Place(each.repo, each.revision) for each in live))
    if not places:
        raise NotFound(f"{pin.ref} was not published there", hint=_SHOWN)
    if len(places) > 1:
        shown = ", ".join(f"{each.repo} ({each.revision})" for each in places)
        raise UsageError(f"{pin.ref} was published to several places: {shown}", hint="name the repo")
    return _Wish(places[0], pin.ref, reason, actor)


def _withdraw(database: Database, wish: _Wish) -> Unpublished:
    """Leave a tombstone on the branch, and close the pull requests to it that nobody decided about."""
    where = wish.where
    found = publisher.look(where)
    publish.reconcile(database, where, found, wish.actor)
    with database.read() as session:
        entries = outbox.at(session, where.repo, where.revision)
    for proposal in _proposals.follow(database, entries, wish.actor).values():
        if proposal.error is not None:
            raise proposal.error
    with database.read() as session:
        entries = outbox.at(session, where.repo, where.revision)
        known = outbox.known(session, where.repo)
    if not known:
        raise NotFound(
            f"nothing was published to {where.repo} by this registry",
            hint=_SHOWN,
        )
    proposed = [each for each in entries if not each.on_branch and wish.ref in {None, each.shown.ref}]
    brought = _brought(wish, entries)
    if found.head is None and (proposed or brought):
        raise NotFound(
            f"{where.repo} is not there, or this token may not see it",
            hint="if it was deleted, record that: registry unpublish REPO --delete",
        )
    done: Receipt | None = None
    kept: tuple[str, ...] = ()
    if brought:
        done, kept = _take_off(wish, found, brought[-1])
    for each in proposed:
        hub.close(where.repo, each.shown.pull_request or 0, f"Withdrawn: {wish.reason or each.shown.ref}")
    withdrawn = [*brought, *proposed]
    _record(database, wish, withdrawn, commit=done.commit if done else None, deleted=False)
    return Unpublished(
        repo=where.repo,
        revision=where.revision,
        refs=_refs(withdrawn) or (() if wish.ref is None else (wish.ref,)),
        reason=wish.reason,
        deleted=False,
        commit=done.commit if done else None,
        url=done.url if done else None,
        kept=kept,
        changed=bool(done or proposed),
    )


def _brought(wish: _Wish, entries: Sequence[Entry]) -> list[Entry]:
    """What is to be taken off the branch, the last one last: all of it, of which only that one is there."""
    brought = [each for each in entries if each.on_branch]
    if wish.ref is None or not brought or brought[-1].shown.ref == wish.ref:
        return brought
    if any(each.shown.ref == wish.ref for each in brought):
        raise Conflict(
            f"{wish.where.repo} holds {brought[-1].shown.ref} by now, not {wish.ref}",
            hint=f"unpublish {brought[-1].shown.ref}, or publish something else there",
        )
    return []


def _take_off(wish: _Wish, found: publisher.Found, last: Entry) -> tuple[Receipt | None, tuple[str, ...]]:
    """The commit that did it, also where an earlier run made it and did not live to tell, and the files that stay."""
    where, ref = wish.where, last.shown.ref
    what: Removal = publisher.removal(
        where,
        found,
        last.shown.files,
        lambda written: tombstone(ref, wish.reason, written, repo=where.repo),
    )
    done = publisher.withdrawal(where, last.publish_id)
    if done is None and what.operations:
        done = publisher.remove(where, found, what, publish_id=last.publish_id, title=f"Withdraw {ref}")
    return done, what.kept


def _delete(database: Database, wish: _Wish) -> Unpublished:
    """Remove the repo, which has to be one of ours; what was done before a crash is only recorded."""
    repo = wish.where.repo
    with database.read() as session:
        branches = outbox.mentioned(session, repo)
    for place in (Place(repo, branch) for branch in branches):
        with database.read() as session:
            left = outbox.unsettled(session, place.repo, place.revision)
        if left:
            publish.reconcile(database, place, publisher.look(place), wish.actor)
    with database.read() as session:
        known, entries = outbox.known(session, repo), outbox.at(session, repo)
    if not known:
        raise Conflict(
            f"{repo} was not made or adopted by this registry", hint="delete it on the Hub, if that is meant"
        )
    try:
        there = hub.head(repo, hub.MAIN) is not None
    except NotFound:
        there = False
    if there:
        hub.delete(repo)
    _record(database, wish, entries, commit=None, deleted=True)
    return Unpublished(
        repo=repo,
        revision=wish.where.revision,
        refs=_refs(entries),
        reason=wish.reason,
        deleted=True,
        changed=there,
    )


def _record(
    database: Database, wish: _Wish, entries: Sequence[Entry], *, commit: str | None, deleted: bool
) -> None:
    with database.write() as session:
        for each in sorted(entries, key=lambda entry: entry.number):
            outbox.withdraw(
                session,
                each.publish_id,
                ref=each.shown.ref,
                reason=wish.reason,
                actor=wish.actor,
                commit=commit,
                deleted=deleted,
            )


def _refs(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.shown.ref for each in entries))
