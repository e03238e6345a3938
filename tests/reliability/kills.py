"""Stop, starve or cut off every scenario at any of its steps, and see what holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.invariants import broken, leftovers
from tests.reliability.nursery import Ended, Nursery
from tests.reliability.places import Copies
from tests.reliability.steps import Fault


@dataclass(frozen=True)
class Tried:
    """One fault, what the process said, and what does not hold after it."""

    scenario: str
    fault: Fault
    at: int
    ended: Ended
    findings: tuple[str, ...]


def trial(nursery: Nursery, scenario: str, folder: Path, url: str, *, at: int | None, fault: Fault) -> Tried:
    """One fault in one fresh catalog: what holds after it, and whether the same can simply be done again."""
    ended = nursery.run(scenario, folder, url, at=at, fault=fault)
    findings = [] if ended.expected else [f"not an error of ours: {ended.error}"]
    findings += broken(folder, url)
    again = nursery.run(scenario, folder, url)
    if again.signal or again.error is not None:
        findings.append(f"it cannot be done again: {again.error or again.signal}")
    findings += [f"afterwards, {finding}" for finding in [*broken(folder, url), *leftovers(folder, url)]]
    return Tried(scenario, fault, at or 0, ended, tuple(findings))


def points(steps: int, most: int | None) -> Iterable[int]:
    """Which steps are tried: all, or ``most`` of them evenly, with the first and the last."""
    if most is None or steps <= most:
        return range(1, steps + 1)
    return sorted({1 + round(place * (steps - 1) / (most - 1)) for place in range(most)})


def trials(
    nursery: Nursery, scenario: str, catalogs: Copies, *, fault: Fault, most: int | None
) -> Iterator[Tried]:
    """A scenario, undisturbed first, and then with a fault at its steps."""
    with catalogs.fresh() as (folder, url):
        whole = trial(nursery, scenario, folder, url, at=None, fault=fault)
    yield whole
    for at in points(whole.ended.steps, most):
        with catalogs.fresh() as (folder, url):
            yield trial(nursery, scenario, folder, url, at=at, fault=fault)
