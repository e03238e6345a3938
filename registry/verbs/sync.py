"""Sync: bring the Hub to what the rules ask for, again and again, whatever fails in between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from registry import hub
from registry.blobs import BlobStore
from registry.catalog import rules as catalog
from registry.catalog.database import Contended, Database
from registry.catalog.rules import Recorded
from registry.errors import (
    Conflict,
    HubUnavailable,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)
from registry.publishers.hub import Place
from registry.results import Publication, Synced, SyncReport
from registry.verbs import _drift, publish
from registry.verbs._drift import Drift
from registry.verbs._wanted import Task, Wanted, explained, wanted

Told = Callable[[Synced], None]

_TEMPORARY = (HubUnavailable, Conflict, Contended)
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
    with database.read() as session:
        chosen = catalog.listing(session, rules)
        asked = wanted(session, chosen)
        known = catalog.recorded(session, {task.where.repo for task in asked.tasks})
    run = _Run(database, blobs, options, remembered, actor, told)
    run.all(asked, known)
    results = sorted(run.results, key=_order)
    return SyncReport(
        applied=not options.dry_run,
        pending=any(each.outcome in _UNFINISHED for each in results),
        rules=len(chosen),
        counts=dict(sorted(Counter(each.outcome for each in results).items())),
        results=tuple(results),
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
    results: list[Synced] = field(default_factory=list)
    pace: _Pace = field(default_factory=_Pace)
    _merging: threading.Lock = field(default_factory=threading.Lock)
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def all(self, asked: Wanted, known: Mapping[tuple[str, str], Sequence[Recorded]]) -> None:
        for outcome in asked.settled:
            self.tell(outcome)
        there: dict[Place, tuple[Task, Recorded]] = {}
        pending: list[Task] = []
        for task in asked.tasks:
            record = _last(task, known.get(task.key, ()))
            if record is None:
                pending.append(task)
            elif record.state == "withdrawn":
                self.tell(_withheld(task, record))
            else:
                there[task.where] = (task, record)
        if there or (pending and not self.options.dry_run):
            hub.require_token()  # without one, what is private looks as if it was gone
        pending += self._looked(there)
        if self.options.dry_run:
            for task in pending:
                self.tell(self._planned(task))
        else:
            self._do(sorted(pending, key=lambda task: task.key))

    def tell(self, outcome: Synced) -> None:
        with self._telling:
            self.results.append(outcome)
            if self.told is not None:
                self.told(outcome)

    def _looked(self, there: Mapping[Place, tuple[Task, Recorded]]) -> list[Task]:
        """What has to be pushed again of what is there, or was; the outcome of all else is told."""
        again: list[Task] = []
        heads: dict[int, str] = {}
        for where, drift in self._look(there):
            task, record = there[where]
            if (drift.state in {"changed", "gone"} and self.options.repair) or (
                drift.state in {"same", "moved"}
                and task.tag
                and not (record.tagged and record.tag == task.tag)
            ):
                again.append(task)
            else:
                self.tell(_seen(task, record, drift))
            if drift.state == "moved" and drift.head and drift.head != record.seen:
                heads[record.id] = drift.head
        if heads and not self.options.dry_run:
            self.database.transact(lambda session: catalog.saw(session, heads))
        return again

    def _look(self, there: Mapping[Place, tuple[Task, Recorded]]) -> Iterator[tuple[Place, Drift]]:
        """What became of each place; where the Hub could not be asked, it is asked again."""
        left = {
            where: _drift.Recorded(record.commit, record.seen, record.files)
            for where, (_, record) in there.items()
        }
        for attempt in range(self.options.retries + 1):
            unknown = {}
            for where, drift in _drift.look(left).items():
                if (
                    drift.state == "unknown"
                    and isinstance(drift.error, _TEMPORARY)
                    and not self._last(attempt)
                ):
                    unknown[where] = left[where]
                else:
                    yield where, drift
            if not unknown:
                return
            left = unknown
            self._pause(attempt)

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
        outcome = self._push(task)
        self.tell(outcome.model_copy(update={"seconds": round(time.monotonic() - began, 3)}))

    def _push(self, task: Task) -> Synced:
        began = datetime.now(UTC)
        attempt = 0
        while True:
            self.pace.wait()
            try:
                done = self._publish(task, dry_run=False)
            except _TEMPORARY as error:
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
                made = done.created or (done.created_at is not None and done.created_at >= began)
                return _pushed(task, done, made=made)

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
        with self._merging if task.target == "model" else nullcontext():  # each takes much memory
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

    A card tells where its parents are, so that those are there first. What waits, waits for what is older.
    """
    running = list(running)
    repos = {task.key[0] for task in running}
    unfinished = {task.ref for task in (*waiting, *running)}
    found: list[Task] = []
    for task in waiting:
        if len(running) + len(found) == jobs:
            break
        if task.key[0] not in repos and not task.parents & unfinished:
            found.append(task)
            repos.add(task.key[0])
    return found


def _last(task: Task, records: Sequence[Recorded]) -> Recorded | None:
    """The record that says that this is at its place, or was withdrawn from it; None where it has to be pushed."""
    mine = [each for each in records if (each.ref, each.target) == (task.ref, task.target)]
    settled = [each for each in mine if each.state in {"done", "withdrawn"}]
    if settled and settled[-1].state == "withdrawn":
        return settled[-1]
    if task.propose and settled and settled[-1].pull_request is not None:
        return settled[-1]
    pushed = [each for each in records if each.state == "done" and each.pull_request is None]
    return pushed[-1] if pushed and pushed[-1] in mine else None


def _withheld(task: Task, record: Recorded) -> Synced:
    return task.outcome(
        outcome="withheld",
        reason=f"{task.ref} was unpublished from {task.where.repo}",
        hint=f"to publish it there all the same: registry publish {task.ref} {task.where.repo}",
        commit=record.commit,
    )


def _seen(task: Task, record: Recorded, drift: Drift) -> Synced:
    told = {"commit": record.commit, "url": record.url, "pull_request": record.pull_request}
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


def _pushed(task: Task, done: Publication, *, made: bool) -> Synced:
    return task.outcome(
        outcome=("proposed" if done.pull_request is not None else "published") if made else "unchanged",
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
