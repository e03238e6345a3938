"""Whether the Hub still holds what was published: heads first, in parallel, and files only where a head moved.

Nothing here knows of the catalog: who asks says what is expected where, and keeps what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from registry import hub
from registry.errors import NotFound, RegistryError
from registry.publishers import hub as publisher
from registry.publishers.hub import Place

State = Literal["same", "moved", "changed", "gone", "unknown"]

_AT_ONCE = 8


@dataclass(frozen=True)
class Recorded:
    """What was published last to a place: the commit, and the digests of its files (``"sha256:…"``) by path.

    ``seen`` is the newest commit of the branch that was found to hold those files; None if it was never looked.
    """

    commit: str | None
    seen: str | None
    files: Mapping[str, str]


@dataclass(frozen=True)
class Drift:
    """What became of a place, and the commit that its branch is at now (None where it is gone or was not seen).

    ``unknown`` says that the Hub could not be asked, for the ``error``. ``repo`` is False where not only the branch is
    gone, but the repo with all its branches and tags.
    """

    state: State
    head: str | None = None
    repo: bool = True
    error: RegistryError | None = None


def look(expected: Mapping[Place, Recorded]) -> Mapping[Place, Drift]:
    """Every place beside what is recorded of it, in the same order. Raises nothing of the Hub's.

    It is one request for each place whose branch did not move since it was looked at.
    """
    if not expected:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(expected)), thread_name_prefix="drift") as pool:
        return dict(zip(expected, pool.map(_look, expected, expected.values()), strict=True))


def _look(where: Place, recorded: Recorded) -> Drift:
    try:
        head = hub.head(where.repo, where.revision)
        if head is None:
            return Drift("gone")
        if head.commit == recorded.commit:
            return Drift("same", head.commit)
        holds = head.commit == recorded.seen or publisher.holds(where, head.commit, recorded.files)
    except NotFound:
        return Drift("gone", repo=False)
    except RegistryError as error:
        return Drift("unknown", error=error)
    return Drift("moved" if holds else "changed", head.commit)
