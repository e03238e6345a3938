"""What all plots share: one look, texts that only are texts, and bytes that depend on nothing but what is drawn."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from registry.errors import UsageError

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.textpath import TextToPath
except ModuleNotFoundError as error:
    raise UsageError(f"plots need {error.name}", hint="pip install 'adapter-registry[plot]'") from error

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from registry.plots import Form

INK, DIM, RULE = "#1a1a1a", "#5c5c5c", "#b8b8b8"
BLUE, ORANGE, RED = "#0072b2", "#b85c00", "#b3261e"
"""Told apart with any colour vision, and dark enough for text on white."""
MARGIN = 0.3  # inches
POINTS = 72.0  # of an inch

_LOOK: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # the first comes with matplotlib, the second is as wide
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is one
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.fonttype": "none",  # text stays text: to be searched, copied and read aloud
    "svg.hashsalt": "registry",
    "hatch.linewidth": 0.6,
    "hatch.color": DIM,
}
_METADATA = ("Date", "Creator", "Format", "Type")  # what would tell of the day and the program
_FINEST, _PIXELS, _LONGEST_SIDE = 150.0, 40e6, 30_000

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body {{ margin: 1em; background: white }} svg {{ max-width: 100%; height: auto }}</style>
</head>
<body>
{svg}
</body>
</html>
"""


@contextmanager
def look() -> Iterator[None]:
    """The settings of this file in place of the user's, who has them back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_LOOK)
        yield


class Sheet:
    """An empty figure that no window and no global state knows of; places on it are inches from the left and the top."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self._width, self._height = width, height

    def axes(self, x: float, y: float, w: float, h: float) -> Axes:
        return self.figure.add_axes(
            (x / self._width, 1 - (y + h) / self._height, w / self._width, h / self._height)
        )

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """One line, whose top is at ``y``."""
        self.figure.text(x / self._width, 1 - y / self._height, words, **{"va": "top", **style})

    def legend(self, x: float, y: float, entries: Sequence[tuple[Artist, str]]) -> None:
        """What marks mean, in one line."""
        self.figure.legend(
            [mark for mark, _ in entries], [said for _, said in entries], loc="upper left", ncols=len(entries),
            bbox_to_anchor=(x / self._width, 1 - y / self._height), frameon=False, fontsize=8, borderaxespad=0, borderpad=0,
            handletextpad=0.4, columnspacing=1.6,
        )  # fmt: skip

    def head(self, title: str, notes: Sequence[str] = ()) -> None:
        """What the picture shows, and what is to be known of it; :func:`head_size` says how much room that takes."""
        self.text(MARGIN, MARGIN, text(title, most=120), size=11, weight="bold")
        for at, note in enumerate(notes):
            self.text(MARGIN, MARGIN + 0.26 + 0.17 * at, text(note, most=160), size=8, color=DIM)


def head_size(title: str, notes: Sequence[str] = ()) -> tuple[float, float]:
    """Width and height of a title and notes, with the margins around them, in inches."""
    lines = [width(text(title, most=120), 11, bold=True), *(width(text(note, most=160), 8) for note in notes)]
    return 2 * MARGIN + max(lines), MARGIN + 0.4 + 0.17 * len(notes)


def encode(figure: Figure, title: str, form: Form) -> bytes:
    with look():
        if form == "png":
            return _png(figure)
        svg = _svg(figure, text(title, most=200))
        return svg if form == "svg" else _html(svg, text(title, most=200))


def _png(figure: Figure) -> bytes:
    width, height = figure.get_size_inches()
    dpi = min(_FINEST, math.sqrt(_PIXELS / (width * height)), _LONGEST_SIDE / max(width, height))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def _svg(figure: Figure, title: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Title": title, **dict.fromkeys(_METADATA)})
    return file.getvalue()


def _html(svg: bytes, title: str) -> bytes:
    drawn = svg.decode()
    return _PAGE.format(title=html.escape(title), svg=drawn[drawn.index("<svg") :].rstrip()).encode()


def text(value: object, *, most: int = 60) -> str:
    """Text that draws as itself on one line: what acts, reorders or has no glyph is spelled out; the middle is left out of what is long."""
    given = str(value)
    shown = "".join(
        each if _is_plain(each) else ascii(each)[1:-1]
        for each in given[: 4 * most] + given[4 * most :][-most:]
    )
    if len(shown) <= most:
        return shown
    head = most * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (most - head - 1) :]}"


def _is_plain(character: str) -> bool:
    return character.isprintable() and ord(character) in _glyphs()


@cache
def _glyphs() -> frozenset[int]:
    found = get_font(findfont(FontProperties(family="DejaVu Sans"), fallback_to_default=False))
    return frozenset(found.get_charmap())


def width(line: str, size: float, *, bold: bool = False) -> float:
    """How wide a line is drawn, in inches."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    wide, _, _ = TextToPath().get_text_width_height_descent(line, font, ismath=False)
    return float(wide) / POINTS


def number(value: float, digits: int) -> str:
    """A number as it is read: with a minus sign, which zero has not."""
    shown = f"{value:.{digits}f}"
    return shown.removeprefix("-") if not float(shown) else shown.replace("-", "−")
