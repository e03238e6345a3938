"""Stale: which compositions would pin differently now, and what would follow them. Nothing here touches a tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from registry import reference
from registry.catalog import references, staleness
from registry.catalog.database import Database
from registry.catalog.staleness import Follower, Scope
from registry.errors import UsageError
from registry.results import Staleness


def stale(database: Database, refs: Sequence[str], *, every: bool) -> tuple[Staleness, ...]:
    if refs and every:
        raise UsageError("references and --all exclude one another", hint="give the one that is meant")
    with database.read() as session:
        scope: Scope = "live" if every else "latest"
        if refs:
            scope = [references.resolve(session, wanted).id for wanted in map(reference.parse, refs)]
        moved = staleness.moved(session, scope)
        described = staleness.followers(session, scope) if moved else []
    return tuple(_stale(moved, described))


def _stale(moved: Sequence[staleness.Moved], described: Sequence[Follower]) -> Iterator[Staleness]:
    each = {one.version_id: one for one in described}
    onward = _onward(described)
    for version_id, group in groupby(moved, key=lambda one: one.version_id):
        changed = tuple(one.reference for one in group)
        yield Staleness(
            ref=each[version_id].ref,
            expression=each[version_id].expression,
            references=changed,
            broken=any(one.current is None for one in changed),
            followers=tuple(one.ref for one in _reached(each[version_id], onward)),
        )


def _onward(described: Sequence[Follower]) -> Mapping[int, Sequence[Follower]]:
    """By line, the compositions that follow its latest version."""
    onward: dict[int, list[Follower]] = defaultdict(list)
    for one in described:
        for line in one.lines if one.latest else ():
            onward[line].append(one)
    return onward


def _reached(start: Follower, onward: Mapping[int, Sequence[Follower]]) -> Sequence[Follower]:
    """Everything that follows, by row id; nothing where ``start`` is not its line's latest."""
    found: dict[int, Follower] = {}
    waiting = [start] if start.latest else []
    while waiting:
        for one in onward.get(waiting.pop().adapter_id, ()):
            if one.version_id not in found and one.version_id != start.version_id:
                found[one.version_id] = one
                waiting.append(one)
    return [found[row_id] for row_id in sorted(found)]
