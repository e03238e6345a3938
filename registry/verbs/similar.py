"""Similar: which adapters change the model in nearly the same way, by the cosine of their ΔW.

Sketches (:mod:`registry.sketch`) rank all that may be compared, in one statement and one product; the best of them are
computed again from their factors. A content is sketched when it is first compared, and its sketch kept: what was killed
half-way goes on from there. Who may only read is answered all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import Literal

import numpy as np

from registry import filters, reference, sketch
from registry.blobs import BlobStore
from registry.catalog import bases, references, sketches
from registry.catalog.database import Database
from registry.catalog.sketches import Candidate
from registry.errors import Incompatible, IntegrityFailure, NotHeld, Refused, UsageError
from registry.peft_format import StoredAdapter
from registry.results import (
    BaseModelIdentity,
    DuplicateGroup,
    Duplicates,
    Similar,
    SimilarVersion,
    Sketched,
)
from registry.sketch import Sketch
from registry.verbs import _content
from registry.verbs._pinning import base_difference
from registry.verbs._sketching import Progress, Sketching, inner, space, why_not

DUPLICATE = 0.9999
"""The least cosine of what is called a duplicate."""

_MOST_EXACT = 40  # cosines that are computed from factors, unless all are asked for
_SURE = (
    10  # standard errors that no estimate is off: those of one module of rank 1 are up to 1.8 times as large
)
_ROUNDING = 1e-5  # of an estimate, from numbers in float16
_SAME = 1e-6  # how far from 1 the cosine of equal ΔW may be
_EQUAL = 1e-5  # and by how much their lengths may differ, relatively
_BLOCK = 512  # sketches that are multiplied at once


@_content.unless_swept
def similar(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    limit: int,
    minimum: float | None,
    exact: bool | None,
    opposite: bool,
    versions: bool,
    where: str | None,
    progress: Progress | None,
) -> Similar:
    _check(limit, minimum)
    terms = None if where is None else filters.parse(where)
    sketching = Sketching(database, blobs, progress)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        own = sketches.find(session, pin.digest)
        known = sketches.bases(session)
    if pin.not_composable:
        raise Refused(f"{pin.ref} cannot be compared: {pin.not_composable[0]}")
    own = own or sketching.one(pin.digest, pin.ref)
    if own.norm == 0:
        raise Refused(f"{pin.ref} cannot be compared: {why_not(own)}")
    on = [row_id for row_id, base in known.items() if base_difference(base, pin.base_model) is None]
    estimates = _Estimates(own, -1.0 if opposite else 1.0)
    with database.read() as session:
        for candidate, found in sketches.candidates(session, on, versions=versions, where=terms):
            if candidate.id != pin.id:
                sketching.sort(candidate, found, pin.kind, estimates.take)
        ancestors, derived = sketches.kin(session, pin)
    sketching.finish(estimates.take)
    pool = estimates.best_first()
    kin: dict[int, _Kin] = {**dict.fromkeys(ancestors, "ancestor"), **dict.fromkeys(derived, "derived")}
    beside = _Beside(sketching, pin.digest, pin.ref, own, kin)
    most = {None: _MOST_EXACT, True: len(pool), False: 0}[exact]
    return Similar(
        ref=pin.ref,
        base_model=pin.base_model,
        norm=own.norm,
        compared=len(pool),
        versions=tuple(_best(beside, pool, estimates.sign, limit=limit, minimum=minimum, most=most)),
        left_out=tuple(sketching.left_out),
        sketched=sketching.made,
        partial=own.left_out or None,
        warnings=tuple(sketching.warnings),
    )


@_content.unless_swept
def duplicates(
    database: Database,
    blobs: BlobStore,
    *,
    base: str | None,
    minimum: float,
    versions: bool,
    where: str | None,
    progress: Progress | None,
) -> Duplicates:
    """O(N²·D) for N contents on one base model; cosines are exact for those whose sketches agree."""
    _check(1, minimum)
    terms = None if where is None else filters.parse(where)
    sketching = Sketching(database, blobs, progress)
    lines: dict[tuple[int, str], list[_Entry]] = {}
    with database.read() as session:
        known = sketches.bases(session)
        homes = _homes(known)
        chosen = None if base is None else bases.equal(session, bases.find(session, base))

        def take(candidate: Candidate, found: Sketch) -> None:
            line = homes[candidate.base_model_id], space(candidate.kind)
            lines.setdefault(line, []).append(_Entry(candidate, found))

        for candidate, found in sketches.candidates(session, chosen, versions=versions, where=terms):
            sketching.sort(candidate, found, None, take)
    sketching.finish(take)
    groups = [
        DuplicateGroup(ref=first.ref, base_model=known[first.base_model_id], versions=tuple(others))
        for line in lines.values()
        for first, others in _groups(
            sketching, sorted(line, key=lambda each: each.candidate.id), minimum, known
        )
    ]
    return Duplicates(
        compared=sum(map(len, lines.values())),
        groups=tuple(groups),
        left_out=tuple(sketching.left_out),
        sketched=sketching.made,
        warnings=tuple(sketching.warnings),
    )


@_content.unless_swept
def prepare(database: Database, blobs: BlobStore, *, progress: Progress | None) -> Sketched:
    """Make and keep the sketches of all live versions' contents that have none."""
    database.require("sketches")
    sketching = Sketching(database, blobs, progress, must_keep=True)
    seen: set[str] = set()

    def take(candidate: Candidate, _: Sketch) -> None:
        seen.add(candidate.digest)

    with database.read() as session:
        for candidate, found in sketches.candidates(session, None, versions=True):
            sketching.sort(candidate, found, None, take)
    sketching.finish(take)
    return Sketched(made=sketching.made, total=len(seen), left_out=tuple(sketching.left_out))


_Kin = Literal["ancestor", "derived"]


@dataclass(frozen=True)
class _Entry:
    """A candidate with its sketch, or with what is left of it: its length, and its estimated cosine."""

    candidate: Candidate
    sketch: Sketch
    estimate: float = 0.0


class _Estimates:
    """The cosines with one sketch, of as many as come; their own sketches are not held for long."""

    def __init__(self, own: Sketch, sign: float) -> None:
        self.sign = sign
        self._own = own
        self._waiting: list[_Entry] = []
        self._found: list[_Entry] = []

    def take(self, candidate: Candidate, found: Sketch) -> None:
        self._waiting.append(_Entry(candidate, found))
        if len(self._waiting) == _BLOCK:
            self._estimate()

    def best_first(self) -> list[_Entry]:
        self._estimate()
        return sorted(self._found, key=lambda each: (-self.sign * each.estimate, each.candidate.id))

    def _estimate(self) -> None:
        if self._waiting:
            found = sketch.cosines(self._own, np.stack([each.sketch.direction for each in self._waiting]))
            self._found += [
                _Entry(each.candidate, replace(each.sketch, direction=_NONE), float(cosine))
                for each, cosine in zip(self._waiting, found, strict=True)
            ]
            self._waiting = []


_NONE = np.zeros(0, np.float16)


@dataclass
class _Beside:
    """Versions beside the one that has this content."""

    sketching: Sketching
    digest: str
    ref: str
    own: Sketch
    kin: Mapping[int, _Kin]
    _stored: StoredAdapter | None = None
    _known: dict[str, float] = field(default_factory=dict)

    def cosine(self, entry: _Entry) -> float | None:
        """From the factors, in float64; None, and noted, where it cannot be computed."""
        other = entry.candidate
        if other.digest == self.digest:
            return 1.0
        self._stored = self._stored or self.sketching.open(self.digest, self.ref)
        try:
            if other.digest not in self._known:
                product = inner(self._stored, self.sketching.open(other.digest, other.ref))
                self._known[other.digest] = product / (self.own.norm * entry.sketch.norm)
        except (IntegrityFailure, NotHeld, Incompatible) as error:
            self.sketching.leave_out(other, error.message)
            return None
        return max(-1.0, min(1.0, self._known[other.digest]))

    def exactly(self, entry: _Entry, cosine: float) -> SimilarVersion:
        """What is told of a version whose cosine was computed."""
        factor = math.copysign(entry.sketch.norm / self.own.norm, cosine)
        told = self.about(entry, cosine, error=0.0)
        if entry.candidate.digest == self.digest:
            return told.model_copy(update={"relation": "same content", "factor": 1.0})
        if abs(cosine) < 1 - _SAME:
            return told
        equal = abs(abs(factor) - 1) <= _EQUAL
        relation = ("same delta" if factor > 0 else "negated") if equal else "scaled"
        return told.model_copy(update={"relation": relation, "factor": factor})

    def about(self, entry: _Entry, cosine: float, *, error: float | None = None) -> SimilarVersion:
        """What is told of a version whose cosine was estimated, unless its ``error`` is known."""
        return SimilarVersion(
            ref=entry.candidate.ref,
            digest=entry.candidate.digest,
            kind=entry.candidate.kind,
            task=entry.candidate.task,
            cosine=cosine,
            exact=error == 0,
            error=sketch.standard_error(cosine) if error is None else error,
            norm=entry.sketch.norm,
            lineage=self.kin.get(entry.candidate.id),
            partial=entry.sketch.left_out or None,
        )


def _best(
    beside: _Beside, pool: Sequence[_Entry], sign: float, *, limit: int, minimum: float | None, most: int
) -> list[SimilarVersion]:
    """The ``limit`` best of a pool that is in the order of its estimates.

    At most ``most`` are computed, and only as long as one could still be among the best, or reach the ``minimum``.
    """
    least = -math.inf if minimum is None else minimum
    ranked: list[SimilarVersion] = []
    for position, entry in enumerate(pool[:most]):
        leading = nlargest(limit, (sign * each.cosine for each in ranked))
        bar = max(least, leading[-1]) if len(leading) == limit else least
        if _reach(sign * entry.estimate) < bar:
            break
        if beside.sketching.progress is not None:
            beside.sketching.progress("comparing", position, min(most, len(pool)))
        if (cosine := beside.cosine(entry)) is not None:
            ranked.append(beside.exactly(entry, cosine))
    else:
        ranked += [beside.about(entry, entry.estimate) for entry in pool[most : most + limit]]
    kept = [each for each in ranked if sign * each.cosine >= least]
    return sorted(kept, key=lambda each: -sign * each.cosine)[:limit]


def _reach(estimate: float) -> float:
    """What the cosine may be at most."""
    return estimate + _SURE * sketch.standard_error(estimate) + _ROUNDING


def _groups(
    sketching: Sketching, line: Sequence[_Entry], minimum: float, bases: Mapping[int, BaseModelIdentity]
) -> Iterator[tuple[Candidate, list[SimilarVersion]]]:
    """The oldest of each group and all on its base model that are as near to it; ``line`` is from the oldest on."""

    def base(entries: Sequence[_Entry]) -> BaseModelIdentity:
        return bases[entries[0].candidate.base_model_id]

    contents: dict[tuple[str, int], list[_Entry]] = {}
    for entry in line:
        key = entry.candidate.digest, entry.candidate.base_model_id
        contents.setdefault(key, []).append(entry)
    each = list(contents.values())
    before = _near([entries[0].sketch.direction for entries in each], minimum)
    leaders: dict[int, _Beside] = {}
    groups: dict[int, list[SimilarVersion]] = {}
    for place, entries in enumerate(each):
        for leader in before.get(place, ()):
            if (
                leader in leaders
                and base_difference(base(each[leader]), base(entries)) is None
                and (cosine := leaders[leader].cosine(entries[0])) is not None
                and cosine >= minimum
            ):
                groups[leader] += [leaders[leader].exactly(entry, cosine) for entry in entries]
                break
        else:
            first = entries[0]
            leaders[place] = _Beside(sketching, first.candidate.digest, first.candidate.ref, first.sketch, {})
            groups[place] = [leaders[place].exactly(entry, 1.0) for entry in entries[1:]]
    for place, others in groups.items():
        if others:
            yield each[place][0].candidate, others


def _near(directions: Sequence[sketch.Direction], minimum: float) -> dict[int, list[int]]:
    """For each the ones before it whose cosine may be that large."""
    found: dict[int, list[int]] = {}
    whole = np.stack(directions).astype(np.float32)  # (N, D)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    least = _least_estimate(minimum)
    for start in range(0, len(whole), _BLOCK):
        products = whole[start : start + _BLOCK] @ whole[start:].T
        for row, column in zip(*(products >= least).nonzero(), strict=True):
            if row < column:
                found.setdefault(start + int(column), []).append(start + int(row))
    return found


def _least_estimate(minimum: float) -> float:
    """What an estimate is at least where the cosine may reach ``minimum``; the reach grows with the estimate."""
    low, high = -1.0, minimum
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _reach(middle) >= minimum else (middle, high)
    return low


def _homes(known: Mapping[int, BaseModelIdentity]) -> dict[int, int]:
    """For each base model the number of those that it may be compared with, directly or by way of others."""
    home = {row_id: row_id for row_id in known}

    def find(row_id: int) -> int:
        while home[row_id] != row_id:
            row_id = home[row_id]
        return row_id

    first: dict[tuple[str, str | None], int] = {}
    for row_id, base in known.items():
        names = [("repo", base.repo), *([("weights", base.fingerprint)] if base.fingerprint else [])]
        for name in names:
            home[find(row_id)] = find(first.setdefault(name, row_id))
    return {row_id: find(row_id) for row_id in known}


def _check(limit: int, minimum: float | None) -> None:
    if limit < 1:
        raise UsageError(f"a limit of {limit} makes no sense", hint="--limit is 1 or more")
    if minimum is not None and not -1 <= minimum <= 1:
        raise UsageError(f"no cosine reaches {minimum}", hint="--min is from -1 to 1")
