"""What a setting is, and what measuring it gives: the words that all parts of the paper's miniature share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from registry import Registry

Kind = Literal["lora", "ia3"]
Operator = Literal["exact", "factors"]
Split = Literal["validation", "test"]

KINDS: tuple[Kind, ...] = ("lora", "ia3")
TRAINED = Path(__file__).parent / "trained"
"""Where the modules are that the project keeps: ``<setting>/<kind>/<seed>/<module>``, each a PEFT folder."""


@dataclass(frozen=True)
class Row:
    """One measurement of one model.

    ``what`` is ``base``, a module's name, ``composition``, ``reference`` or the name of one of ``Setting.OTHERS``.
    ``operator`` is None for what is not composed; ``weight`` is λ as an exact decimal, None for what has none.
    """

    setting: str
    kind: Kind
    seed: int
    what: str
    operator: Operator | None
    weight: str | None
    split: Split
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Metric:
    """A figure that ``Setting.evaluate`` gives.

    ``within`` bounds the choice of λ: only those count whose mean over the seeds is at most (``higher`` False) or at
    least (``higher`` True) ``within`` times that of the first λ of the grid, where nothing is composed yet. ``slack`` is
    how far a figure that is computed again may be from the kept one: another processor, or bfloat16, rounds otherwise,
    and then a sentence or a few of 200 change sides.
    """

    name: str
    title: str
    higher: bool
    slack: float
    digits: int = 1
    within: float | None = None


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, tried here: whether it held (None: not tried), and the figures that say so."""

    number: str
    text: str
    held: bool | None
    figures: str


class Setting(Protocol):
    """One of the paper's settings: a module with these names.

    The first of ``METRICS`` chooses λ, on the validation split, by its mean over the seeds. Modules of one seed start
    from one initialization, and differ from those of another in initialization, order and draw of the data.
    """

    NUMBER: int
    NAME: str
    """Also the folder's name."""
    TITLE: str
    QUESTION: str
    """One sentence."""
    SETUP: str
    """A paragraph: base model, data, sizes, training."""
    REMARK: str
    """What is seen in the tables, and why that may be; may be left out."""
    MODULES: tuple[str, ...]
    REFERENCE: str | None
    """The module that is the upper reference; trained and kept as the others are."""
    COMPOSITION: str
    """An expression over the names of the modules; ``{w}`` stands for λ and ``{1-w}`` for 1 − λ."""
    OTHERS: Mapping[str, str]
    """Further expressions worth a row, by what the table calls them; nothing is chosen in them."""
    GRID: tuple[str, ...]
    """The values of λ, as decimals."""
    METRICS: tuple[Metric, ...]
    BASE: str
    """The base model's name in the catalog."""

    @staticmethod
    def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
        """Train what is not in the folder ``modules`` yet of one seed. ``work`` holds the fetched corpora."""

    @staticmethod
    def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
        """Add the modules under their names: with base, task, lineage (``parents``) and tags."""

    @staticmethod
    def evaluate(folder: Path | None, split: Split) -> Mapping[str, float]:
        """The metrics of the base model with the adapter of a PEFT folder on it; None is the base model alone."""

    @staticmethod
    def claims(rows: Sequence[Row]) -> Sequence[Claim]:
        """What the paper says of this setting, beside what the rows say."""


def folder(setting: str, kind: Kind, seed: int, module: str, modules: Path = TRAINED) -> Path:
    """Where a trained module is kept."""
    return modules / setting / kind / str(seed) / module
