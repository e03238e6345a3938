"""What views are built from: panels of facts, tables, lines. rich is imported when something is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ._text import plural, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from registry.results import ModuleReport

_SHORT = len("sha256:") + 12
_ROOM_FOR_DIGESTS = 95
_BOUNDLESS = 1_000_000


class Cell(NamedTuple):
    """A value in a table, with a style for somebody who looks."""

    value: Any
    style: str


class Screen(Protocol):
    """What a view has to know of where it is shown; a rich ``Console`` is one."""

    @property
    def is_terminal(self) -> bool: ...

    @property
    def width(self) -> int: ...


class Pipe:
    """Where nobody looks: nothing is cut or wrapped, and rich is not needed."""

    is_terminal = False
    width = _BOUNDLESS


def text(value: Any, style: str = "") -> Text:
    """A value made safe, with a style; the only way for data into a view."""
    from rich.text import Text

    return value if isinstance(value, Text) else Text(shown(value), style)


def line(*parts: str | tuple[Any, str]) -> Text:
    """A sentence of words and ``(value, style)`` pairs."""
    from rich.text import Text

    return Text("").join(text(*part) if isinstance(part, tuple) else text(part) for part in parts)


def short(digest: str, console: Screen) -> str:
    """A digest shortened for somebody who looks, and whole for a pipe."""
    return digest[:_SHORT] if console.is_terminal else digest


def fitting(digest: str | None, console: Screen) -> str | None:
    """A digest as a fact: shortened only on a terminal without room for it."""
    narrow = console.is_terminal and console.width < _ROOM_FOR_DIGESTS
    return short(digest, console) if digest and narrow else digest


def moment(time: datetime | None, console: Screen) -> str:
    """A time in a table: to the minute for somebody who looks."""
    whole = shown(time)
    return whole[: len("2026-08-01 12:30")] if console.is_terminal else whole


def panel(title: Text, facts: Iterable[tuple[str, Any]]) -> Panel:
    """Names and values in a frame; what is None or empty is left out."""
    from rich.panel import Panel
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value is not None and value not in ("", (), {}):
            grid.add_row(name, text(value))
    return Panel.fit(grid, title=title, title_align="left", border_style="cyan")


def table(
    console: Screen,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    title: str = "",
    spare: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> Table | str:
    """A table as wide as its content. Numbers stand right; columns without content are left out.

    On a terminal that is too narrow the ``spare`` columns go, first to last, before anything is shortened. Columns of
    ``prose``, such as reasons, go on in the next line instead.
    In a pipe it is plain lines, which are also much quicker to make.
    """
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] not in (None, "", (), {}) for row in rows)]
    if not console.is_terminal:
        return _plain(columns, rows, kept, title)
    from rich.console import Console
    from rich.measure import Measurement

    built = _framed(columns, rows, kept, title, prose)
    if not isinstance(console, Console):
        return built
    boundless = console.options.update(width=_BOUNDLESS)
    for name in spare:
        if Measurement.get(console, boundless, built).maximum <= console.width:
            break
        kept = [i for i in kept if columns[i] != name]
        built = _framed(columns, rows, kept, title, prose)
    return built


def _value(cell: Any) -> Any:
    return cell.value if isinstance(cell, Cell) else cell


def _numeric(rows: Sequence[Sequence[Any]], column: int) -> bool:
    return all(isinstance(row[column], int | float | None) for row in rows)


def _plain(columns: Sequence[str], rows: Sequence[Sequence[Any]], kept: Sequence[int], title: str) -> str:
    """Columns of text, two spaces apart."""
    from rich.cells import cell_len

    right = {i for i in kept if _numeric(rows, i)}
    lines = [[shown(_value(row[i])) for i in kept] for row in [columns, *rows]]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(kept))]

    def padded(line: Sequence[str]) -> str:
        cells = []
        for i, cell, width in zip(kept, line, widths, strict=True):
            room = " " * (width - cell_len(cell))
            cells.append(room + cell if i in right else cell + room)
        return "  ".join(cells).rstrip()

    heading = ["", shown(title)] if title else []
    return "\n".join([*heading, *map(padded, lines)])


def _framed(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    kept: Sequence[int],
    title: str,
    prose: Sequence[str],
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text("\n").append_text(text(title, "bold")) if title else None
    built = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=heading, title_justify="left")
    for i in kept:
        justify: Literal["left", "right"] = "right" if _numeric(rows, i) else "left"
        built.add_column(_cell(columns[i]), justify=justify, no_wrap=i == 0)
    for row in rows:
        built.add_row(*[_cell(row[i], wrapped=columns[i] in prose) for i in kept])
    return built


def _cell(value: Any, *, wrapped: bool = False) -> Text:
    """One line, shortened where the screen ends, unless it is ``wrapped``; the first column is the last to give way."""
    cell = text(*value) if isinstance(value, Cell) else text(value)
    cell.no_wrap, cell.overflow = not wrapped, "fold" if wrapped else "ellipsis"
    return cell


def module_summary(console: Screen, report: Sequence[ModuleReport]) -> Iterable[Table | str]:
    """The smallest, middle and largest of each figure over all modules."""
    from statistics import median

    names = dict.fromkeys(name for module in report for name in module.values)
    rows = []
    for name in names:
        values = [module.values[name] for module in report if name in module.values]
        rows.append([name, min(values), float(median(values)), max(values), len(values)])
    if rows:
        title = f"over {plural(len(report), 'module')}"
        yield table(console, ["figure", "min", "median", "max", "modules"], rows, title=title)
