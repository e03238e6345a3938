"""Releases on the Hub: describe the push, then do it in one commit, then see that it is what arrived."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from registry import digest, hub, signing
from registry._hub_errors import Busy
from registry._hub_patience import Patience
from registry.errors import Conflict, HubUnavailable, IntegrityFailure, NotFound, RegistryError, UsageError
from registry.hub import Delete, Put, RemoteFile
from registry.publishers import CARD, PROVENANCE, Plan, PlannedFile, Release, _merge, _provenance, planned
from registry.publishers._card import card
from registry.publishers._provenance import NotOurs, provenance, subjects
from registry.publishers._template import Template

R = TypeVar("R")

_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock$|/$))[A-Za-z0-9_][A-Za-z0-9._/-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_NAME = 200
_LONGEST_CARD = 1 << 20
_CLOCKS = timedelta(days=1)  # by which the Hub's may differ from ours
_OF_THE_HUB = ".gitattributes"
_LOOK_AGAIN = "run the same command again: it looks before it pushes"


class Unknown(HubUnavailable):
    """Whether a push arrived could not be seen; the next one to the same place looks again."""


class Overtaken(Conflict):
    """Somebody else pushed between looking and pushing; who looks again may push again."""


@dataclass(frozen=True)
class Place:
    """A branch of a Hub repo."""

    repo: str
    revision: str = hub.MAIN


@dataclass(frozen=True)
class Found:
    """What is at a place. ``made`` are the files that a registry's provenance there tells of, None without one.

    ``head`` is None where the repo does not exist; ``branch`` says whether the branch does. ``card`` and
    ``signature`` are the bytes of those files, None where there are none, or too many.
    """

    head: hub.Head | None
    branch: bool
    files: Mapping[str, RemoteFile]
    made: Mapping[str, str] | None
    card: bytes | None = None
    signature: bytes | None = None


@dataclass(frozen=True)
class Consent:
    """What may be done to a repo that exists: ``known`` says that this registry made or adopted it before.

    ``private`` forbids a public repo, ``adopt`` allows one that somebody else made. ``last`` has the digests of
    the files in this registry's last release there.
    """

    known: bool
    private: bool
    adopt: bool
    last: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """The commit that holds a release, and its address; ``made`` is False where no commit was needed.

    ``pull_request`` is the number of the one that the commit is in, None where it is on the branch.
    """

    commit: str
    url: str
    made: bool = True
    pull_request: int | None = None


def place(repo: str, revision: str | None) -> Place:
    """Raises ``UsageError`` for what cannot be a repo or a branch."""
    if "/" not in repo or not hub.is_repo_id(repo):
        raise UsageError(f"{repo!r:.200} is not a repo on the Hub", hint="give OWNER/NAME")
    branch = revision or hub.MAIN
    if not _is_reference(branch):
        raise UsageError(f"{branch!r:.200} is not a branch", hint="give a branch's name, such as main")
    return Place(repo, branch)


def check_tag(name: str) -> None:
    """Raises ``UsageError`` for what cannot be a tag."""
    if not _is_reference(name):
        raise UsageError(f"{name!r:.200} is not a tag", hint="give a name, such as v1")


def _is_reference(name: str) -> bool:
    # What looks like a commit would hide one.
    plain = _BRANCH.fullmatch(name) is not None and len(name) <= _LONGEST_NAME
    return plain and _COMMIT.fullmatch(name) is None and not name.startswith("refs/")


def plan(
    release: Release,
    built: Mapping[str, PlannedFile],
    repo: str,
    *,
    template: Template | None = None,
    key: Path | None = None,
) -> Plan:
    """All files of a release: its weights and config, its card, the provenance of what was computed, and with a
    private ``key`` a signature over them.
    """
    # A base model that a registry published has a card and provenance too, which tell of that one.
    kept = [file for path, file in sorted(built.items()) if path not in {CARD, PROVENANCE, signing.SIGNATURE}]
    written = [planned(CARD, card(release, repo, template)), planned(PROVENANCE, provenance(release, kept))]
    files = {file.path: file for file in (*kept, *written)}
    if key is not None:
        made = signing.sign(_signable(files), key)
        files[signing.SIGNATURE] = planned(signing.SIGNATURE, made)
    return Plan(files, key)


def fitted(where: Place, wanted: Plan, found: Found, consent: Consent) -> Plan:
    """The plan beside what is there: other people's parts of the card stay, and a signature of the same files by the
    same key, as no two are alike. Raises ``Conflict`` for a card in which it cannot be told what is whose.
    """
    files = dict(wanted.files)
    if CARD in files and CARD in found.files:
        files[CARD] = _merged(where, files[CARD], found, consent)
    if wanted.key is not None and found.signature is not None:
        with suppress(IntegrityFailure):
            if signing.signed_by(found.signature, wanted.key) == _signable(files):
                files[signing.SIGNATURE] = planned(signing.SIGNATURE, found.signature)
    return Plan(files, wanted.key)


def _merged(where: Place, ours: PlannedFile, found: Found, consent: Consent) -> PlannedFile:
    if found.card is None:
        raise _too_long(where, found)
    if not isinstance(ours.source, bytes) or digest.of_bytes(found.card) == consent.last.get(CARD):
        return ours  # all of it is ours: releases without markers recorded the whole file
    return planned(CARD, _merge.merge(ours.source, found.card, repo=where.repo))


def _too_long(where: Place, found: Found) -> Conflict:
    return Conflict(
        f"README.md of {where.repo} has {found.files[CARD].size} bytes, too many to keep what others wrote in it",
        hint="make it shorter, or delete it there",
    )


def _signable(files: Mapping[str, PlannedFile]) -> dict[str, str]:
    return {path: files[path].sha256 for path in signing.covered(files)}


def look(where: Place) -> Found:
    """See what is at a place; reads only."""
    try:
        head = hub.head(where.repo, where.revision)
        start = head or hub.head(where.repo, hub.MAIN)
    except NotFound:
        return Found(None, branch=False, files={}, made=None)
    if start is None:
        raise NotFound(f"{where.repo} has no branch {where.revision}", hint="leave out --revision")
    files = hub.files(where.repo, start.commit)
    return Found(
        start,
        branch=head is not None,
        files=files,
        made=_made(where, start.commit, files),
        card=_small(where, start.commit, files, CARD, _merge.MAX_SIZE),
        signature=_small(where, start.commit, files, signing.SIGNATURE, signing.MAX_SIZE),
    )


def check_ours(where: Place, found: Found, consent: Consent) -> None:
    """Raise ``Conflict`` for a repo of somebody else, and for a public one where that was not asked for."""
    if found.head is None:
        return
    others = sorted(set(found.files) - {_OF_THE_HUB})
    # A provenance that a registry wrote is no permission: everybody's registry writes one.
    if others and not (consent.known or consent.adopt):
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise Conflict(
            f"{where.repo} exists and was not made by this registry: it holds {shown}",
            hint="publish to a new repo, or add the release to this one with --adopt",
        )
    # Whoever made it, and whatever was said before: what is sent there is seen by everybody.
    if consent.private and not found.head.private:
        again = ", and publishing there again needs --public again" if consent.known else ""
        raise Conflict(
            f"{where.repo} exists and is public{again}",
            hint="pass --public if that is meant, or make the repo private first",
        )


def prepare(where: Place, found: Found, *, private: bool) -> None:
    """Make the repo and the branch where they are missing."""
    if found.head is None:
        hub.create(where.repo, private=private)
    if not found.branch and where.revision != hub.MAIN:
        hub.create_branch(where.repo, where.revision)


def changes(where: Place, wanted: Plan, found: Found, consent: Consent) -> list[Put | Delete]:
    """What has to change; nothing where the release is there already. Files of other people are kept."""
    puts: list[Put | Delete] = [
        Put(path, file.source, file.sha256)
        for path, file in wanted.files.items()
        if not _same(file, found.files.get(path))
    ]
    return puts + [Delete(path) for path in sorted(_left_over(where, wanted, found, consent))]


def check_card(wanted: Plan) -> None:
    """Raise ``Refused`` for a model card that the Hub would refuse, before anything is made or sent."""
    if CARD in wanted.files:
        source = wanted.files[CARD].source
        content = source if isinstance(source, bytes) else source.read_bytes()
        hub.validate_card(content.decode())


def push(
    where: Place,
    wanted: Plan,
    found: Found,
    consent: Consent,
    *,
    publish_id: str,
    title: str,
    propose: bool = False,
    sent: Callable[[int], None] = lambda _: None,
) -> Receipt:
    """Make the release's one commit, or propose it, and verify what is there afterwards.

    ``sent`` is called with the bytes of each large file that is there. Raises ``Conflict`` where somebody else
    pushed since ``found``, ``HubUnavailable`` where it failed, and ``Unknown`` where it cannot be seen whether it did.
    """
    if found.head is None or not found.branch:
        prepare(where, found, private=consent.private)
        # Somebody may have been quicker: their files are looked at before they are written over.
        found = look(where)
        try:
            check_ours(where, found, consent)
        except Conflict as error:  # that may have been this registry, in another process
            raise Overtaken(error.message, hint=error.hint) from error
        wanted = fitted(where, wanted, found, consent)
    if found.head is None:
        raise HubUnavailable(f"{where.repo} was made but is not to be seen yet", hint="try again")
    operations = changes(where, wanted, found, consent)
    if not operations:
        return there(where, found.head.commit)
    upload = hub.Upload(where.repo, where.revision, operations, propose=propose)
    upload.send(sent)
    receipt = _commit(where, upload, found.head, publish_id, title)
    _verify(where, wanted, operations, receipt)
    return receipt


def there(where: Place, commit: str) -> Receipt:
    """The receipt for a release that is there already."""
    return Receipt(commit, hub.commit_url(where.repo, commit), made=False)


def arrived(where: Place, publish_ids: Iterable[str]) -> dict[str, Receipt]:
    """Which of these pushes are in the branch's history."""
    ids = {mark(publish_id): publish_id for publish_id in publish_ids}
    try:
        found = hub.landed(where.repo, where.revision, ids)
    except NotFound:
        return {}
    return {ids[mark]: Receipt(sha, hub.commit_url(where.repo, sha)) for mark, sha in found.items()}


def proposed(where: Place, publish_ids: Iterable[str], since: datetime) -> dict[str, Receipt]:
    """Which of these pushes are in a pull request that was opened since a moment."""
    ids = {mark(publish_id): publish_id for publish_id in publish_ids}
    done: dict[str, Receipt] = {}
    try:
        for number in hub.pull_requests(where.repo, since - _CLOCKS):
            found = hub.landed(where.repo, f"refs/pr/{number}", ids.keys() - {mark(each) for each in done})
            done |= {ids[text]: _proposal(where, sha, number) for text, sha in found.items()}
            if len(done) == len(ids):
                break
    except NotFound:
        return done
    return done


def _proposal(where: Place, commit: str, number: int) -> Receipt:
    return Receipt(commit, f"{hub.endpoint()}/{where.repo}/discussions/{number}", pull_request=number)


def mark(publish_id: str) -> str:
    """What a commit's description says, so that the push is known again whatever became of the answer."""
    return f"publish-id: {publish_id}"


def withdrawal(where: Place, publish_id: str) -> Receipt | None:
    """The commit that took a release off the branch, if there is one."""
    try:
        found = hub.landed(where.repo, where.revision, [_withdrawal(publish_id)])
    except NotFound:
        return None
    return next((Receipt(sha, hub.commit_url(where.repo, sha)) for sha in found.values()), None)


def _withdrawal(publish_id: str) -> str:
    return f"withdrawal-of: {publish_id}"  # which must not look like the mark of a push


@dataclass(frozen=True)
class Removal:
    """What takes a release off a branch: its own files, as long as nobody changed them; ``kept`` are all others."""

    operations: Sequence[Put | Delete]
    kept: tuple[str, ...]


def removal(
    where: Place, found: Found, recorded: Mapping[str, str], card: Callable[[bytes | None], bytes]
) -> Removal:
    """How to take these files off; ``card`` writes the README.md, around what people wrote into the last one."""
    if found.head is None:
        return Removal((), ())
    commit = found.head.commit
    ours = {path for path in recorded if _holds(where, commit, found.files, path, recorded[path])}
    kept = tuple(sorted(found.files.keys() - ours - {_OF_THE_HUB, CARD}))
    operations: list[Put | Delete] = [Delete(path) for path in sorted(ours - {CARD})]
    if not operations and CARD not in ours:
        return Removal((), kept)
    if CARD in found.files and found.card is None:
        raise _too_long(where, found)
    whole = found.card is not None and digest.of_bytes(found.card) == recorded.get(CARD)
    text = card(None if whole else found.card)
    operations.append(Put(CARD, text, digest.of_bytes(text)))
    return Removal(operations, kept)


def remove(where: Place, found: Found, what: Removal, *, publish_id: str, title: str) -> Receipt:
    """Make the one commit that takes a release off its branch, and see that it did. Raises as :func:`push` does."""
    if found.head is None:
        raise NotFound(f"{where.repo} is not there")
    upload = hub.Upload(where.repo, where.revision, what.operations, propose=False)
    upload.send(lambda _: None)
    done = make_commit(
        where.repo,
        upload,
        parent=found.head.commit,
        title=title,
        description=f"Unpublished by adapter-registry.\n\n{_withdrawal(publish_id)}",
        seen=lambda: withdrawal(where, publish_id),
    )
    receipt = (
        done if isinstance(done, Receipt) else Receipt(done.commit, hub.commit_url(where.repo, done.commit))
    )
    left = hub.files(where.repo, receipt.commit)
    if still := [each.path for each in what.operations if isinstance(each, Delete) and each.path in left]:
        raise IntegrityFailure(
            f"{where.repo} at {receipt.commit} still holds {', '.join(still)}", hint="unpublish again"
        )
    return receipt


def holds(where: Place, commit: str, recorded: Mapping[str, str]) -> bool:
    """Whether a commit has these files with these digests."""
    return _all_hold(where, commit, hub.files(where.repo, commit), recorded)


def _all_hold(
    where: Place, commit: str, files: Mapping[str, RemoteFile], recorded: Mapping[str, str]
) -> bool:
    # What the listing tells costs nothing, so it comes before any download.
    told = {path: sha for path, sha in recorded.items() if path != CARD}
    if any(path not in files or files[path].sha256 not in {None, sha} for path, sha in told.items()):
        return False
    return all(_holds(where, commit, files, path, sha256) for path, sha256 in recorded.items())


def _holds(where: Place, commit: str, files: Mapping[str, RemoteFile], path: str, sha256: str) -> bool:
    """Whether a file has this digest; of a small one the Hub tells none, so that it is read.

    The digest of a card is that of our part, or, from earlier releases, of all of it.
    """
    if path not in files:
        return False
    if path == CARD:
        content = hub.read(where.repo, commit, path)
        return sha256 in {digest.of_bytes(content), digest.of_bytes(_merge.part(content))}
    return (files[path].sha256 or digest.of_bytes(hub.read(where.repo, commit, path))) == sha256


def _left_over(where: Place, wanted: Plan, found: Found, consent: Consent) -> set[str]:
    """Files of the last release that this one has not, and that nobody changed since.

    What was in it is told by our own record, or by a provenance that all of its files agree with: anybody can
    write a provenance.json that names the files of somebody else.
    """
    if found.head is None:
        return set()
    commit, others = found.head.commit, found.files.keys() - wanted.files.keys()
    gone = {
        path
        for path in others & consent.last.keys()
        if _holds(where, commit, found.files, path, consent.last[path])
    }
    told = others & (found.made or {}).keys() - gone
    if told and found.made and _all_hold(where, commit, found.files, found.made):
        gone |= told
    return gone


def _commit(where: Place, upload: hub.Upload, head: hub.Head, publish_id: str, title: str) -> Receipt:
    started = datetime.now(UTC)

    def look_for_it() -> Receipt | None:
        ids = [publish_id]
        done = proposed(where, ids, started) if upload.propose else arrived(where, ids)
        return done.get(publish_id)

    description = f"Published by adapter-registry.\n\n{mark(publish_id)}"
    done = make_commit(
        where.repo, upload, parent=head.commit, title=title, description=description, seen=look_for_it
    )
    if isinstance(done, Receipt):
        return done
    if done.pull_request is not None:
        return _proposal(where, done.commit, done.pull_request)
    return Receipt(done.commit, hub.commit_url(where.repo, done.commit))


def make_commit(
    repo: str,
    upload: hub.Upload,
    *,
    parent: str,
    title: str,
    description: str,
    seen: Callable[[], R | None],
) -> hub.Committed | R:
    """A commit that is made once, however often it has to be asked for; ``seen`` tells one whose answer got lost."""
    patience = Patience()
    while True:
        try:
            return upload.commit(parent=parent, message=title, description=description)
        except (HubUnavailable, Conflict) as error:
            # It is looked for after the wait, when a commit that was still on its way will have arrived.
            again = isinstance(error, Busy) and patience.waits(error)
            # An answer that got lost, and a repetition of a commit that landed, look like failures.
            try:
                done = seen()
            except RegistryError:
                raise Unknown(
                    f"{error.message}; whether the push arrived is not known yet", hint=_LOOK_AGAIN
                ) from error
            if done is not None:
                return done
            if isinstance(error, Conflict):
                raise Overtaken(
                    f"somebody pushed to {repo} meanwhile; nothing of this was written",
                    hint="look at what changed there, then run the same command again",
                ) from error
            if not again:
                raise


def _verify(where: Place, wanted: Plan, operations: list[Put | Delete], receipt: Receipt) -> None:
    try:
        there = hub.files(where.repo, receipt.commit)
    except RegistryError as error:
        # The commit was made: only what it holds is not known, which is no failure of the push.
        raise Unknown(
            f"{error.message}; the push arrived, but could not be verified yet", hint=_LOOK_AGAIN
        ) from error
    damaged = [path for path, file in wanted.files.items() if not _same(file, there.get(path))]
    damaged += [each.path for each in operations if isinstance(each, Delete) and each.path in there]
    if damaged:
        raise IntegrityFailure(
            f"{where.repo} at {receipt.commit} does not hold what was pushed: {', '.join(damaged)}",
            hint="publish again",
        )


def _same(file: PlannedFile, remote: RemoteFile | None) -> bool:
    if remote is None or remote.size != file.size:
        return False
    return remote.git_oid == file.git_oid if remote.sha256 is None else remote.sha256 == file.sha256


def _small(where: Place, commit: str, files: Mapping[str, RemoteFile], path: str, limit: int) -> bytes | None:
    if path not in files or files[path].size > limit:
        return None
    return hub.read(where.repo, commit, path)


def _made(where: Place, commit: str, files: Mapping[str, RemoteFile]) -> dict[str, str] | None:
    """The files that an earlier release of a registry put there, by its provenance."""
    if PROVENANCE not in files or files[PROVENANCE].size > _provenance.MAX_SIZE:
        return None
    try:
        return subjects(hub.read(where.repo, commit, PROVENANCE))
    except NotOurs:
        return None
