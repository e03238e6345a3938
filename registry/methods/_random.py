"""Random numbers that depend on what they are for, not on when or where they are drawn.

A stream is keyed by the recipe's seed, the module's name, the level of the call (see ``methods.Site``), the
position of the input, and which of its tensors is meant. The key is the first half of a sha256 over the canonical
JSON of these; the generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). Only its raw 64-bit words are used, which NumPy keeps the same in all its releases. Everything is drawn on
the CPU and then moved, so the order of modules, batches, threads and the device do not show.

A number has 53 bits. The leading 16 are a quarter of a word of the sequence that counts from 0, lowest bits first; the
other 37 are the top of a word of the sequence that counts from 2¹²⁸. To tell whether a number is below a limit the
latter is needed for one in 65 536 only, so that drawing costs a quarter of a word.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.random import SeedSequence
from torch import Tensor

from registry import digest

_UNIT = 2.0**-53
_REST = 37  # bits of a number that are in the second sequence
_MOST = np.uint64(2**16 - 1)
_TOGETHER = 4  # words per count of the generator, and leading bits per word
_Words = np.ndarray[tuple[int], np.dtype[np.uint64]]


@dataclass(frozen=True)
class Stream:
    """The key of a stream of random numbers."""

    seed: int
    module: str
    level: int = 0
    position: int = 0
    part: str = ""


def uniform(stream: Stream, count: int, start: int = 0) -> Tensor:
    """``count`` numbers, uniform in [0, 1) in steps of 2⁻⁵³, float64 on the CPU; ``(count,)``.

    They are those from position ``start`` of the stream on.
    """
    numbers = _leads(stream, start, count).astype(np.uint64) << np.uint64(_REST)
    return torch.from_numpy((numbers | _rests(stream, start, count)).astype(np.float64) * _UNIT)


def kept(stream: Stream, values: Tensor, probability: float | Tensor, start: int = 0) -> Tensor:
    """Which elements of ``values`` survive: each one alone with its ``probability``, as a mask of its shape.

    An element survives where its number of the stream, in row-major order from position ``start`` on, is less than its
    probability. ``probability`` is one number or a tensor of the shape of ``values``.
    """
    limits = _limits(probability)
    heads = np.minimum(limits >> np.uint64(_REST), _MOST).astype(np.uint16)
    leads = _leads(stream, start, values.numel())
    mask = leads < heads
    for tie in (leads == heads).nonzero()[0].tolist():
        at = tie if limits.ndim else ()
        # 2³⁷, which every rest is below, where the probability is 1
        tail = limits[at] - (np.uint64(heads[at]) << np.uint64(_REST))
        mask[tie] = tail and _rests(stream, start + tie, 1)[0] < tail
    return torch.from_numpy(mask).reshape(values.shape).to(values.device)


def dropped(
    values: Tensor, start: int, stream: Stream, probability: float | Tensor, *, divided: bool
) -> Tensor:
    """A block with elements dropped at random, kept with ``probability``, and ``divided`` by it or not."""
    mask = kept(stream, values, probability, start)
    found = mask.view(torch.uint8).to(values.dtype).mul_(values)  # much faster than from bool
    if not divided:
        return found
    return found.div_(probability if isinstance(probability, float) else probability.to(found))


def words(stream: Stream, count: int) -> _Words:
    """The first words of the stream as they are."""
    return _drawn(stream, 0, 0, count)


def _limits(probability: float | Tensor) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """What numbers of 53 bits are below with this probability."""
    if isinstance(probability, float):
        return np.array(math.ceil(probability / _UNIT), dtype=np.uint64)
    return np.ceil(probability.flatten().cpu().double().numpy() / _UNIT).astype(np.uint64)


def _leads(stream: Stream, start: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """The leading bits of the numbers from a position on."""
    skipped = start % _TOGETHER
    found = _drawn(stream, 0, start // _TOGETHER, -(-(skipped + count) // _TOGETHER))
    return found.astype("<u8", copy=False).view("<u2")[skipped : skipped + count]


def _rests(stream: Stream, start: int, count: int) -> _Words:
    """The other bits of the numbers from a position on."""
    return _drawn(stream, 1, start, count) >> np.uint64(64 - _REST)


def _drawn(stream: Stream, sequence: int, start: int, count: int) -> _Words:
    """Words of the first or second sequence, from one of its words on; where drawing begins changes none of them."""
    skipped = start % _TOGETHER
    counter = np.array([start // _TOGETHER, 0, sequence, 0], dtype=np.uint64)  # the lowest word first
    generator = np.random.Philox(_key(stream), counter=counter)
    return np.asarray(generator.random_raw(skipped + count), dtype=np.uint64)[skipped:]


class _Key(SeedSequence):
    """A key as it is. NumPy also takes one as an argument, but then asks the system for random numbers each time."""

    def __init__(self, key: bytes) -> None:
        super().__init__(0)
        self._key = np.frombuffer(key, dtype="<u8").astype(np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray[Any, Any]:  # noqa: ARG002
        return self._key


@lru_cache
def _key(stream: Stream) -> _Key:
    """128 bits."""
    what = [stream.seed, stream.module, stream.level, stream.position, stream.part]
    return _Key(hashlib.sha256(digest.canonical_json(what)).digest()[:16])
