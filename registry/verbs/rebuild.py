"""Rebuild: new versions of stale compositions, each after those that it follows, and only where something changed.

Every new version is a transaction of its own, and what is stale is looked at again before each: an interrupted rebuild
is continued by running it again, and what came out as it was cuts off everything behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from registry import expression, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, staleness, views
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.catalog.staleness import Follower
from registry.errors import RegistryError, StorageFailure, UsageError
from registry.recipe import Recipe
from registry.reference import Reference
from registry.results import Composed, MovedReference, Rebuilt, Version
from registry.verbs import compose
from registry.verbs._pinning import base_difference, plan
from registry.verbs._text import check_device

Progress = Callable[[str, int, int], None]


def rebuild(
    database: Database,
    blobs: BlobStore,
    refs: Sequence[str],
    *,
    dry_run: bool,
    device: str,
    base_path: str | Path | None,
    actor: str,
    progress: Progress | None,
) -> tuple[Rebuilt, ...]:
    check_device(device)
    with database.read() as session:
        targets = _asked(session, refs) if refs else staleness.followers(session, "latest")
    if base_path is not None:
        _check_one_base(targets)
    if not dry_run:
        database.require("versions")
    run = _Run(database, blobs, dry_run, device, base_path, actor, progress)
    done: dict[int, Rebuilt] = {}
    for number, target in enumerate(_in_order(targets), start=1):
        before = [done[line] for line in sorted(target.lines) if line in done]
        done[target.adapter_id] = run.one(target, before)
        if progress is not None:
            progress("rebuilding", number, len(targets))
    return tuple(done.values())


@dataclass(frozen=True)
class _Job:
    """A stale composition, and what is composed again: its expression, with the parameters that it had."""

    pin: Pin
    version: Version
    recipe: Recipe
    text: str


@dataclass(frozen=True)
class _Run:
    """One rebuild: with what, and by whom."""

    database: Database
    blobs: BlobStore
    dry_run: bool
    device: str
    base_path: str | Path | None
    actor: str
    progress: Progress | None

    def one(self, target: Follower, before: Sequence[Rebuilt]) -> Rebuilt:
        """Make the next version of a composition, where it is stale; ``before`` is what became of those it follows."""
        same = Rebuilt(ref=target.ref, state="unchanged", expression=target.expression)
        if missing := [each.ref for each in before if each.state in {"failed", "blocked"}]:
            reason = f"it follows {', '.join(missing)}, which could not be rebuilt"
            return same.model_copy(update={"state": "blocked", "reason": reason})
        with self.database.read() as session:
            moved = tuple(each.reference for each in staleness.moved(session, [target.version_id]))
        if not moved:
            planned = self.dry_run and any(each.state == "planned" for each in before)
            return same.model_copy(update={"state": "planned"}) if planned else same
        try:
            outcome = self._remake(target, moved)
        except StorageFailure:
            raise  # disk or database: the rest would fail alike
        except RegistryError as error:
            advice = f" ({error.hint})" if error.hint else ""
            outcome = {"state": "failed", "reason": f"{error.message}{advice}"}
        return same.model_copy(update={"references": moved, **outcome})

    def _remake(self, target: Follower, moved: Sequence[MovedReference]) -> dict[str, Any]:
        if broken := [str(each) for each in moved if each.current is None]:
            return {"state": "failed", "reason": "; ".join(broken)}
        with self.database.read() as session:
            job = _job(session, target)
            if self.dry_run:
                plan(session, job.text, rank=None, energy=None, dtype=job.recipe.dtype)
                return {"state": "planned"}
        made = self._compose(job)
        if not made.created:
            return {"reason": f"{made.ref} is that already"}
        return {"state": "made", "made": made.ref, "cached": made.cached, "warnings": made.warnings}

    def _compose(self, job: _Job) -> Composed:
        return compose.compose(
            self.database,
            self.blobs,
            job.pin.name,
            job.text,
            rank=None,
            energy=None,
            dtype=job.recipe.dtype,
            seed=job.recipe.seed,
            device=self.device,
            base_path=self.base_path,
            task=job.version.task,
            tags=job.version.tags,
            license=job.version.license,
            note=job.version.note,
            actor=self.actor,
            progress=self.progress,
            rebuilt=job.pin,
        )


def _asked(session: Session, refs: Sequence[str]) -> list[Follower]:
    """The compositions that are named, and those that they follow."""
    pins = [references.resolve(session, wanted) for wanted in map(reference.parse, refs)]
    for pin in pins:
        if pin.recipe_digest is None:
            raise UsageError(
                f"{pin.ref} was imported: there is nothing to rebuild", hint="name a composition"
            )
    targets = staleness.needed(session, [pin.id for pin in pins])
    for target in targets:
        if not target.latest:
            raise UsageError(
                f"{target.ref} is not the latest version of {target.name}, which is what a rebuild continues",
                hint=f"registry rebuild {target.name}",
            )
    return targets


def _check_one_base(targets: Sequence[Follower]) -> None:
    """One folder is one base model: under adapters of another one, its values would be silently wrong."""
    first = {target.base: target.ref for target in reversed(targets)}
    for one, other in combinations(sorted(first, key=str), 2):
        if base_difference(one, other):
            name = first[one].partition("@")[0]
            raise UsageError(
                f"--base-path is one base model, but {first[one]} is on {one} and {first[other]} on {other}",
                hint=f"rebuild them apart, such as: registry rebuild {name} --base-path DIR",
            )


def _in_order(targets: Sequence[Follower]) -> Iterator[Follower]:
    """Each after those that it follows, else oldest first; a circle is entered at its oldest, and gone round once."""
    by_line = {target.adapter_id: target for target in targets}
    waiting_for = {target.adapter_id: target.lines & by_line.keys() for target in targets}
    followers: dict[int, list[int]] = {line: [] for line in by_line}
    for line, lines in waiting_for.items():
        for each in lines:
            followers[each].append(line)
    ready = [
        (target.version_id, target.adapter_id) for target in targets if not waiting_for[target.adapter_id]
    ]
    heapq.heapify(ready)
    rest = dict.fromkeys(target.adapter_id for target in targets)
    while rest:
        line = heapq.heappop(ready)[1] if ready else next(iter(rest))
        if line not in rest:
            continue
        del rest[line]
        yield by_line[line]
        for follower in followers[line]:
            waiting_for[follower] = waiting_for[follower] - {line}
            if follower in rest and not waiting_for[follower]:
                heapq.heappush(ready, (by_line[follower].version_id, follower))


def _job(session: Session, target: Follower) -> _Job:
    pin = references.resolve(session, reference.parse(target.ref))
    return _Job(
        pin=pin,
        version=views.version(session, pin.id),
        recipe=artifacts.load_recipe(session, pin.recipe_digest or ""),
        text=_text(target, staleness.outgrown(session, target.version_id)),
    )


def _text(target: Follower, outgrown: dict[str, str]) -> str:
    """The expression, with what it says of its own line as it meant it: else a change would be applied twice."""
    if not outgrown:
        return target.expression

    def name(ref: Reference) -> str:
        own = (ref.name or "").lower() == target.name.lower() and ref.version is None
        return outgrown.get((ref.alias or "").lower(), str(ref)) if own else str(ref)

    return expression.render(expression.parse(target.expression), name)
