"""Small texts for people: what comes from data made safe for a terminal, sizes, times, digests."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

# Controls (C0, DEL, C1), soft hyphen, zero-width and bidi marks, line and paragraph separators, fillers,
# lone surrogates, non-characters used as marks, and the invisible tag characters.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]"
)
_NOT_ASCII = re.compile(r"[^\n -~]")


def clean(value: Any) -> str:
    """Any value as text in which escapes, bidi marks and line breaks are spelled out."""
    return UNSAFE.sub(lambda match: _spelled(match.group()), str(value))


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def escape_json(text: str, *, only_ascii: bool = False) -> str:
    """JSON text with the same characters as JSON escapes: equal when parsed, harmless when looked at."""
    pattern = _NOT_ASCII if only_ascii else UNSAFE
    return pattern.sub(
        lambda match: match.group() if match.group() == "\n" else _as_json(match.group()), text
    )


def _as_json(character: str) -> str:
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i : i + 2].hex()}" for i in range(0, len(data), 2))


def tint(label: str, color: str) -> str:
    """A label for stderr, coloured on a terminal unless ``NO_COLOR`` is set."""
    plain = os.environ.get("NO_COLOR") or sys.stderr is None or not sys.stderr.isatty()
    return label if plain else click.style(label, fg=color, bold=True)


def size(count: int) -> str:
    """Bytes as people write them: ``1.2 MB``."""
    amount, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 999.95 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{count} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def shown(value: Any) -> str:
    """A value as people read it, made safe: thousands apart, times in UTC, tags as ``k=v``, None as nothing."""
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:.6g}"
        case datetime():
            text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case dict():
            text = ", ".join(f"{key}={item}" for key, item in value.items())
        case tuple() | list():
            text = ", ".join(str(item) for item in value)
        case _:
            text = str(value)
    return clean(text)


def few(names: Sequence[str], most: int = 10) -> str:
    """The first of many names in a sentence, and how many there are besides."""
    rest = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*names[:most], *rest])


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
