"""Where a module stands in a model: the layer, and the projection, both told from its name alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_ANY = "*"
_LONGEST_NUMBER = 6


@dataclass(frozen=True)
class Grid:
    """``rows`` are projections (``q_proj``), ``columns`` layers in their order, first None for what is in no layer.

    ``cells`` has the modules in each; more than one where there were too many projections for a row each.
    """

    rows: tuple[str, ...]
    columns: tuple[int | None, ...]
    cells: Mapping[tuple[str, int | None], tuple[str, ...]]

    @property
    def merged(self) -> bool:
        return any(len(names) > 1 for names in self.cells.values())


def grid(modules: Iterable[str], *, most: int) -> Grid:
    """At most so many rows, and ``ValueError`` where even the last words of the names are more.

    The first number in a name is its layer. Rows are what else the name says; if they are too many, then without the
    other numbers (those of experts), and then the last word only.
    """
    names = sorted(set(modules))
    for row_of in (_without_layer, _without_numbers, _last_word):
        found: defaultdict[tuple[str, int | None], list[str]] = defaultdict(list)
        for name in names:
            found[row_of(name), _layer(name)].append(name)
        rows = sorted({row for row, _ in found})
        if len(rows) <= most:
            break
    else:
        raise ValueError(f"{len(rows)} projections")
    labels = _labels(rows)
    columns = sorted({layer for _, layer in found}, key=lambda layer: -1 if layer is None else layer)
    cells = {(labels[row], layer): tuple(each) for (row, layer), each in found.items()}
    return Grid(tuple(labels[row] for row in rows), tuple(columns), cells)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _LONGEST_NUMBER


def _layer(name: str) -> int | None:
    return next((int(word) for word in name.split(".") if _is_number(word)), None)


def _without_layer(name: str) -> str:
    words = name.split(".")
    at = next((i for i, word in enumerate(words) if _is_number(word)), None)
    return ".".join(_ANY if i == at else word for i, word in enumerate(words))


def _without_numbers(name: str) -> str:
    return ".".join(_ANY if _is_number(word) else word for word in name.split("."))


def _last_word(name: str) -> str:
    return name.rpartition(".")[2]


def _labels(rows: Sequence[str]) -> dict[str, str]:
    """The last word of each where that tells them apart, or the words that not all of them have, or all words."""
    words = {row: row.split(".") for row in rows}
    common = set.intersection(*map(set, words.values())) if len(rows) > 1 else set()
    ways: tuple[Callable[[Sequence[str]], str], ...] = (
        lambda given: given[-1],
        lambda given: ".".join([word for word in given[:-1] if word not in common] + [given[-1]]),
    )
    for way in ways:
        labels = {row: way(given) for row, given in words.items()}
        if len(set(labels.values())) == len(rows):
            return labels
    return {row: row for row in rows}
