"""Stop, starve or cut off every scenario at any of its steps, and see what holds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry import Registry
from tests.reliability.invariants import broken, half_upgraded, leftovers
from tests.reliability.nursery import Ended, Nursery
from tests.reliability.places import Copies
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.state import State, differences, state
from tests.reliability.steps import Fault, meets


@dataclass(frozen=True)
class Tried:
    """One fault (or none, at 0), what the process said, and what does not hold after it."""

    scenario: str
    fault: Fault
    at: int
    ended: Ended
    findings: tuple[str, ...]


class Trials:
    """A scenario, undisturbed first, and then with faults at its steps."""

    def __init__(self, nursery: Nursery, catalogs: Copies, scenario: str) -> None:
        self._nursery = nursery
        self._catalogs = catalogs
        self._name = scenario
        self._scenario = SCENARIOS[scenario]
        self._end: State = {}
        self.whole = self._undisturbed()

    def of(self, fault: Fault, most: int | None = None, seed: int = 0) -> Iterator[Tried]:
        """One fault in one fresh catalog after another: at all steps, or at ``most`` that are chosen by chance."""
        steps = self.whole.ended.steps
        able = [at for at, step in enumerate(steps, 1) if meets(fault, step, sqlite=self._catalogs.sqlite)]
        if most is not None and len(able) > most:
            chance = random.Random(f"{seed} {self._name} {fault}")  # noqa: S311 (any steps will do)
            able = sorted(chance.sample(able, most))
        for at in able:
            with self._catalogs.fresh(self._scenario.start) as (folder, url):
                yield self._trial(folder, url, at, fault)

    def _undisturbed(self) -> Tried:
        with self._catalogs.fresh(self._scenario.start) as (folder, url):
            ended = self._nursery.run(self._name, folder, url)
            findings = [] if ended.error is None else [f"it fails undisturbed: {ended.error}"]
            findings += _outside(ended)
            self._end = state(folder, url, self._catalogs.hub)
            findings += self._after(folder, url)
        return Tried(self._name, "kill", 0, ended, tuple(findings))

    def _trial(self, folder: Path, url: str, at: int, fault: Fault) -> Tried:
        """What holds after a fault, and whether the same can simply be done again."""
        ended = self._nursery.run(self._name, folder, url, at=at, fault=fault)
        if fault == "server stopped":
            self._catalogs.revive()
        findings = [] if ended.expected else [f"not an error of ours: {ended.error}"]
        findings += _outside(ended)
        if ended.error is not None and "\n" in ended.error.strip():
            findings.append(f"more than a line: {ended.error}")
        if self._scenario.start == "damaged":
            pass  # until it is repaired
        elif Registry.schema(folder / "home", database_url=url).ok:
            findings += broken(folder, url, self._catalogs.hub)
        else:
            findings += half_upgraded(folder, url)
        return Tried(self._name, fault, at, ended, (*findings, *self._after(folder, url)))

    def _after(self, folder: Path, url: str) -> Sequence[str]:
        """What does not hold once it is done again, which has to end as it does undisturbed."""
        again = self._nursery.run(self._name, folder, url)
        if again.signal or again.error is not None:
            return [f"it cannot be done again: {again.error or again.signal}"]
        found = broken(folder, url, self._catalogs.hub)
        if self._scenario.again:
            found += differences(self._end, state(folder, url, self._catalogs.hub))
        return [f"afterwards, {finding}" for finding in [*found, *leftovers(folder, url)]]


def _outside(ended: Ended) -> list[str]:
    """A command writes in the home, in what it was told to write, and in the folder for temporary files."""
    return [f"outside of its folders: {each}" for each in ended.outside]
