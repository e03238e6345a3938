"""A layered drawing of a graph without cycles, from left to right, after Sugiyama, Tagawa and Toda (1981).

A node stands one column behind the last of those that lead to it. An edge that crosses columns gets a place in each of
them. Within columns the order follows the mean position of neighbours, swept a few times to and fro.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

N = TypeVar("N")
_SWEEPS = 12


@dataclass(frozen=True)
class Layers(Generic[N]):
    """``columns`` of places from top to bottom: a place is a node, or where an edge passes by.

    ``ways`` are the places that each edge goes through, its ends included, in the order of the edges that were given.
    """

    columns: tuple[tuple[object, ...], ...]
    ways: tuple[tuple[object, ...], ...]


def layers(nodes: Sequence[N], edges: Sequence[tuple[N, N]]) -> Layers[N]:
    """Places for nodes, and ways for edges ``(from, to)`` between them. The same for the same order of both.

    Raises ``ValueError`` for a cycle.
    """
    column = _columns(nodes, edges)
    places: list[list[object]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for node in nodes:
        places[column[node]].append(node)
    ways: list[tuple[object, ...]] = []
    for number, (start, end) in enumerate(edges):
        passes = [("edge", number, at) for at in range(column[start] + 1, column[end])]
        for at, place in enumerate(passes, column[start] + 1):
            places[at].append(place)
        ways.append((start, *passes, end))
    steps = [pair for way in ways for pair in pairwise(way)]
    return Layers(tuple(map(tuple, _ordered(places, steps))), tuple(ways))


def _columns(nodes: Sequence[N], edges: Sequence[tuple[N, N]]) -> Mapping[N, int]:
    """The longest way to each node; one without a way to it stands just before the first that it leads to."""
    after: defaultdict[N, list[N]] = defaultdict(list)
    before: dict[N, int] = dict.fromkeys(nodes, 0)
    for start, end in edges:
        after[start].append(end)
        before[end] += 1
    roots = [node for node in nodes if not before[node]]
    column, ready, done = dict.fromkeys(nodes, 0), list(roots), 0
    while ready:
        node = ready.pop()
        done += 1
        for end in after[node]:
            column[end] = max(column[end], column[node] + 1)
            before[end] -= 1
            if not before[end]:
                ready.append(end)
    if done < len(nodes):
        raise ValueError("a lineage with a cycle")
    for node in roots:
        column[node] = min((column[end] for end in after[node]), default=1) - 1
    return column


def _ordered(places: list[list[object]], steps: Iterable[tuple[object, object]]) -> list[list[object]]:
    """The order with the fewest crossings that the sweeps came by."""
    left: defaultdict[object, list[object]] = defaultdict(list)
    right: defaultdict[object, list[object]] = defaultdict(list)
    for start, end in steps:
        right[start].append(end)
        left[end].append(start)
    best, fewest = [*map(list, places)], _crossings(places, right)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        for at in range(1, len(places)) if forward else range(len(places) - 2, -1, -1):
            _sort(places[at], places[at - 1 if forward else at + 1], (left if forward else right).__getitem__)
        found = _crossings(places, right)
        if found < fewest:
            best, fewest = [*map(list, places)], found
    return best


def _sort(
    column: list[object], beside: Sequence[object], neighbours: Callable[[object], list[object]]
) -> None:
    rank = {place: at for at, place in enumerate(beside)}
    here = {place: at for at, place in enumerate(column)}

    def middle(place: object) -> float:
        found = [rank[each] for each in neighbours(place)]
        return sum(found) / len(found) if found else float(here[place])

    column.sort(key=middle)


def _crossings(places: Sequence[Sequence[object]], right: Mapping[object, Sequence[object]]) -> int:
    count = 0
    for column, beside in pairwise(places):
        rank = {place: at for at, place in enumerate(beside)}
        passed: list[int] = []
        for place in column:
            for end in sorted(rank[each] for each in right.get(place, ())):
                count += len(passed) - bisect_right(passed, end)
                insort(passed, end)
    return count


def heights(drawn: Layers[N], size: Callable[[object], float]) -> dict[object, float]:
    """The middle of each place, from 0 downwards (negative), so that none overlaps the next and edges bend little."""
    beside: defaultdict[object, list[object]] = defaultdict(list)
    for way in drawn.ways:
        for start, end in pairwise(way):
            beside[start].append(end)
            beside[end].append(start)
    found: dict[object, float] = {}
    for column in drawn.columns:
        found |= zip(column, _apart([0.0] * len(column), [size(place) for place in column]), strict=True)
    for sweep in range(_SWEEPS):
        for column in drawn.columns if sweep % 2 else reversed(drawn.columns):
            wanted = [
                sum(found[each] for each in beside[place]) / len(beside[place])
                if beside[place]
                else found[place]
                for place in column
            ]
            found |= zip(column, _apart(wanted, [size(place) for place in column]), strict=True)
    top = max((y + size(place) / 2 for place, y in found.items()), default=0.0)
    return {place: y - top for place, y in found.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Near where they are wanted, in this order, and apart: between pushing all down and pushing all up."""
    gaps = [(a + b) / 2 for a, b in pairwise(sizes)]
    down, up = list(wanted), list(wanted)
    for i, gap in enumerate(gaps, 1):
        down[i] = min(down[i], down[i - 1] - gap)
    for i in range(len(gaps) - 1, -1, -1):
        up[i] = max(up[i], up[i + 1] + gaps[i])
    return [(a + b) / 2 for a, b in zip(down, up, strict=True)]
