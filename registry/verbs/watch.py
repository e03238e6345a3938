"""Watch: which imported adapters moved on where they came from. One request for each repo where none did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from registry import hub, reference
from registry.catalog import origins, references
from registry.catalog.database import Database
from registry.catalog.origins import Source
from registry.errors import NotFound, RegistryError, UsageError
from registry.hub import RemoteFile
from registry.peft_format import CONFIG, TENSORS
from registry.results import Watched

_AT_ONCE = 8


@dataclass(frozen=True)
class _Place:
    """A branch or tag of a repo, and the commit that was imported."""

    repo: str
    revision: str
    imported: str


def watch(database: Database, refs: Sequence[str]) -> tuple[Watched, ...]:
    with database.read() as session:
        ids = None
        if refs:
            pins = [references.resolve(session, reference.parse(ref)) for ref in refs]
            ids = [pin.id for pin in pins]
        sources = origins.sources(session, ids)
        if refs and (missing := {pin.ref for pin in pins} - {each.ref for each in sources}):
            raise UsageError(
                f"{min(missing)} did not come from the Hub, so there is nothing to watch",
                hint="name what was added from hf://OWNER/REPO",
            )
    places = {each.ref: _place(each) for each in sources}
    heads = _heads({(place.repo, place.revision) for place in places.values()})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda each: _watched(each.ref, places[each.ref], heads), sources)
        return tuple(found)


def _place(source: Source) -> _Place:
    repo, commit = hub.parse(source.source)
    return _Place(repo, source.revision or hub.MAIN, commit or "")


def _heads(wanted: set[tuple[str, str]]) -> Mapping[tuple[str, str], str | RegistryError | None]:
    """Where each branch stands: its commit, None where it is gone, or why that is not known."""

    def ask(place: tuple[str, str]) -> str | RegistryError | None:
        try:
            head = hub.head(*place)
        except NotFound:
            return None
        except RegistryError as error:
            return error
        return None if head is None else head.commit

    ordered = sorted(wanted)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(ordered, pool.map(ask, ordered), strict=True))


def _watched(ref: str, place: _Place, heads: Mapping[tuple[str, str], str | RegistryError | None]) -> Watched:
    head = heads[place.repo, place.revision]
    result = Watched(
        ref=ref,
        repo=place.repo,
        revision=place.revision,
        imported=place.imported,
        commit=head if isinstance(head, str) else None,
        state="same",
    )
    if isinstance(head, RegistryError):
        return result.model_copy(update={"state": "unknown", "reason": head.message})
    if head is None:
        return result.model_copy(update={"state": "gone"})
    if head == place.imported:
        return result
    try:
        same = _files(place.repo, head) == _files(place.repo, place.imported)
    except NotFound:
        same = False  # a history that was rewritten
    except RegistryError as error:
        return result.model_copy(update={"state": "unknown", "reason": error.message})
    return result.model_copy(update={"state": "same files" if same else "moved"})


def _files(repo: str, commit: str) -> dict[str, RemoteFile | None]:
    listed = hub.files(repo, commit)
    return {name: listed.get(name) for name in (CONFIG, TENSORS)}
