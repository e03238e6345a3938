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

    ``seen`` is a commit of the branch that has what was proposed, once it was merged.
    """

    state: Literal["open", "closed", "merged", "gone", "unknown"]
    seen: str | None = None
    error: RegistryError | None = None


def follow(database: Database, entries: Sequence[Entry], *, keep: bool = True) -> Mapping[str, Proposal]:
    """The pull requests that were not known to be merged, by publish id; with ``keep`` those that are now are recorded so.

    It is one request for each of them. Raises nothing of the Hub's.
    """
    pending = [each for each in entries if each.shown.state == "done" and not each.on_branch]
    if not pending:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(pending)), thread_name_prefix="proposals") as pool:
        found = list(pool.map(_ask, pending))
    told = {entry.publish_id: proposal for entry, proposal in zip(pending, found, strict=True)}
    if keep and any(each.seen for each in found):
        with database.write() as session:
            for publish_id, each in told.items():
                if each.seen is not None:
                    outbox.see(session, publish_id, each.seen)
    return told


def _ask(entry: Entry) -> Proposal:
    shown = entry.shown
    try:
        pull = hub.pull_request(shown.repo, shown.pull_request or 0)
        if pull.state != "merged":
            return Proposal(pull.state)
        seen = shown.commit
        if pull.merged and publisher.holds(Place(shown.repo, shown.revision), pull.merged, shown.files):
            seen = pull.merged
        return Proposal("merged", seen)
    except NotFound:
        return Proposal("gone")
    except RegistryError as error:
        return Proposal("unknown", error=error)
