"""What holds at any moment, however a command ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from registry import Registry
from registry._partial import SUFFIX
from registry.digest import of_bytes
from registry.errors import SchemaOutdated
from registry.results import Event, Version
from registry.testing.hub import HubServer
from registry.verbs.gc import gc

WHOLE = {
    "model": {"config.json", "model.safetensors"},
    "out": {"adapter_config.json", "adapter_model.safetensors"},
}


def broken(folder: Path, url: str, hub: HubServer | None = None) -> list[str]:
    """What does not hold, of a home below ``folder`` that was just left. Nothing has to help it open."""
    with Registry.open(folder / "home", database_url=url) as catalog:
        found = [
            f"{each.ref}: {problem}" for each in catalog.verify() for problem in each.problems if not each.ok
        ]
        found += catalog.verify_database().problems  # every row has the seal of its values
        found += [*_numbers(catalog), *_references(catalog), *_replayed(catalog), *_blobs(catalog)]
        if hub is not None:
            found += _published(catalog, hub)
    return found + list(_folders(folder / "work"))


def half_upgraded(folder: Path, url: str) -> list[str]:
    """What does not hold of a catalog that an upgrade left before its end: it is at some revision, and says so."""
    schema = Registry.schema(folder / "home", database_url=url)
    if schema.current is None:  # it holds nothing yet, and is made when it is done again
        return []
    if schema.current >= schema.head:
        return [f"it is at {schema.current}, which is not before {schema.head}"]
    try:
        Registry.open(folder / "home", database_url=url).close()
    except SchemaOutdated as error:
        return [] if "registry db upgrade" in (error.hint or "") else [f"no way on: {error.hint}"]
    return [f"it opens at {schema.current}"]


def leftovers(folder: Path, url: str) -> list[str]:
    """What garbage collection leaves behind that nothing live needs."""
    with Registry.open(folder / "home", database_url=url) as catalog:
        places = (folder / "home", folder / "tmp")
        gc(
            catalog._database,
            catalog._blobs,
            apply=True,
            actor="tester",
            grace=timedelta(0),
            places=places,
        )
        found = [f"left behind: {name}" for name in catalog._blobs.leftovers(timedelta(0))]
        recorded = set(_all(catalog, "SELECT digest FROM blobs"))
        held = {digest for digest, _ in catalog._blobs.digests()}
        found += [f"bytes without a row: {digest}" for digest in held - recorded]
    for place in (folder / "work", folder / "home", folder / "tmp"):
        found += [f"left behind: {path}" for path in place.rglob("*") if _is_partial(path)]
    return found


def _is_partial(path: Path) -> bool:
    return path.suffix == SUFFIX or path.parent.name == "tmp"


def _all(catalog: Registry, query: str) -> list[Any]:
    with catalog._database.read() as session:
        rows = session.execute(text(query)).all()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def _numbers(catalog: Registry) -> Iterator[str]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for name, number in _all(
        catalog, "SELECT a.name, v.number FROM versions v JOIN adapters a ON a.id = v.adapter_id"
    ):
        numbers[name].append(number)
    for name, last in _all(catalog, "SELECT name, last_version FROM adapters"):
        if sorted(numbers[name]) != list(range(1, last + 1)):
            yield f"{name} has the numbers {sorted(numbers[name])}, and {last} is said to be its last"
    latest = _all(catalog, "SELECT v.adapter_id, v.number FROM versions v WHERE v.latest_of IS NOT NULL")
    highest = _all(
        catalog, "SELECT adapter_id, max(number) FROM versions WHERE deleted_at IS NULL GROUP BY adapter_id"
    )
    if sorted(latest) != sorted(highest):
        yield f"the latest versions are {sorted(highest)}, not {sorted(latest)}"


def _references(catalog: Registry) -> Iterator[str]:
    for alias in catalog.aliases():
        if catalog.show(alias.ref).deleted_at is not None:
            yield f"{alias.name}@{alias.alias} points at a tombstone"
    edges = _all(catalog, "SELECT child_id, parent_id FROM lineage")
    if any(child <= parent for child, parent in edges):
        yield "the lineage has a cycle"
    for digest, canonical in _all(catalog, "SELECT digest, canonical FROM recipes"):
        if of_bytes(canonical.encode()) != digest:
            yield f"the recipe {digest} is another one"
    for version in _versions(catalog):
        inputs = {parent.digest for parent in version.parents if parent.relation == "input"}
        if version.recipe is not None and not inputs:
            yield f"{version.ref} has a recipe and no inputs"


def _versions(catalog: Registry) -> Iterator[Version]:
    page = catalog.list(latest=False, limit=1000)
    yield from page.versions
    while page.next is not None:
        page = catalog.list(latest=False, limit=1000, after=page.next)
        yield from page.versions


class _Replay:
    """What there is, as the events tell it in their order."""

    def __init__(self) -> None:
        self.versions: dict[str, str | None] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.tags: dict[tuple[str, str], str] = {}

    def take(self, event: Event) -> None:
        match event.action, event.detail:
            case (("import" | "compose" | "rebuild"), {"digest": str(digest)}):
                self.versions[event.subject] = digest
            case "bundle", {"versions": [int(first), int(last)]}:
                self.versions |= {f"{event.subject}@{number}": None for number in range(first, last + 1)}
            case "alias", {"alias": str(alias), "to": to}:
                if to is None:
                    del self.aliases[event.subject, alias]
                else:
                    self.aliases[event.subject, alias] = to
            case "tag", {"key": str(key), "value": str(value)}:
                self.tags[event.subject, key] = value
            case "tag", {"key": str(key), "value": None}:
                self.tags.pop((event.subject, key), None)


def _events(catalog: Registry) -> list[Event]:
    events = list(catalog.events(limit=1000))
    while more := catalog.events(limit=1000, before=events[-1].id if events else None):
        events += more
    return events


def _replayed(catalog: Registry) -> Iterator[str]:
    told = _Replay()
    for event in reversed(_events(catalog)):
        told.take(event)
    there: dict[str, str] = dict(
        _all(
            catalog,
            "SELECT a.name || '@' || v.number, v.artifact_digest FROM versions v "
            "JOIN adapters a ON a.id = v.adapter_id",
        )
    )
    if told.versions.keys() != there.keys():
        yield f"the events tell of {sorted(told.versions)}, there are {sorted(there)}"
    for ref, digest in told.versions.items():
        if digest is not None and there.get(ref) != digest:
            yield f"{ref} is {there.get(ref)}, its event says {digest}"
    pointing = {(each.name, each.alias): int(each.ref.rpartition("@")[2]) for each in catalog.aliases()}
    if told.aliases != pointing:
        yield f"the aliases are {pointing}, the events say {told.aliases}"
    for (ref, key), value in told.tags.items():
        if catalog.show(ref).tags.get(key) != value:
            yield f"{ref} lacks the tag {key}={value}"


def _blobs(catalog: Registry) -> Iterator[str]:
    """No row without bytes, and no bytes under a digest that is not theirs."""
    held = {digest for digest, _ in catalog._blobs.digests()}
    yield from (
        f"a row without bytes: {digest}" for digest in set(_all(catalog, "SELECT digest FROM blobs")) - held
    )
    yield from (
        f"other bytes: {digest}"
        for digest in held
        if of_bytes(catalog._blobs.path(digest).read_bytes()) != digest
    )


def _published(catalog: Registry, hub: HubServer) -> Iterator[str]:
    """What is said to be on the Hub was committed there."""
    for each in catalog.publications():
        repo = hub._store.get(each.repo)
        # One that is gone is being unpublished: it is removed there before that is recorded here.
        if each.state == "done" and repo is not None and each.commit not in repo.commits:
            yield f"{each.ref} is not in {each.repo} at {each.commit}, as is recorded"


def _folders(work: Path) -> Iterator[str]:
    for name, files in WHOLE.items():
        if (work / name).exists() and not {path.name for path in (work / name).iterdir()} >= files:
            yield f"{name} is there and not whole"
