"""What a target is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.fuzz.mutation import Structure


@dataclass(frozen=True)
class Target:
    """Something that reads: seeds that it takes, and how it is given one."""

    seeds: tuple[bytes, ...]
    run: Callable[[bytes], object]
    structured: Structure = "no"


@dataclass(frozen=True)
class Maker:
    """Makes a target in a folder of its own; ``share`` of all cases are its."""

    make: Callable[[Path], AbstractContextManager[Target]]
    share: float

    def __call__(self, folder: Path) -> AbstractContextManager[Target]:
        return self.make(folder)
