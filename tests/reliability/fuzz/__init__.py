"""Mutated input for everything that reads what others wrote: it is taken, or refused in one line; nothing else.

A case must end within a time, in bounded memory, write nothing outside its own folder, run nothing and unpickle nothing.
The same seed gives the same cases, so that a finding can be had again by its number.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from registry.errors import RegistryError
from tests.reliability.fuzz.mutation import mutated
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.targets import TARGETS
from tests.reliability.fuzz.walls import Hung, alarmed, bounded, watched

LONGEST_MESSAGE = 3000
_EXIT_CODES = range(1, 8)


@dataclass(frozen=True)
class Finding:
    """A case that neither was taken nor refused."""

    target: str
    number: int
    error: str
    case: bytes


def fuzz(name: str, cases: int, *, seed: int = 0, first: int = 0) -> Iterator[Finding]:
    """Try so many cases of a target; ``first`` is the number of the first."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root, ExitStack() as stack:
        folder = Path(root)
        target = stack.enter_context(TARGETS[name](folder))
        for each in target.seeds:
            target.run(each)  # what is changed is sound, and everything is imported
        stack.enter_context(bounded(folder))
        for number in range(first, first + cases):
            chance = random.Random(f"{name}.{seed}.{number}")  # noqa: S311
            case = mutated(target.seeds, chance, structured=target.structured)
            error = tried(target, case, folder)
            if error is not None:
                yield Finding(name, number, error, case)


def tried(target: Target, case: bytes, folder: Path) -> str | None:
    """What is wrong with how a case was met, or None."""
    with watched(folder) as seen:
        try:
            with alarmed():
                target.run(case)
        except RegistryError as error:
            return _told_badly(error) or (seen[0] if seen else None)
        except Hung:
            return f"it hung: {traceback.format_exc()[-2000:]}"
        except (Exception, MemoryError):  # noqa: BLE001 (each is a finding)
            return traceback.format_exc()[-3000:]
    return seen[0] if seen else None


def _told_badly(error: RegistryError) -> str | None:
    for text in (error.message, error.hint or "-"):
        if not text.isprintable() or not text:
            return f"its message is not one line of text: {text!r:.300}"
        if len(text) > LONGEST_MESSAGE:
            return f"its message has {len(text)} characters: {text[:200]!r}"
    if error.exit_code not in _EXIT_CODES:
        return f"{type(error).__name__} has exit code {error.exit_code}"
    return None


def full(seed: int, cases: int, *, only: Collection[str] = ()) -> Counter[str]:
    """Try so many cases of all targets together, shared out by how long one takes; ``findings`` counts what was found.

    What each target was given and met is printed as it goes.
    """
    counts: Counter[str] = Counter()
    with_share = {name: make.share for name, make in TARGETS.items() if not only or name in only}
    whole = sum(with_share.values())
    for name, share in with_share.items():
        began, number = time.monotonic(), max(1, round(cases * share / whole))
        for finding in fuzz(name, number, seed=seed):
            counts["findings"] += 1
            _say(f"{name} {seed}.{finding.number}: {finding.error}\n{finding.case[:500]!r}")
        counts[name] = number
        _say(f"{name}: {number} cases in {time.monotonic() - began:.0f} s")
    return counts


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
