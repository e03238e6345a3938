r"""PEFT's ``rank_pattern`` and ``alpha_pattern``: hostile regular expressions over module names.

PEFT takes the first key, in the order of the dict, for which ``re.match(rf"(.*\.)?({key})$", module)`` succeeds.
The same rule holds here. Keys made of word characters, ``-`` and ``.`` (nearly all there are) are looked up, with
``.`` standing for any character as it does there. The rest must be what Python's ``re`` accepts, may not count far,
and is matched by the ``regex`` package, which can be stopped.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import regex

from registry.errors import Refused

SECONDS = 5.0
"""How long the patterns of one adapter may take altogether."""

LONGEST_KEY = 512
LONGEST_EXPRESSION = 256
FARTHEST_COUNT = 100
"""The largest product of counts: ``regex`` expands ``((a{100}){100}){100}`` when it compiles."""

_PLAIN = re.compile(r"\^?[\w.\-]+")
_COUNT = re.compile(r"\{(\d*)(?:,(\d*))?\}")


class Patterns:
    """A config's pattern entry. Raises ``Refused`` for keys that are too long, do not compile or take too long."""

    def __init__(self, field: str, values: Mapping[str, float]) -> None:
        self._field = field
        self._left = SECONDS
        self._plain: dict[tuple[bool, tuple[int, ...], int], dict[str, tuple[int, float]]] = {}
        self._expressions: list[tuple[int, str, Any, float]] = []
        for index, (key, value) in enumerate(values.items()):
            if len(key) > LONGEST_KEY:
                raise Refused(f"{field} has a key of {len(key)} characters, at most {LONGEST_KEY} are read")
            if _PLAIN.fullmatch(key):
                text = key.removeprefix("^")
                dots = tuple(dot.start() for dot in re.finditer(r"\.", text))
                group = self._plain.setdefault((key.startswith("^"), dots, len(text)), {})
                group.setdefault(text, (index, value))
            else:
                self._expressions.append((index, key, _compile(field, key), value))

    def value(self, module: str, default: float) -> float:
        """What the first key that matches ``module`` says, or ``default``."""
        if not self._plain and not self._expressions:
            return default
        started = time.monotonic()
        first, found = min(self._plain_matches(module), default=(math.inf, default))
        for index, key, expression, value in self._expressions:
            if index < first and self._matches(key, expression, module, started):
                found = value
                break
        self._left -= time.monotonic() - started
        if self._left < 0:
            raise Refused(f"{self._field} takes too long to match", hint="write module names out instead")
        return found

    def _plain_matches(self, module: str) -> Iterable[tuple[int, float]]:
        for (anchored, dots, length), group in self._plain.items():
            start = len(module) - length
            if start < 0 or (start > 0 and (anchored or module[start - 1] != ".")):
                continue
            tail = list(module[start:])
            for dot in dots:
                tail[dot] = "."
            if hit := group.get("".join(tail)):
                yield hit

    def _matches(self, key: str, expression: Any, module: str, started: float) -> bool:
        left = self._left - (time.monotonic() - started)
        try:
            return expression.match(module, timeout=max(left, 0.001)) is not None
        except TimeoutError:
            raise Refused(
                f"{self._field} key {key[:64]!r} takes too long to match",
                hint="write module names out instead",
            ) from None


def _compile(field: str, key: str) -> Any:
    reach = math.prod(max(1, int(low or 0), int(high or 0)) for low, high in _COUNT.findall(key))
    if len(key) > LONGEST_EXPRESSION or reach > FARTHEST_COUNT or "{" in _COUNT.sub("", key):
        raise Refused(f"{field} key {key[:64]!r} is too elaborate", hint="write module names out instead")
    whole = rf"(.*\.)?({key})$"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(whole)  # PEFT's dialect: what only regex understands is refused
            return regex.compile(whole)
    except (re.error, regex.error, ValueError, LookupError, OverflowError, RecursionError) as error:
        raise Refused(f"{field} key {key[:64]!r} is no regular expression: {error}") from None


def exact_keys(modules: Iterable[str]) -> dict[str, str]:
    """For each module name a key that matches that module alone.

    That is the name itself, unless it is a dotted suffix of another (or would match one by its dots): then it is
    escaped and anchored with ``^``.
    """
    names = list(modules)
    ends = Counter(suffix for name in names for suffix in _suffixes(_skeleton(name)))
    return {
        name: name if ends[_skeleton(name)] == 1 and _PLAIN.fullmatch(name) else f"^{re.escape(name)}"
        for name in names
    }


def _skeleton(name: str) -> str:
    return name.replace("_", ".").replace("-", ".")


def _suffixes(name: str) -> list[str]:
    return [name, *(name[dot.end() :] for dot in re.finditer(r"\.", name))]
