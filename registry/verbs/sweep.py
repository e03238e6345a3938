"""Sweep: one expression at many values of its variables, each point measured, the best one a version.

A point is a recipe like any other: what was computed, or measured by the same evaluator, is not done again. References
are resolved once, so that a name that moves meanwhile changes nothing. Doing the same again goes on where it ended.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from registry import expression, reference
from registry._secrets import redact
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, sweeps, versions
from registry.catalog.artifacts import Content, Realisation
from registry.catalog.database import Database
from registry.catalog.events import record as record_event
from registry.catalog.marks import add_evaluation
from registry.catalog.references import Pin
from registry.catalog.versions import Draft
from registry.digest import canonical_json, of_bytes
from registry.errors import ExpressionError, Refused, RegistryError, UsageError
from registry.peft_format import StoredAdapter
from registry.results import Composed, Evaluation, Sweep, SweepPoint
from registry.verbs import _bayes, _content, _points
from registry.verbs._given import Given
from registry.verbs._grounds import Grounds, ground
from registry.verbs._once import alone
from registry.verbs._pinning import Plan, parsed, pinned, resolve
from registry.verbs._running import Called, Command, Evaluator, Function, Measured, named, plain
from registry.verbs._text import check_device, check_text
from registry.verbs.compose import compute, known, opened, recorded, usable, write_version
from registry.verbs.sweeps import judged

Progress = Callable[[str, int, int], None]
Search = Literal["grid", "bayes"]
_MOST_JOBS = 256


@dataclass(frozen=True)
class Asked:
    """A sweep as it was asked for; see :meth:`registry.Registry.sweep`."""

    name: str
    text: str
    over: Mapping[str, str | Sequence[str | Decimal | int]]
    metric: Sequence[str]
    run: str | None = None
    evaluate: Function | None = None
    evaluator: str | None = None
    minimize: bool | None = None
    constrain: Sequence[str] = ()
    search: Search = "grid"
    budget: int | None = None
    seed: int = 0
    jobs: int = 1
    timeout: float | None = None
    retries: int = 0
    dataset: str = "local"
    split: str | None = None
    record: bool = True
    again: bool = False
    plan_only: bool = False
    rank: int | None = None
    energy: str | float | None = None
    dtype: str | None = None
    base_path: str | Path | None = None
    device: str = "auto"


def sweep(
    database: Database,
    blobs: BlobStore,
    asked: Asked,
    *,
    place: Path,
    actor: str,
    progress: Progress | None,
) -> Sweep:
    """Measure every point, and make the best one a version. ``place`` is the folder that points are written to.

    Raises what composing raises, before anything is measured, and ``UsageError`` for what makes no sense.
    """
    _check(asked)
    evaluator = _evaluator(asked)
    if not asked.plan_only:
        database.require("sweep_points")
        database.require("versions")
    one = _Sweep(database, blobs, asked, evaluator=evaluator, place=place, actor=actor, progress=progress)
    if asked.plan_only:
        return one.planned()
    try:
        with alone(database, f"the sweep {one.digest}", progress):
            return one.run()
    finally:
        evaluator.stop()


def run_evaluation(
    database: Database,
    blobs: BlobStore,
    refs: Sequence[str],
    *,
    run: str | None,
    evaluate: Function | None,
    timeout: float | None,
    retries: int,
    dataset: str,
    split: str | None,
    place: Path,
    actor: str,
    progress: Progress | None,
) -> tuple[Evaluation, ...]:
    """Measure versions, and record what they score. Raises ``RegistryError``, naming the version, where it fails."""
    _check_where(dataset, split)
    evaluator = _measuring(
        run, evaluate, places=("path", "ref"), variables=(), timeout=timeout, retries=retries
    )
    database.require("evaluations")
    with database.read() as session:
        found = [references.resolve(session, reference.parse(ref)) for ref in refs]
    pins = list({pin.id: pin for pin in found}.values())  # of two names for one version it is measured once
    done: list[Evaluation] = []
    try:
        for position, pin in enumerate(pins):
            if progress is not None:
                progress("evaluating", position, len(pins))
            metrics = _scored(database, blobs, pin, evaluator, place)
            done += _recorded(database, pin, metrics, dataset=dataset, split=split, actor=actor)
    finally:
        evaluator.stop()
    return tuple(done)


def _scored(
    database: Database, blobs: BlobStore, pin: Pin, evaluator: Evaluator, place: Path
) -> Mapping[str, float]:
    """What a version scores, by an evaluator that is given its folder."""
    with Given(place, "evaluation") as given:

        def once() -> None:
            with database.read() as session:
                held = _content.files_of(session, pin.digest, pin.ref)
            given.take(_content.verified_paths(held, blobs, pin.ref), pin.base_model)

        _content.again_if_swept(once)
        made = evaluator.measure(given.fresh, pin.ref, {})
    if made.state != "ok":
        raise RegistryError(
            f"the evaluation of {pin.ref} failed: {made.error}", hint="nothing was recorded of it"
        )
    return made.metrics


def _recorded(
    database: Database, pin: Pin, metrics: Mapping[str, float], *, dataset: str, split: str | None, actor: str
) -> list[Evaluation]:
    def write(session: Session) -> list[Evaluation]:
        return [
            add_evaluation(session, pin, name, value, dataset=dataset, split=split, actor=actor)
            for name, value in metrics.items()
        ]

    return database.transact(write)


@dataclass(frozen=True)
class _Point:
    """A point to be measured."""

    position: int
    values: Mapping[str, Decimal]
    plan: Plan

    def result(self, state: Any, **more: Any) -> SweepPoint:
        return SweepPoint(
            position=self.position,
            values=_points.written(self.values),
            expression=self.plan.expression,
            recipe=self.plan.recipe.digest,
            metrics=more.pop("metrics", None),
            state=state,
            **more,
        )


@dataclass
class _Counts:
    computed: int = 0
    evaluated: int = 0
    reused: int = 0
    done: int = 0


class _Sweep:
    """One sweep under way."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        asked: Asked,
        *,
        evaluator: Evaluator,
        place: Path,
        actor: str,
        progress: Progress | None,
    ) -> None:
        self._database, self._blobs, self._asked, self._evaluator = database, blobs, asked, evaluator
        self._place, self._actor, self._progress = place, actor, progress
        self._variables = [_points.variable(name, values) for name, values in asked.over.items()]
        self._objectives = _points.objectives(asked.metric, minimize=asked.minimize)
        self._constraints = _points.constraints(asked.constrain)
        _points.check_template(asked.text, [each.name for each in self._variables])
        self._wanted = _wanted(asked)
        first = {each.name: each.values[0] if each.values else each.low for each in self._variables}
        tree = self._tree(first)
        with database.read() as session:
            self._found = resolve(session, tree)
            made = self._plan(first)
            if not asked.plan_only or asked.record:
                versions.refuse_early(session, asked.name, kind=made.stored_as, base=made.base_model)
            self._held = recorded(session, made)
            for pin in made.pins:  # also those that the first point multiplies by 0
                self._held.setdefault(pin.digest, _content.files_of(session, pin.digest, pin.ref))
        self._labels = made.labels
        if asked.search == "grid":
            _points.grid(self._variables)  # refused before anything is computed
        self._opened: dict[str, StoredAdapter] = {}
        self._grounds: dict[tuple[str, ...], Grounds] = {}
        self._last: StoredAdapter | None = None
        self._counts = _Counts()
        self._results: dict[int, SweepPoint] = {}
        self._plans: dict[int, Plan] = {}
        self._measured: dict[sweeps.Told, Mapping[str, float]] = {}
        self._named = sorted(named(asked.run) - {"path"}) if asked.run is not None else []
        self._what = self._described()
        self.digest = self._digest()
        if not asked.plan_only:  # what is missing is told before a sweep is begun
            self._grounded(made)
            if asked.search == "bayes":
                _bayes.require()

    # -- what is to be done

    def _described(self) -> Sweep:
        asked = self._asked
        return Sweep(
            id=None,
            name=asked.name,
            expression=asked.text.strip(),
            pins={str(ref): pin.ref for ref, pin in self._found.items()},
            variables={each.name: each.text for each in self._variables},
            evaluator=_evaluator_text(asked),
            metrics=self._objectives,
            constraints=tuple(map(str, self._constraints)),
            search=asked.search,
            budget=asked.budget,
            seed=asked.seed,
            dataset=asked.dataset,
            split=asked.split,
            state="planned",
        )

    def _digest(self) -> str:
        asked = self._asked
        self._evaluator_digest = _evaluator_digest(asked)
        told = self._what.model_dump(
            mode="json",
            include={
                *("expression", "variables", "metrics", "constraints", "search", "budget", "seed", "dataset"),
                "split",
            },
        )
        inputs = {str(ref): [pin.ref, pin.digest] for ref, pin in self._found.items()}
        options = [asked.rank, None if asked.energy is None else str(asked.energy), asked.dtype]
        order = [each.name for each in self._variables]
        told |= {"name": asked.name.lower(), "pins": inputs, "evaluator": self._evaluator_digest}
        return of_bytes(canonical_json({**told, "options": options, "order": order}))

    def _tree(self, values: Mapping[str, Decimal]) -> expression.Node:
        return parsed(
            _points.filled(self._asked.text, values), rank=self._asked.rank, energy=self._asked.energy
        )

    def _plan(self, values: Mapping[str, Decimal]) -> Plan:
        asked = self._asked
        tree = self._tree(values)
        if foreign := [ref for ref in expression.references(tree) if ref not in self._found]:
            raise ExpressionError(
                f"a variable stands for a number, not in a reference such as {foreign[0]}",
                text=asked.text,
                column=asked.text.find("{") + 1,
            )
        plain = asked.rank is None and asked.energy is None
        text = _points.filled(asked.text, values).strip() if plain else None
        return pinned(tree, self._found, text=text, dtype=asked.dtype, seed=asked.seed)

    def planned(self) -> Sweep:
        """The points of a grid, and which are known; of a search only what it would look at."""
        with self._database.read() as session:
            sweep_id = sweeps.find(session, self.digest)
        found = self._grid()
        self._recall(found)
        points: list[SweepPoint] = []
        for point in found:
            metrics = self._measured.get(self._told(point))
            points.append(point.result("new" if metrics is None else "known", metrics=metrics))
        return judged(self._what.model_copy(update={"id": sweep_id}), points)

    # -- doing it

    def run(self) -> Sweep:
        begun: list[int] = []
        grid = self._grid()

        def begin(session: Session) -> int:
            return sweeps.begin(
                session, sweeps.Draft(self.digest, self._evaluator_digest, self._what), self._actor
            )

        try:
            self._id = self._database.transact(begin)
            begun.append(self._id)
            self._measure_all(grid)
            return self._finished()
        except BaseException:
            self._evaluator.stop()
            if begun:
                # What went wrong is told, and running it again goes on.
                with contextlib.suppress(RegistryError):
                    self._database.transact(lambda session: sweeps.end(session, self._id, "stopped"))
            raise

    def _measure_all(self, grid: Sequence[_Point]) -> None:
        asked = self._asked
        if asked.search == "grid":
            self._total = len(grid)
            self._measure(grid)
            return
        self._total = budget = asked.budget or 0
        search = _bayes.Bayes(
            self._variables, self._objectives, self._constraints, seed=asked.seed, known=self._from_before()
        )
        before = {} if asked.again else self._asked_before()
        done = 0
        for batch in search.batches(budget, asked.jobs):
            wanted = [(trial, before.get(at, values)) for at, (trial, values) in enumerate(batch, done + 1)]
            points = self._measure(self._pointed((values for _, values in wanted), done + 1))
            for (trial, used), point in zip(wanted, points, strict=True):
                search.tell(trial, used, point.metrics)
            done += len(batch)

    def _asked_before(self) -> dict[int, Mapping[str, Decimal]]:
        """The values of this search's points that are recorded, by position.

        It keeps to them: with other jobs, or with what failed then, it would ask for others in their places.
        """
        with self._database.read() as session:
            found = sweeps.points(session, self._id)
        names = [each.name for each in self._variables]
        return {each.position: {name: Decimal(each.values[name]) for name in names} for each in found}

    def _from_before(self) -> Iterator[tuple[Mapping[str, Decimal], Mapping[str, float]]]:
        """What earlier sweeps measured of the recipes that this one makes of the same values, by the same evaluator."""
        with self._database.read() as session:
            found = sweeps.before(session, self._id)
        for values, recipe, metrics in found:
            numbers = {name: Decimal(value) for name, value in values.items()}
            same = numbers.keys() == {each.name for each in self._variables}
            if same and self._wanted <= metrics.keys() and self._makes(recipe, numbers):
                yield numbers, metrics

    def _makes(self, recipe: str, values: Mapping[str, Decimal]) -> bool:
        try:
            return self._grounded(self._plan(values)).recipe.digest == recipe
        except (UsageError, Refused):  # the values are of another expression, and none of this one
            return False

    def _grid(self) -> list[_Point]:
        """The points of a grid; of a search none. What does not compose is told, before a sweep is begun."""
        if self._asked.search == "grid":
            return self._pointed(_points.grid(self._variables), 1)
        self._pointed([_points.example(self._variables)], 1)
        return []

    def _pointed(self, asked: Iterable[Mapping[str, Decimal]], first: int) -> list[_Point]:
        return [
            _Point(position, values, self._grounded(self._plan(values)))
            for position, values in enumerate(asked, first)
        ]

    def _measure(self, found: Sequence[_Point]) -> list[SweepPoint]:
        """Measure points, each as soon as its adapter is there; what they gave, in the order that was asked."""
        self._plans |= {point.position: point.plan for point in found}
        if not self._asked.again:
            self._recall(found)
        waiting: dict[sweeps.Told, list[_Point]] = {}
        for point in found:
            waiting.setdefault(self._told(point), []).append(point)
        new = [each for told, each in waiting.items() if told not in self._measured]
        old = [point for told, each in waiting.items() if told in self._measured for point in each]
        self._save([self._reused(point) for point in old])
        running: dict[Future[Measured], list[_Point]] = {}
        try:
            with ThreadPoolExecutor(self._asked.jobs) as pool:
                self._measure_new(new, pool, running)
        except BaseException:
            with contextlib.suppress(RegistryError):  # what went wrong is told
                self._keep(running)
            raise
        return [self._results[point.position] for point in found]

    def _measure_new(
        self,
        new: Iterable[list[_Point]],
        pool: ThreadPoolExecutor,
        running: dict[Future[Measured], list[_Point]],
    ) -> None:
        """Measure groups of points that are equal; those in ``running`` are not recorded yet."""
        try:
            for same in new:
                while len(running) > self._asked.jobs:
                    self._collect(running)
                given = Given(self._place, "point")
                try:
                    self._materialized(same[0].plan, given)
                except BaseException:
                    given.close()
                    raise
                running[pool.submit(self._evaluated, given, same[0].values)] = same
            while running:
                self._collect(running)
        except BaseException:
            self._evaluator.stop()
            raise

    def _keep(self, running: Mapping[Future[Measured], list[_Point]]) -> None:
        """Record what was measured before all came to its end: it has cost its time."""
        for each, same in running.items():
            if each.done() and each.exception() is None and each.result().state == "ok":
                self._record(each.result(), same)

    def _evaluated(self, given: Given, values: Mapping[str, Decimal]) -> Measured:
        with given:
            return self._evaluator.measure(given.fresh, "", values)

    def _collect(self, running: dict[Future[Measured], list[_Point]]) -> None:
        """Record those that have ended, at least one.

        Raises ``Refused`` where the first that gives metrics does not give those that decide: no other one would.
        """
        ended = wait(running, return_when=FIRST_COMPLETED).done
        lacking = ""
        for each in ended:
            same = running.pop(each)
            made = each.result()
            self._counts.evaluated += 1
            if missing := made.state == "ok" and sorted(self._wanted - made.metrics.keys()):
                told = f"no {', '.join(missing)}; it gives {plain(', '.join(made.metrics))}"
                if any(self._decided(point) for point in self._results.values()):
                    made = replace(made, state="failed", metrics={}, error=f"it gives {told}")
                lacking = lacking or told
            if made.state == "ok":
                self._measured[self._told(same[0])] = made.metrics
            self._record(made, same)
        if lacking and not any(self._decided(point) for point in self._results.values()):
            raise Refused(
                f"what measures gives {lacking}",
                hint="name what it gives with --metric and --constrain; what was measured is kept, and not measured again",
            )

    def _record(self, made: Measured, same: Sequence[_Point]) -> None:
        """Record points that are equal, of which the first was measured."""
        metrics = dict(made.metrics) if made.state == "ok" else None
        results = [
            point.result(
                made.state,
                metrics=metrics,
                attempts=made.attempts if number == 0 or metrics is None else 0,
                seconds=made.seconds,
                error=made.error,
            )
            for number, point in enumerate(same)
        ]
        self._counts.reused += len(same[1:]) if metrics is not None else 0
        self._save(results)

    def _decided(self, point: SweepPoint) -> bool:
        """Whether a point has every metric that decides."""
        return point.metrics is not None and self._wanted <= point.metrics.keys()

    def _reused(self, point: _Point) -> SweepPoint:
        self._counts.reused += 1
        return point.result("ok", metrics=dict(self._measured[self._told(point)]))

    def _save(self, points: Sequence[SweepPoint]) -> None:
        """Record points, unless they are recorded as they are."""

        def write(session: Session) -> None:
            new = sweeps.unrecorded(session, self._id, points)
            artifacts.save_recipes(session, (self._plans[point.position].recipe for point in new))
            sweeps.save(session, self._id, new)

        if points:
            self._database.transact(write)
        self._results |= {point.position: point for point in points}
        if self._progress is not None and points:
            self._progress("measuring", len(self._results), self._total)

    def _recall(self, points: Iterable[_Point]) -> None:
        """Look up what this evaluator measured of them before."""
        with self._database.read() as session:
            found = sweeps.known(
                session,
                self._evaluator_digest,
                (each.plan.recipe.digest for each in points),
                self._named,
                dataset=self._asked.dataset,
                split=self._asked.split,
            )
        self._measured |= {told: each for told, each in found.items() if self._wanted <= each.keys()}

    def _told(self, point: _Point) -> sweeps.Told:
        """What decides what is measured: the recipe, and the values that the command is given."""
        return sweeps.told(point.plan.recipe.digest, _points.written(point.values), self._named)

    # -- one point's adapter

    def _grounded(self, made: Plan) -> Plan:
        """The plan with what its recipe pins of the base model, which only a base that was given can tell."""
        return made if self._asked.base_path is None else made.on(self._ground(made))

    def _ground(self, made: Plan) -> Grounds:
        inputs = tuple(sorted(set(made.recipe.inputs)))
        if inputs not in self._grounds:
            if missing := {each: self._held[each] for each in inputs if each not in self._opened}:
                found = opened(self._blobs, made, missing, computing=True)
                self._opened |= {digest: replace(each, kept={}) for digest, each in found.items()}
            readers = {each: self._opened[each] for each in inputs}
            self._grounds[inputs] = ground(readers, self._labels, self._asked.base_path, made.base_model)
        return self._grounds[inputs]

    def _materialized(self, made: Plan, given: Given) -> None:
        """Have the adapter of a point given, computing it unless it is known."""

        def once() -> None:
            _, content, cached = self._realised(made)
            paths = {name: self._blobs.path(file.digest) for name, file in content.files.items()}
            if cached:
                paths = _content.verified_paths(content.files, self._blobs, made.expression)
            given.take(paths, made.base_model, ours=not cached)

        _content.again_if_swept(once)

    def _realised(self, made: Plan) -> tuple[Realisation, Content, bool]:
        """What the recipe gives, recorded, and whether that was known before."""
        if (cached := self._known(made)) is not None:
            return *cached, True
        with alone(self._database, f"the recipe {made.recipe.digest}", self._progress):
            if (cached := self._known(made)) is not None:
                return *cached, True
            realisation, content, self._last = compute(
                self._blobs, made, self._ground(made), device=self._asked.device, like=self._last
            )

            def write(session: Session) -> None:
                artifacts.save(session, content)
                artifacts.save_recipe(session, made.recipe)
                artifacts.save_realisation(session, realisation)
                _content.check_present(self._blobs, content.files)

            self._database.transact(write)
            self._counts.computed += 1
            return realisation, content, False

    def _known(self, made: Plan) -> tuple[Realisation, Content] | None:
        with self._database.read() as session:
            before = known(session, made.recipe)
        return usable(self._blobs, before)

    # -- the end

    def _finished(self) -> Sweep:
        points = [self._results[position] for position in sorted(self._results)]
        done = judged(self._what.model_copy(update={"id": self._id}), points)
        warnings: tuple[str, ...] = ()
        created, ref = False, None
        if done.chosen is not None and self._asked.record:
            ref, created, warnings = self._become_version(done)

        def write(session: Session) -> Sweep:
            sweeps.end(session, self._id, "done")
            session.flush()
            return sweeps.one(session, self._id)

        stored = self._database.transact(write)
        counts = self._counts
        return done.model_copy(
            update={
                "state": stored.state,
                "created_at": stored.created_at,
                "created_by": stored.created_by,
                "finished_at": stored.finished_at,
                "ref": ref or stored.ref,
                "created": created,
                "warnings": warnings,
                "computed": counts.computed,
                "evaluated": counts.evaluated,
                "reused": counts.reused,
            }
        )

    def _become_version(self, done: Sweep) -> tuple[str, bool, tuple[str, ...]]:
        """The chosen point as a version of the name, with what it scored."""
        point = self._results[done.chosen or 0]
        made = self._plans[point.position]

        def once() -> Composed:
            realisation, content, cached = self._realised(made)
            draft = Draft(
                name=self._asked.name,
                content=content,
                base_model=made.base_model,
                actor=self._actor,
                recipe=made.recipe,
                expression=made.expression,
                resolved=made.resolved,
                parents=made.edges(),
                followed=made.followed,
                task=made.task,
            )
            return write_version(self._database, self._blobs, draft, realisation, made, cached=cached)

        version = _content.again_if_swept(once)
        dataset, split = self._asked.dataset, self._asked.split
        scores = {
            each.metric: each.value
            for each in version.evaluations
            if (each.dataset, each.split) == (dataset, split)
        }

        def write(session: Session) -> None:
            pin = references.resolve(session, reference.parse(version.ref))
            for metric, value in (point.metrics or {}).items():
                if scores.get(metric) != value:
                    add_evaluation(
                        session, pin, metric, value, dataset=dataset, split=split, actor=self._actor
                    )
            # With the event, so that one that was killed before it is told of by the next.
            if sweeps.chose(session, self._id, pin.id):
                record_event(
                    session,
                    self._actor,
                    "sweep",
                    pin.ref,
                    sweep=self._id,
                    expression=done.expression,
                    values=point.values,
                    points=len(done.points),
                )

        self._database.transact(write)
        return version.ref, version.created, version.warnings


def _check(asked: Asked) -> None:
    """Refuse what makes no sense, before anything is looked up."""
    reference.check_name(asked.name)
    check_device(asked.device)
    _check_where(asked.dataset, asked.split)
    if not asked.over:
        raise UsageError("no variable is given", hint="say which values: --over w=0:1:0.1")
    if asked.search not in {"grid", "bayes"}:
        raise UsageError(f"unknown search {asked.search!r}", hint="one of: grid, bayes")
    if (asked.search == "bayes") != (asked.budget is not None):
        raise UsageError("a budget is what --search bayes needs, and a grid does not", hint="--budget 30")
    if asked.budget is not None and not 1 <= asked.budget <= _points.MOST:
        raise UsageError(f"a budget of {asked.budget} points is none", hint=f"from 1 to {_points.MOST}")
    if not 1 <= asked.jobs <= _MOST_JOBS:
        raise UsageError(f"{asked.jobs} jobs are none", hint=f"from 1 to {_MOST_JOBS}")
    if asked.seed.bit_length() > 63:
        raise UsageError(f"the seed {asked.seed} is too large", hint="a seed is a signed 64-bit number")


def _check_where(dataset: str, split: str | None) -> None:
    check_text("dataset", dataset)
    if split is not None:
        check_text("split", split)


def _wanted(asked: Asked) -> frozenset[str]:
    """The metrics without which a point says nothing."""
    objectives = _points.objectives(asked.metric, minimize=asked.minimize)
    constraints = _points.constraints(asked.constrain)
    return frozenset({each.metric for each in objectives} | {each.metric for each in constraints})


def _evaluator(asked: Asked) -> Evaluator:
    return _measuring(
        asked.run,
        asked.evaluate,
        places=("path",),
        variables=asked.over,
        timeout=asked.timeout,
        retries=asked.retries,
    )


def _measuring(
    run: str | None,
    evaluate: Function | None,
    *,
    places: tuple[str, ...],
    variables: Collection[str],
    timeout: float | None,
    retries: int,
) -> Evaluator:
    if run is not None and evaluate is None:
        return Command(run, places=places, variables=variables, timeout=timeout, retries=retries)
    if evaluate is None or run is not None:
        raise UsageError(
            "what measures is a command or a function", hint="give one: --run 'python eval.py {path}'"
        )
    if timeout is not None:
        raise UsageError(
            "a function has no time limit", hint="measure by a command: run='python eval.py {path}'"
        )
    return Called(evaluate, retries=retries)


def _evaluator_text(asked: Asked) -> str:
    if asked.run is not None:
        return redact(asked.run if asked.evaluator is None else f"{asked.run}  ({asked.evaluator})")
    return (
        redact(asked.evaluator)
        if asked.evaluator
        else str(getattr(asked.evaluate, "__qualname__", "a function"))
    )


def _evaluator_digest(asked: Asked) -> str:
    """Who measures: the command and its version, or the name that was given to a function; else nobody else."""
    if asked.evaluator is not None:
        check_text("evaluator", asked.evaluator)
    alone_ = uuid.uuid4().hex if asked.run is None and asked.evaluator is None else None
    return of_bytes(canonical_json({"run": asked.run, "evaluator": asked.evaluator, "once": alone_}))
