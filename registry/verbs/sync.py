"""Sync: bring the Hub to what the rules ask for, again and again, whatever fails in between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from registry import hub
from registry._hub_patience import until
from registry.blobs import BlobStore
from registry.catalog import publications as outbox
from registry.catalog import rules as catalog
from registry.catalog.database import Contended, Database, shown
from registry.catalog.publications import Entry
from registry.errors import (
    HubUnavailable,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)
from registry.publishers.hub import Overtaken, Place
from registry.results import Publication, Synced, SyncReport
from registry.verbs import _drift, _proposals, _release, publish
from registry.verbs._drift import Drift
from registry.verbs._wanted import Task, Wanted, explained, of_rules, wanted

Told = Callable[[Synced], None]

_TEMPORARY = (HubUnavailable, Overtaken, Contended)
_LONGEST_WAIT = 60.0
_UNFINISHED = ("planned", "drifted", "failed")
_MAX_JOBS = 32
_GLANCE = 0.5  # seconds, in which a signal is noticed while everything waits


@dataclass(frozen=True)
class Options:
    """How a sync goes about it; see :meth:`registry.Registry.sync`."""

    dry_run: bool = False
    repair: bool = False
    jobs: int = 4
    retries: int = 3
    backoff: float = 2.0
    base_path: str | Path | None = None


def sync(
    database: Database,
    blobs: BlobStore,
    rules: Sequence[int],
    options: Options,
    *,
    remembered: Path | None,
    actor: str,
    told: Told | None,
) -> SyncReport:
    _check(options)
    if not options.dry_run:
        database.require("publications")
    began, clock = datetime.now(UTC), time.monotonic()
    with database.read() as session:
        chosen = catalog.listing(session, rules)
        # All of them, as one that is not chosen may want another thing at the same place.
        asked = of_rules(wanted(session, catalog.listing(session)), chosen)
        entries = outbox.within(session, {task.where.repo for task in asked.tasks})
    run = _Run(database, blobs, options, remembered, actor, told, _tags(entries))
    run.all(asked, entries)
    results = sorted(run.results, key=_order)
    return SyncReport(
        applied=not options.dry_run,
        pending=any(each.outcome in _UNFINISHED for each in results),
        rules=len(chosen),
        counts=dict(sorted(Counter(each.outcome for each in results).items())),
        results=tuple(results),
        catalog=shown(database.url),
        began_at=began,
        seconds=round(time.monotonic() - clock, 3),
    )


@dataclass
class _Pace:
    """When the next request may be made: what one thread is told to wait, all do. Waits end when it is stopped."""

    stopped: threading.Event = field(default_factory=threading.Event)
    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, seconds: float) -> None:
        """Let nobody begin anything for so long."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self) -> None:
        while not self.stopped.is_set() and (left := self._until - time.monotonic()) > 0:
            self.stopped.wait(left)


@dataclass
class _Run:
    """One sync: with what, by whom, and what came of it."""

    database: Database
    blobs: BlobStore
    options: Options
    remembered: Path | None
    actor: str
    told: Told | None
    tags: frozenset[tuple[str, ...]]
    results: list[Synced] = field(default_factory=list)
    pace: _Pace = field(default_factory=_Pace)
    _lost: set[str] = field(default_factory=set)  # repos that are gone, and their tags with them
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def all(self, asked: Wanted, entries: Sequence[Entry]) -> None:
        for outcome in asked.settled:
            self.tell(outcome)
        known: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            known.setdefault((entry.shown.repo.lower(), entry.shown.revision), []).append(entry)
        there: dict[Place, tuple[Task, Entry]] = {}
        proposed: list[tuple[Task, Entry]] = []
        pending: list[Task] = []
        for each in asked.tasks:
            task = _as_recorded(each, known.get(each.key, ()))
            record = _last(task, known.get(task.key, ()))
            if record is None:
                pending.append(task)
            elif record.shown.state == "withdrawn":
                self.tell(_withheld(task, record.shown))
            elif record.on_branch:
                there[task.where] = (task, record)
            else:
                proposed.append((task, record))
        if there or proposed or (pending and not self.options.dry_run):
            hub.require_token()  # without one, what is private looks as if it was gone
        pending += self._looked(there)
        self._follow(proposed)
        if self.options.dry_run:
            for task in pending:
                self.tell(self._planned(task))
        else:
            self._do(pending)

    def tell(self, outcome: Synced) -> None:
        with self._telling:
            self.results.append(outcome)
            if self.told is not None:
                self.told(outcome)

    def _looked(self, there: Mapping[Place, tuple[Task, Entry]]) -> list[Task]:
        """What has to be pushed, or tagged, of what is there, or was; the outcome of all else is told."""
        again: list[Task] = []
        heads: dict[str, str] = {}
        for where, drift in self._look(there):
            task, entry = there[where]
            if not drift.repo:
                self._lost.add(task.key[0])
            lost = drift.state in {"changed", "gone"}
            if (lost and self.options.repair) or (drift.state in {"same", "moved"} and self._tag(task)):
                again.append(task)
            else:
                self.tell(_seen(task, entry.shown, drift))
            if drift.state == "moved" and drift.head and drift.head != entry.seen:
                heads[entry.publish_id] = drift.head
        if heads and not self.options.dry_run:
            self.database.transact(lambda session: _see(session, heads))
        return again

    def _look(self, there: Mapping[Place, tuple[Task, Entry]]) -> Iterator[tuple[Place, Drift]]:
        """What became of each place; where the Hub could not be asked, it is asked again."""
        left = {
            where: _drift.Recorded(entry.shown.commit, entry.seen, entry.shown.files)
            for where, (_, entry) in there.items()
        }
        for attempt in range(self.options.retries + 1):
            unknown = {}
            for where, drift in _drift.look(left).items():
                if isinstance(drift.error, _TEMPORARY) and not self._last(attempt):
                    unknown[where] = left[where]
                else:
                    yield where, drift
            if not unknown:
                return
            left = unknown
            self._pause(attempt)

    def _follow(self, proposed: Sequence[tuple[Task, Entry]]) -> None:
        """Tell what became of pull requests; whoever closed one does not want it."""
        entries = [entry for _, entry in proposed]
        found = _proposals.follow(self.database, entries, self.actor, keep=not self.options.dry_run)
        for task, entry in proposed:
            proposal, shown = found[entry.publish_id], entry.shown
            told = {"commit": shown.commit, "url": shown.url, "pull_request": shown.pull_request}
            if proposal.error is not None:
                self.tell(task.outcome(outcome="failed", **told, **explained(proposal.error)))
            elif proposal.state in {"open", "merged"}:
                self.tell(task.outcome(outcome="unchanged", **told))
            else:
                what = "was closed" if proposal.state == "closed" else "is gone"
                reason = f"pull request {shown.pull_request} of {shown.repo} {what}"
                hint = f"to open another: registry publish {task.ref} {shown.repo} --pr"
                self.tell(task.outcome(outcome="withheld", reason=reason, hint=hint, **told))

    def _tag(self, task: Task) -> str | None:
        """The tag that is still to be made; one that a version was given stays where it is."""
        key = (task.key[0], task.ref, task.target, task.tag or "")
        return None if key in self.tags and task.key[0] not in self._lost else task.tag

    def _do(self, tasks: Sequence[Task]) -> None:
        """Push: repos side by side, what goes to one repo one after another."""
        waiting = sorted(tasks, key=lambda task: (task.made, task.key))
        running: dict[Future[None], Task] = {}
        ended: list[Future[None]] = []
        with ThreadPoolExecutor(self.options.jobs, thread_name_prefix="sync") as pool, self._stopping():
            while running or (waiting and not self.pace.stopped.is_set()):
                for task in _ready(waiting, running.values(), self.options.jobs):
                    waiting.remove(task)
                    running[pool.submit(self._push_timed, task)] = task
                done = wait(running, timeout=_GLANCE, return_when=FIRST_COMPLETED).done
                ended += done
                for future in done:
                    del running[future]
        for future in ended:
            future.result()  # where something went wrong that is nobody's outcome, after all others

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Whatever ends it early, nothing new is begun, and what is on its way comes to its end."""
        try:
            yield
        except BaseException:
            self.pace.stopped.set()
            raise

    def _push_timed(self, task: Task) -> None:
        began = time.monotonic()
        with until(self.pace.stopped):
            outcome = self._push(task)
        self.tell(outcome.model_copy(update={"seconds": round(time.monotonic() - began, 3)}))

    def _push(self, task: Task) -> Synced:
        began = datetime.now(UTC)
        attempt = 0
        unseen = overtaken = (
            False  # an attempt may have arrived without an answer, another sync was there first
        )
        while True:
            self.pace.wait()
            try:
                done = self._publish(task, dry_run=False)
            except _TEMPORARY as error:
                unseen |= isinstance(error, HubUnavailable)
                overtaken |= isinstance(error, Overtaken)
                if self._last(attempt) or not self._pause(attempt):
                    return task.outcome(outcome="failed", **explained(error))
                attempt += 1
            except Refused as error:
                return task.outcome(outcome="blocked", **explained(error))
            except StorageFailure:
                self.pace.stopped.set()  # disk or database: the rest would fail alike
                raise
            except RegistryError as error:
                return task.outcome(outcome="failed", **explained(error))
            else:
                # What an earlier attempt pushed without seeing it arrive was pushed by this sync.
                mine = unseen and done.created_at is not None and done.created_at >= began
                made = done.created or mine
                return _pushed(task, done, made=made, tagged=self._tag(task) is not None and not overtaken)

    def _planned(self, task: Task) -> Synced:
        """What would be pushed; that it would be refused is seen where nothing has to be merged for it."""
        if task.target == "adapter":
            try:
                self._publish(task, dry_run=True)
            except StorageFailure:
                raise
            except RegistryError as error:
                return task.outcome(outcome="blocked", **explained(error))
        return task.outcome(outcome="planned")

    def _publish(self, task: Task, *, dry_run: bool) -> Publication:
        return publish.publish(
            self.database,
            self.blobs,
            task.ref,
            task.where.repo,
            into=task.target,
            private=task.private,
            revision=task.where.revision,
            message=None,
            base_path=self.options.base_path,
            adopt=task.adopt,
            dry_run=dry_run,
            remembered=self.remembered,
            actor=self.actor,
            progress=None,
            propose=task.propose,
            tag=self._tag(task),
            presentation=_release.presentation(license=task.license),
            again=False,
        )

    def _last(self, attempt: int) -> bool:
        return attempt >= self.options.retries

    def _pause(self, attempt: int) -> bool:
        """Wait before another attempt; False where there is to be none."""
        self.pace.hold(min(self.options.backoff * 2**attempt, _LONGEST_WAIT))
        self.pace.wait()
        return not self.pace.stopped.is_set()


def _ready(waiting: Sequence[Task], running: Iterable[Task], jobs: int) -> list[Task]:
    """What can be begun now: nothing beside another push to its repo, or before what it was made from.

    A card tells where its parents are, so that those are there first. What waits, waits for what is older. Models are
    merged one at a time, as each takes much memory; what waits for that holds up nobody, and is not begun.
    """
    running = list(running)
    repos = {task.key[0] for task in running}
    unfinished = {task.ref for task in (*waiting, *running)}
    merging = any(task.target == "model" for task in running)
    found: list[Task] = []
    for task in waiting:
        if len(running) + len(found) == jobs:
            break
        if task.key[0] in repos or task.parents & unfinished or (merging and task.target == "model"):
            continue
        found.append(task)
        repos.add(task.key[0])
        merging |= task.target == "model"
    return found


def _as_recorded(task: Task, entries: Sequence[Entry]) -> Task:
    """A repo keeps the spelling that it was made with, by which it is recorded as one of ours."""
    arrived = [each.shown.repo for each in entries if each.shown.commit is not None]
    return replace(task, where=replace(task.where, repo=arrived[-1])) if arrived else task


def _last(task: Task, entries: Sequence[Entry]) -> Entry | None:
    """The record that says that this is at its place, or was withdrawn from it; None where it has to be pushed."""
    settled = [each for each in entries if each.shown.state in {"done", "withdrawn"}]
    mine = [each for each in settled if (each.shown.ref, each.shown.target) == (task.ref, task.target)]
    if mine and mine[-1].shown.state == "withdrawn":
        return mine[-1]
    arrived = [each for each in settled if each.shown.state == "done" and each.on_branch]
    if arrived and arrived[-1] in mine:
        return arrived[-1]
    return mine[-1] if task.propose and mine and not mine[-1].on_branch else None


def _tags(entries: Iterable[Entry]) -> frozenset[tuple[str, ...]]:
    """The tags that versions have in repos."""
    shown = [each.shown for each in entries if each.shown.tagged]
    return frozenset((each.repo.lower(), each.ref, each.target, each.tag or "") for each in shown)


def _see(session: Session, heads: Mapping[str, str]) -> None:
    for publish_id, commit in sorted(heads.items()):
        outbox.see(session, publish_id, commit)


def _withheld(task: Task, shown: Publication) -> Synced:
    return task.outcome(
        outcome="withheld",
        reason=f"{task.ref} was unpublished from {task.where.repo}",
        hint=f"to publish it there all the same: registry publish {task.ref} {task.where.repo}",
        commit=shown.commit,
    )


def _seen(task: Task, shown: Publication, drift: Drift) -> Synced:
    told = {"commit": shown.commit, "url": shown.url, "pull_request": shown.pull_request}
    match drift.state:
        case "same" | "moved":
            return task.outcome(outcome="unchanged", **told)
        case "changed" | "gone":
            what = "is gone" if drift.state == "gone" else "no longer holds what was published"
            reason = f"{task.where.repo} {what}"
            return task.outcome(
                outcome="drifted", reason=reason, hint="to push it again: registry sync --repair", **told
            )
    error = drift.error or HubUnavailable(f"cannot see {task.where.repo}", hint="try again later")
    return task.outcome(outcome="failed", **told, **explained(error))


def _pushed(task: Task, done: Publication, *, made: bool, tagged: bool) -> Synced:
    if made:
        outcome = "published" if done.pull_request is None else "proposed"
    else:
        outcome = "tagged" if tagged and done.tagged else "unchanged"
    return task.outcome(
        outcome=outcome,
        commit=done.commit,
        url=done.url,
        pull_request=done.pull_request,
        warnings=done.warnings,
    )


def _check(options: Options) -> None:
    if not 1 <= options.jobs <= _MAX_JOBS:
        raise UsageError(f"{options.jobs} jobs make no sense", hint=f"--jobs is from 1 to {_MAX_JOBS}")
    if options.retries < 0 or not 0 <= options.backoff <= _LONGEST_WAIT:
        raise UsageError(
            "retries are 0 or more, and the wait before the first is at most a minute",
            hint="--retries 3 --backoff 2",
        )


def _order(outcome: Synced) -> tuple[str, str, str, tuple[int, ...]]:
    return outcome.repo or "", outcome.revision or "", outcome.ref or "", outcome.rules
