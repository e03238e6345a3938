"""The largest of many numbers that are only seen in passing, a block at a time.

A sample tells between which two bounds the last number to keep must lie; one pass counts what is above them and
collects the few that are between, of which the right one is taken. Should the sample have misled, the pass is repeated
with one of the bounds let go. So the answer is exact, without sorting and without all numbers at once. The numbers are
compared by NumPy on the CPU, whatever device they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import torch
from torch import Tensor

Numbers = Callable[[], Iterator[tuple[int, Tensor]]]
"""Numbers, none below 0, in blocks with the position of the first element of each: the same at every call."""

_SIGMAS = 5.0  # of the sample's quantile; it misleads once in a million


@dataclass(frozen=True)
class Cut:
    """Which numbers are the largest: those above ``value``, and of those equal to it the ones before ``end``."""

    value: float
    end: int

    def trim(self, values: Tensor, start: int) -> Tensor:
        """A block without the elements whose magnitude is not among the largest."""
        if start < self.end < start + values.numel():
            flat, place = values.flatten(), self.end - start
            parts = self.trim(flat[:place], start), self.trim(flat[place:], self.end)
            return torch.cat(parts).reshape(values.shape)
        dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
        limit = torch.tensor(self.value, dtype=dtype)
        if start < self.end:  # equal ones stay
            limit = torch.nextafter(limit, torch.tensor(-inf, dtype=dtype))
        return torch.nn.functional.hardshrink(values, float(limit))


def largest(numbers: Numbers, size: int, count: int) -> Cut:
    """What tells the ``count`` largest of ``size`` numbers; of equal ones, those that come first."""
    if count <= 0:
        return Cut(inf, 0)
    if count >= size:
        return Cut(0.0, size)
    low, high = _bounds(numbers, size, count)
    above, between = _between(numbers, low, high)
    while not above < count <= above + len(between):
        if count <= above and high == inf:
            return Cut(inf, 0)  # so many are NaN, which nothing trims
        low, high = (0.0, low) if above < count else (high, inf)
        above, between = _between(numbers, low, high)
    place = len(between) - (count - above)
    between.partition(place)
    value = between[place]
    first = count - above - int(np.count_nonzero(between > value))  # how many of the equal ones stay
    if first == np.count_nonzero(between == value):
        return Cut(float(value), size)
    return Cut(float(value), _after(numbers, float(value), first))


def _bounds(numbers: Numbers, size: int, count: int) -> tuple[float, float]:
    """Two numbers between which the ``count``-th largest lies, but for bad luck."""
    step = int(size ** (1 / 3) / 3) | 1  # sampling costs what it saves; odd, so that it meets all columns
    sample = np.concatenate([_flat(block)[-start % step :: step].copy() for start, block in numbers()])
    share, last = 1 - count / size, len(sample) - 1
    spread = _SIGMAS * sqrt(share * (1 - share) * len(sample)) + 1
    low, high = (int(share * len(sample) + side) for side in (-spread, spread))
    sample.partition([max(low, 0), min(high, last)])
    return (sample[low] if low >= 0 else 0.0), (sample[high] if high <= last else inf)


def _between(numbers: Numbers, low: float, high: float) -> tuple[int, np.ndarray]:
    """How many numbers are above ``high``, and those from ``low`` to it."""
    found, some = 0, []
    for _, block in numbers():
        flat = _flat(block)
        reaches = ~(flat < low)  # NaN is above all
        some.append(flat[reaches & (flat <= high)])
        found += int(np.count_nonzero(reaches))
    between = np.concatenate(some)
    return found - len(between), between


def _after(numbers: Numbers, value: float, count: int) -> int:
    """The position after the ``count``-th number equal to ``value``."""
    for start, block in numbers():
        places = np.flatnonzero(_flat(block) == value)
        if count <= len(places):
            return start + int(places[count - 1]) + 1
        count -= len(places)
    raise AssertionError("fewer are equal than were counted")


def _flat(block: Tensor) -> np.ndarray:
    return block.flatten().cpu().numpy()
