"""Text of users inside Markdown, Mermaid and shell blocks, where it must stay text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:@])")
_BACKTICKS = re.compile(r"`+")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def one_line(text: str) -> str:
    """The text on one line, without control characters and marks that reorder what is shown."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link."""
    return _SPECIAL.sub(r"\\\1", one_line(text).translate(_HTML))


def code(text: str) -> str:
    """A code span, fenced by more backticks than the text has in a row."""
    shown = one_line(text)
    fence = "`" * (max(map(len, _BACKTICKS.findall(shown)), default=0) + 1)
    space = " " if "`" in shown or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"


def block(language: str, lines: Iterable[str]) -> str:
    """A fenced block; each item is one line, and none can close the fence."""
    body = [one_line_indented(line) for line in lines]
    longest = max((len(run) for line in body for run in _BACKTICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *body, fence])


def one_line_indented(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))] + one_line(line)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def mermaid(text: str) -> str:
    """Text for a quoted Mermaid label: everything that is not plainly text becomes a character code."""
    return (
        '"' + "".join(c if c.isalnum() or c in " @/._-+=," else f"#{ord(c)};" for c in one_line(text)) + '"'
    )


def shell(text: str) -> str:
    return shlex.quote(one_line(text))


def _cell(text: str) -> str:
    # A bar ends a cell even inside a code span, unless an odd number of backslashes stands before it.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", text)
