"""Pictures of what the catalog knows: one file each, found by name.

A plot asks the catalog for results and draws them; it knows neither SQL nor files. Listing plots imports none of them,
so that matplotlib (the extra ``plot``) is paid for by who draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, get_args

from registry.errors import UsageError
from registry.plugins import Family
from registry.results import Conflicts, Lineage, Staleness, Sweep, Version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["png", "svg", "html"]


class Catalog(Protocol):
    """What a plot may ask; :class:`registry.Registry` answers."""

    def show(self, ref: str) -> Version: ...

    def lineage(self, ref: str, *, direction: Literal["up", "down"], depth: int | None) -> Lineage: ...

    def stale(self, refs: Iterable[str]) -> tuple[Staleness, ...]: ...

    def conflicts(self, expression: str, *, base_path: str | Path | None) -> Conflicts: ...

    def sweeps(self, name: str | None) -> tuple[Sweep, ...]: ...

    def sweep_result(self, number: int) -> Sweep: ...


@dataclass(frozen=True)
class Options:
    """What a user may say beside what is to be drawn; None where nothing was said."""

    direction: Literal["up", "down"] | None = None
    depth: int | None = None
    base_path: str | Path | None = None


@dataclass(frozen=True)
class Drawing:
    """A figure of ``subject``, what it shows in one line, and what is not to be seen in it: sentences for people."""

    figure: Figure
    subject: str
    title: str
    notes: tuple[str, ...] = ()


class Plot:
    """Base of the plots. The first line of a docstring says what is to be seen."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """The fields of :class:`Options` that it understands."""

    def draw(self, catalog: Catalog, subject: str, options: Options) -> Drawing:
        """Draw what is known of ``subject``, which is a reference unless the plot says otherwise.

        Raises ``Refused`` for what cannot be drawn, or not so that it can be read.
        """
        raise NotImplementedError


family: Family[Plot] = Family(Plot, "plot")


def load(name: str, options: Options) -> Plot:
    """The plot ``name``. Raises ``UsageError`` for an unknown one, for an option that it does not take, and without matplotlib."""
    if name not in family.names():
        raise UsageError(f"unknown plot {name[:64]!r}", hint=f"known are: {', '.join(family.names())}")
    found = family.load(name)()
    for option, value in vars(options).items():
        if value is not None and option not in found.takes:
            raise UsageError(f"the plot {name} takes no {option.replace('_', ' ')}", hint="leave it out")
    return found


def form_of(path: Path) -> Form:
    """The format that a file's name asks for. Raises ``UsageError`` for one that no plot is written in."""
    suffix = path.suffix.lower().removeprefix(".")
    for form in get_args(Form):
        if suffix == form:
            return form  # type: ignore[no-any-return]
    raise UsageError(
        f"{path.name[:200]!r} is no picture that can be written", hint="end it in .svg, .png or .html"
    )


def encode(drawing: Drawing, form: Form) -> bytes:
    """The bytes of a drawing: the same for the same drawing."""
    from registry.plots import _canvas

    return _canvas.encode(drawing.figure, drawing.title, form)
