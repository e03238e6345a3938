"""Values of a module in blocks of whole rows that stay in the processor's cache, computed anew whenever they are read.

So a method may go over its inputs more than once, to measure first and to merge then, and no input of a module is
ever held whole: ``sᵢ·Bᵢ[rows]·Aᵢ`` costs little. The same block is always the same call on the same numbers, hence
the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.deltas import Delta, Dense, Rescaling
from registry.methods._random import Stream

_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class Term:
    """One input of a formula: its values ``(m, n)``, its weight, and the random numbers it may draw.

    ``read`` gives some of the rows; what it gives is not to be changed.
    """

    shape: tuple[int, int]
    read: Callable[[slice], Tensor]
    weight: float
    stream: Stream

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.shape[0] * self.shape[1]

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Blocks in row-major order, each with the position of its first element."""
        return ((start, values) for start, (values,) in blocks([self]))


Step = Callable[[Tensor, int], Tensor]
"""What a method does to a block of one input, given the position of its first element."""

Merge = Callable[[Sequence[Tensor], int], Tensor]
"""A block of the result from that block of every input, given the position of its first element."""


def blocks(terms: Sequence[Term], wanted: slice | None = None) -> Iterator[tuple[int, list[Tensor]]]:
    """The blocks of several inputs side by side: all, or those that hold ``wanted`` rows."""
    m, n = terms[0].shape
    height = max(1, _ELEMENTS // n)
    first, last = (0, m) if wanted is None else (wanted.start, wanted.stop)
    for row in range(first - first % height, last, height):
        rows = slice(row, min(m, row + height))
        yield row * n, [term.read(rows) for term in terms]


def merged(terms: Sequence[Term], merge: Merge, rows: slice | None = None) -> Tensor:
    """The result ``(m, n)``, a block at a time, or some of its rows: the same bits, as blocks are always whole."""
    m, n = terms[0].shape
    first, last = (0, m) if rows is None else (rows.start, rows.stop)
    found = terms[0].read(slice(0, 1)).new_empty((last - first, n))
    for start, values in blocks(terms, slice(first, last)):
        block, row = merge(values, start), start // n
        low, high = max(row, first), min(row + len(block), last)
        found[low - first : high - first] = block[low - row : high - row]
    return found


def held(matrix: Tensor, weight: float, stream: Stream) -> Term:
    """A matrix that is there as it is."""
    return Term((matrix.shape[0], matrix.shape[1]), matrix.__getitem__, weight, stream)


def of_delta(delta: Delta, dtype: torch.dtype, weight: float, stream: Stream) -> Term:
    """ΔW ``(m, n)``, or ℓ − 1 as one row ``(1, d)``, in ``dtype``."""
    if isinstance(delta, Rescaling):
        return held(delta.offset[None].to(dtype), weight, stream)
    if isinstance(delta, Dense):
        return Term(delta.shape, lambda rows: delta.weight[rows].to(dtype), weight, stream)
    up, down, scale = delta.up.to(dtype), delta.down.to(dtype), delta.scale

    def read(rows: slice) -> Tensor:
        found = up[rows] @ down
        return found if scale == 1 else found.mul_(scale)

    return Term(delta.shape, read, weight, stream)
