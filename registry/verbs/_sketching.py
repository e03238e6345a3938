"""Sketches of contents, made where none is stored, and kept; and cosines from the factors themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from registry import kinds, sketch
from registry.blobs import BlobStore
from registry.catalog import sketches
from registry.catalog.database import Database
from registry.catalog.sketches import Candidate
from registry.errors import DatabaseDamaged, IntegrityFailure, NotHeld, Refused, StorageFailure
from registry.peft_format import StoredAdapter
from registry.results import LeftOut
from registry.sketch import Sketch
from registry.verbs import _content

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
Take = Callable[[Candidate, Sketch], None]
"""What is done with a candidate that can be compared."""

_TOGETHER = 16  # sketches that are kept in one transaction


@dataclass
class Sketching:
    """One run over candidates: what could not be compared, and how many sketches were made.

    Sketches are kept where the user may write; who may not is told so, unless they ``must_keep``.
    """

    database: Database
    blobs: BlobStore
    progress: Progress | None
    must_keep: bool = False
    made: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _missing: dict[str, list[Candidate]] = field(default_factory=dict)

    def sort(self, candidate: Candidate, found: Sketch | None, kind: str | None, take: Take) -> None:
        """Let a candidate be taken, or note why it cannot be compared (with that ``kind``), or that it has no sketch."""
        if candidate.blocked is not None:
            self.leave_out(candidate, candidate.blocked)
        elif kind is not None and space(candidate.kind) != space(kind):
            self.leave_out(candidate, f"it is {candidate.kind}, not {kind}")
        elif found is None:
            self._missing.setdefault(candidate.digest, []).append(candidate)
        else:
            self._give(candidate, found, take)

    def finish(self, take: Take) -> None:
        """Sketch what has none, one content after the other, and let it be taken; some at a time are kept."""
        total, done = len(self._missing), 0
        for some in _pieces(list(self._missing.items()), _TOGETHER):
            made: dict[str, Sketch] = {}
            for digest, candidates in some:
                self._tell("sketching", done, total)
                done += 1
                try:
                    made[digest] = self._made(digest, candidates[0].ref)
                except (IntegrityFailure, NotHeld, Refused) as error:
                    for each in candidates:
                        self.leave_out(each, error.message)
                    continue
                for each in candidates:
                    self._give(each, made[digest], take)
            self._keep(made)
        self._tell("sketching", total, total)

    def one(self, digest: str, ref: str) -> Sketch:
        """The sketch of a content that has none."""
        found = self._made(digest, ref)
        self._keep({digest: found})
        return found

    def open(self, digest: str, ref: str) -> StoredAdapter:
        """An adapter, every byte of it checked."""
        with self.database.read() as session:
            files = _content.files_of(session, digest, ref)
        return _content.open_adapter(self.blobs, files, ref)

    def leave_out(self, candidate: Candidate, reason: str) -> None:
        self.left_out.append(LeftOut(ref=candidate.ref, reason=reason))

    def _give(self, candidate: Candidate, found: Sketch, take: Take) -> None:
        if found.norm == 0:
            self.leave_out(candidate, why_not(found))
        else:
            take(candidate, found)

    def _made(self, digest: str, ref: str) -> Sketch:
        stored = self.open(digest, ref)
        found = sketch.of(((name, stored.delta(name)) for name in modules(stored)), _left_out(stored))
        self.made += 1
        return found

    def _keep(self, made: Mapping[str, Sketch]) -> None:
        """They only save the time of making them again: not being able to keep them is no failure."""
        if not made or self.warnings:
            return
        try:
            self.database.require("sketches")
            self.database.transact(lambda session: sketches.save(session, made))
        except DatabaseDamaged:
            raise
        except StorageFailure as error:
            if self.must_keep:
                raise
            self.warnings.append(f"sketches are made, and not kept: {error.message}")

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.progress is not None and total:
            self.progress(what, done, total)


@cache
def space(kind: str) -> str:
    """The kind that results of this kind are stored as: deltas of one such kind can be compared."""
    return kinds.load(kind).writes_as or kind


def modules(stored: StoredAdapter) -> list[str]:
    """The modules whose deltas need no base model; none where the base was changed before training."""
    if stored.layout.initialization:
        return []
    return [name for name, module in stored.layout.modules.items() if not module.based]


def why_not(found: Sketch) -> str:
    """Why a sketch of length 0 cannot be compared."""
    return found.left_out or "it changes nothing"


def inner(one: StoredAdapter, other: StoredAdapter) -> float:
    """``Σ ⟨ΔW, ΔW'⟩`` over the modules that both have, in float64. Raises ``Incompatible`` for unequal shapes."""
    from registry import deltas

    common = set(modules(other))
    return sum(deltas.inner(one.delta(name), other.delta(name)) for name in modules(one) if name in common)


def _left_out(stored: StoredAdapter) -> str:
    """What of an adapter is not compared, since it needs the base model; '' where all is."""
    if stored.layout.initialization:
        return stored.layout.initialization
    based = [module.target for module in stored.layout.modules.values() if module.based]
    more = f" and {len(based) - 1} more" if len(based) > 1 else ""
    return f"{based[0]}{more}: only with the base model" if based else ""


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
