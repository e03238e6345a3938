"""What there is in the end, in the catalog, on the disk and on the Hub, but for times and random ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry import Registry
from registry.testing.hub import HubServer

State = Mapping[str, Any]
_FLEETING = {"seconds", "id", "README.md", "provenance.json"}
"""What differs from run to run: the last two are digests of what tells times."""
_AS_NEEDED = {"gc", "quarantine", "heal", "repair"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)")
_NUMBERED = re.compile(r"rule \d+")
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


def state(folder: Path, url: str, hub: HubServer) -> State:
    with Registry.open(folder / "home", database_url=url) as catalog:
        found = {
            **{f"version {version['ref']}": version for version in _versions(catalog)},
            "aliases": _plain(catalog.aliases()),
            "publications": _plain(catalog.publications()),
            "rules": _plain(catalog.rules()),
            "bases": _plain(catalog.base_models()),
            "base aliases": _plain(catalog.base_aliases()),
            "events": _events(catalog),
            "work": dict(_files(folder / "work")),
            "hub": {repo.id: _repo(hub, repo.id) for repo in hub._store.all()},
        }
    # Each run has a folder of its own, and the Hub gives commits new names.
    said = json.dumps(found).replace(str(folder), "FOLDER")
    told: State = json.loads(_TIME.sub("TIME", _COMMIT.sub("COMMIT", said)))
    return told


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """What is not the same, each by its place."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [
            differences(one.get(key), other.get(key), f"{where}/{key}") for key in sorted({*one, *other})
        ]
        return [each for some in found for each in some]
    return [] if one == other else [f"{where} is {other!r:.800}, undisturbed it is {one!r:.800}"]


def _versions(catalog: Registry) -> Iterator[dict[str, Any]]:
    names = {event.subject.partition("@")[0] for event in catalog.events(limit=10_000)}
    live = {version.name for version in catalog.list(latest=False, limit=1000).versions}
    for name in sorted(live | {name for name in names if _is_adapter(catalog, name)}):
        yield from _plain(catalog.log(name))


def _is_adapter(catalog: Registry, name: str) -> bool:
    from registry.errors import RegistryError

    try:
        return bool(catalog.log(name))
    except RegistryError:
        return False


def _events(catalog: Registry) -> Mapping[str, int]:
    """How often what was done to what. Collections are as many as there is something to collect, and repairs to mend.

    A merge is recorded before its folder has its name, and so once more where it is killed in between.
    """
    told = [event for event in catalog.events(limit=10_000) if event.action not in _AS_NEEDED]
    # PostgreSQL gives no rule the number that one was to have which came to nothing.
    counted = Counter(_NUMBERED.sub("rule", f"{event.action} {event.subject}") for event in told)
    return {what: min(count, 1) if "materialize" in what else count for what, count in counted.items()}


def _plain(value: Any) -> Any:
    """The same as plain data, without what is another one each time."""
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if key not in _FLEETING}
    if isinstance(value, list | tuple):
        return [each for each in map(_plain, value) if not _has_failed(each)]
    return value


def _has_failed(value: Any) -> bool:
    """Whether it is a publication that came to nothing: however many there were before the one that is done."""
    return isinstance(value, Mapping) and "repo" in value and value.get("state") == "failed"


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield name, f"to {path.readlink()}"
        elif name == "backup":  # which tells when it was made
            yield name, Registry.check_backup(path).digest
        elif path.is_file():
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            yield name, "a folder"


def _repo(hub: HubServer, repo: str) -> Any:
    found = hub._store.get(repo)
    assert found is not None
    titles = {oid: commit.title for oid, commit in found.commits.items()}
    return {
        "private": found.private,
        "branches": {name: [each.title for each in found.history(name)] for name in found.branches},
        "tags": {name: titles[oid] for name, oid in found.tags.items()},
        "pull requests": [(each.number, each.title, each.status) for each in found.discussions],
        "files": _plain({path: entry.oid for path, entry in found.commit("main").tree.items()}),
    }
