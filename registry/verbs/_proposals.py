"""What became of the pull requests that publications went into, and that a merged one is on its branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from registry import hub
from registry.catalog import publications as outbox
from registry.catalog.database import Database
from registry.catalog.publications import Entry
from registry.errors import NotFound, RegistryError
from registry.publishers import hub as publisher
from registry.publishers.hub import Place

_AT_ONCE = 8


@dataclass(frozen=True)
class Proposal:
    """A pull request as it stands; ``unknown`` where the Hub could not be asked, for the ``error``.

    ``commit`` is what brought a merged one to the branch; its own where that of the merge has other files.
    """

    state: Literal["open", "closed", "merged", "gone", "unknown"]
    commit: str | None = None
    error: RegistryError | None = None


def follow(
    database: Database, entries: Sequence[Entry], actor: str, *, keep: bool = True
) -> Mapping[str, Proposal]:
    """The pull requests that were not known to be merged, by publish id; with ``keep`` those that are now are recorded so.

    It is one request for each of them. Raises nothing of the Hub's.
    """
    pending = [each for each in entries if each.shown.state == "done" and not each.on_branch]
    if not pending:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(pending)), thread_name_prefix="proposals") as pool:
        found = list(pool.map(_ask, pending))
    told = {entry.publish_id: proposal for entry, proposal in zip(pending, found, strict=True)}
    if keep and any(each.commit for each in found) and database.allows("publications"):
        with database.write() as session:
            for entry, each in zip(pending, found, strict=True):
                if each.commit is not None:
                    url = hub.commit_url(entry.shown.repo, each.commit)
                    outbox.merged(
                        session,
                        entry.publish_id,
                        commit=each.commit,
                        url=url,
                        ref=entry.shown.ref,
                        actor=actor,
                    )
    return told


def _ask(entry: Entry) -> Proposal:
    shown = entry.shown
    try:
        pull = hub.pull_request(shown.repo, shown.pull_request or 0)
        if pull.state != "merged":
            return Proposal(pull.state)
        commit = shown.commit
        if pull.merged and publisher.holds(Place(shown.repo, shown.revision), pull.merged, shown.files):
            commit = pull.merged
        return Proposal("merged", commit)
    except NotFound:
        return Proposal("gone")
    except RegistryError as error:
        return Proposal("unknown", error=error)
