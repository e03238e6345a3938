"""Releases on the Hub: describe the push, then do it in one commit, then see that it is what arrived."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry import digest, hub
from registry.errors import Conflict, HubFailure, HubUnavailable, IntegrityFailure, NotFound, UsageError
from registry.hub import Delete, Put, RemoteFile
from registry.publishers import CARD, PROVENANCE, Plan, PlannedFile, Release, _provenance, planned
from registry.publishers._card import card
from registry.publishers._provenance import NotOurs, provenance, subjects

_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock$|/$))[A-Za-z0-9_][A-Za-z0-9._/-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OF_THE_HUB = ".gitattributes"


class Unknown(HubUnavailable):
    """Whether a push arrived could not be seen; the next one to the same place looks again."""


@dataclass(frozen=True)
class Place:
    """A branch of a Hub repo."""

    repo: str
    revision: str = hub.MAIN


@dataclass(frozen=True)
class Found:
    """What is at a place. ``made`` are the files an earlier release put there, None where there was none.

    ``head`` is None where the repo does not exist; ``branch`` says whether the branch does.
    """

    head: hub.Head | None
    branch: bool
    files: Mapping[str, RemoteFile]
    made: Mapping[str, str] | None


@dataclass(frozen=True)
class Consent:
    """What may be done to a repo that exists: ``known`` says that this registry published there before.

    ``private`` is for a repo that has to be made, ``adopt`` for one that somebody else made.
    """

    known: bool
    private: bool
    adopt: bool


@dataclass(frozen=True)
class Receipt:
    """The commit that holds a release, and its address; ``made`` is False where no commit was needed."""

    commit: str
    url: str
    made: bool = True


def place(repo: str, revision: str | None) -> Place:
    """Raises ``UsageError`` for what cannot be a repo or a branch."""
    if "/" not in repo or not hub.is_repo_id(repo):
        raise UsageError(f"{repo!r:.200} is not a repo on the Hub", hint="give OWNER/NAME")
    branch = revision or hub.MAIN
    if _BRANCH.fullmatch(branch) is None or _COMMIT.fullmatch(branch) or branch.startswith("refs/"):
        raise UsageError(f"{branch!r:.200} is not a branch", hint="give a branch's name, such as main")
    return Place(repo, branch)


def plan(release: Release, built: Mapping[str, PlannedFile], repo: str) -> Plan:
    """All files of a release: its weights and config, its card, and the provenance of what was computed."""
    # A base model that a registry published has a card and provenance too, which tell of that one.
    kept = [file for path, file in sorted(built.items()) if path not in {CARD, PROVENANCE}]
    written = [planned(CARD, card(release, repo)), planned(PROVENANCE, provenance(release, kept))]
    return Plan({file.path: file for file in (*kept, *written)})


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
    return Found(start, branch=head is not None, files=files, made=_made(where, start.commit, files))


def check_ours(where: Place, found: Found, consent: Consent) -> None:
    """Raise ``Conflict`` for a repo that somebody else made."""
    if found.head is None or consent.known or consent.adopt or found.made is not None:
        return
    others = sorted(set(found.files) - {_OF_THE_HUB})
    if others:
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise Conflict(
            f"{where.repo} exists and was not made by a registry: it holds {shown}",
            hint="publish to a new repo, or add the release to this one with --adopt",
        )
    if consent.private and not found.head.private:
        raise Conflict(
            f"{where.repo} exists and is public", hint="publish there with --public, or make it private first"
        )


def prepare(where: Place, found: Found, *, private: bool) -> None:
    """Make the repo and the branch where they are missing."""
    if found.head is None:
        hub.create(where.repo, private=private)
    if not found.branch and where.revision != hub.MAIN:
        hub.create_branch(where.repo, where.revision)


def changes(wanted: Plan, found: Found) -> list[Put | Delete]:
    """What has to change; nothing where the release is there already. Files of other people are kept."""
    puts: list[Put | Delete] = [
        Put(path, file.source, file.sha256)
        for path, file in wanted.files.items()
        if not _same(file, found.files.get(path))
    ]
    gone = sorted(
        path
        for path, sha256 in (found.made or {}).items()
        if path not in wanted.files and path in found.files and found.files[path].sha256 in {None, sha256}
    )
    return puts + [Delete(path) for path in gone]


def push(
    where: Place, wanted: Plan, found: Found, consent: Consent, *, publish_id: str, title: str
) -> Receipt:
    """Make the release's one commit, and verify what is there afterwards.

    Raises ``Conflict`` where somebody else pushed since ``found``, ``HubUnavailable`` where it failed, and
    ``Unknown`` where it cannot be seen whether it did.
    """
    if found.head is None or not found.branch:
        prepare(where, found, private=consent.private)
        # Somebody may have been quicker: their files are looked at before they are written over.
        found = look(where)
        check_ours(where, found, consent)
    if found.head is None:
        raise HubUnavailable(f"{where.repo} was made but is not to be seen yet", hint="try again")
    operations = changes(wanted, found)
    if not operations:
        return there(where, found.head)
    receipt = _commit(where, operations, found.head, publish_id, title)
    _verify(where, wanted, operations, receipt)
    return receipt


def there(where: Place, head: hub.Head) -> Receipt:
    """The receipt for a release that is there already."""
    return Receipt(head.commit, hub.commit_url(where.repo, head.commit), made=False)


def arrived(where: Place, publish_ids: Iterable[str]) -> dict[str, Receipt]:
    """Which of these pushes are in the branch's history."""
    ids = {mark(publish_id): publish_id for publish_id in publish_ids}
    try:
        found = hub.landed(where.repo, where.revision, ids)
    except NotFound:
        return {}
    return {ids[mark]: Receipt(sha, hub.commit_url(where.repo, sha)) for mark, sha in found.items()}


def mark(publish_id: str) -> str:
    """What a commit's description says, so that the push is known again whatever became of the answer."""
    return f"publish-id: {publish_id}"


def compare(where: Place, recorded: Mapping[str, str], commit: str | None) -> str:
    """``same``, ``moved`` (other commits since), ``changed`` (our files differ) or ``gone``."""
    try:
        head = hub.head(where.repo, where.revision)
        if head is None:
            return "gone"
        if head.commit == commit:
            return "same"
        files = hub.files(where.repo, head.commit)
    except NotFound:
        return "gone"
    held = all(
        path in files and _digest(where, head.commit, path, files[path]) == sha256
        for path, sha256 in recorded.items()
    )
    return "moved" if held else "changed"


def _digest(where: Place, commit: str, path: str, file: RemoteFile) -> str:
    return file.sha256 or digest.of_bytes(hub.read(where.repo, commit, path))


def _commit(
    where: Place, operations: list[Put | Delete], head: hub.Head, publish_id: str, title: str
) -> Receipt:
    description = f"Published by adapter-registry.\n\n{mark(publish_id)}"
    try:
        return Receipt(
            *hub.commit(
                where.repo,
                where.revision,
                operations,
                parent=head.commit,
                message=title,
                description=description,
            )
        )
    except (HubUnavailable, Conflict) as error:
        # An answer that got lost, and the client's own repetition of a commit that landed, look like failures.
        try:
            done = arrived(where, [publish_id])
        except HubFailure:
            raise Unknown(
                f"{error.message}; whether the push arrived is not known yet",
                hint="run the same command again: it looks before it pushes",
            ) from error
        if publish_id in done:
            return done[publish_id]
        if isinstance(error, Conflict):
            raise Conflict(
                f"somebody pushed to {where.repo} meanwhile; nothing of this release was written",
                hint="look at what changed there, then run the same command again",
            ) from error
        raise


def _verify(where: Place, wanted: Plan, operations: list[Put | Delete], receipt: Receipt) -> None:
    there = hub.files(where.repo, receipt.commit)
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


def _made(where: Place, commit: str, files: Mapping[str, RemoteFile]) -> dict[str, str] | None:
    """The files that an earlier release of a registry put there, by its provenance."""
    if PROVENANCE not in files or files[PROVENANCE].size > _provenance.MAX_SIZE:
        return None
    try:
        return subjects(hub.read(where.repo, commit, PROVENANCE))
    except NotOurs:
        return None
