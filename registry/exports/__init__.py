"""Formats that other programs load adapters in: one file each, found by name.

A format writes an adapter into an empty folder and then reads it back: what another program would make of the files
must be the deltas that are stored. Listing formats imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from registry.errors import UsageError
from registry.peft_format import StoredAdapter
from registry.plugins import Family
from registry.results import BaseModelIdentity


@dataclass(frozen=True)
class Job:
    """What is to be written: an adapter, for a base model, and what the user asked for beside that.

    ``base_configs`` gives the base model's ``config.json``, as each place that may have it knows it: nearest place
    first, some of them with a few entries only.
    """

    adapter: StoredAdapter
    base_model: BaseModelIdentity
    base_configs: Callable[[], Iterator[Mapping[str, Any]]]
    rank: int | None = None


@dataclass(frozen=True)
class Exported:
    """What became of it. ``energy`` is the smallest share of ``‖ΔW‖²`` that a module kept; 1 where all is exact.

    ``notes`` are sentences for whoever loads it.
    """

    rank: int | None = None
    energy: float = 1.0
    notes: tuple[str, ...] = ()


class Format:
    """Base of the formats. The first line of a docstring says which program loads it."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """The options it understands: ``rank``, ``base_path``."""

    def write(self, job: Job, folder: Path) -> Exported:
        """Write the adapter into an empty folder and check it by reading it back.

        Raises ``Refused``, naming the part and what to do instead, for what the format cannot hold, and
        ``IntegrityFailure`` where what is read back is not what was stored.
        """
        raise NotImplementedError


family: Family[Format] = Family(Format, "format")


def names() -> list[str]:
    """The formats, as they are called by users."""
    return [name.replace("_", "-") for name in family.names()]


def load(name: str, options: Mapping[str, object]) -> Format:
    """The format ``name``. Raises ``UsageError`` for an unknown one, and for an option that it does not take."""
    if name not in names():
        raise UsageError(f"unknown format {name[:64]!r}", hint=f"known are: {', '.join(names())}")
    found = family.load(name.replace("-", "_"))()
    for option, value in options.items():
        if value is not None and option not in found.takes:
            raise UsageError(f"the format {name} takes no {option.replace('_', ' ')}", hint="leave it out")
    return found
