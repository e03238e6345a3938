"""Random numbers that depend on what they are for, not on when or where they are drawn.

A stream is keyed by the recipe's seed, the module's name, the level of the call (see ``methods.Site``), the
position of the input, and which of its tensors is meant. The key is the first half of a sha256 over the canonical
JSON of these; the generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011) counting from 0. Only its raw 64-bit words are used, which NumPy keeps the same in all its releases.
Everything is drawn on the CPU and then moved, so the order of modules, batches, threads and the device do not show.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from registry import digest

_UNIT = 2.0**-53
_LEAD, _REST = 16, 37  # bits of a number in the first and in the second sequence
_MOST = (1 << _LEAD) - 1
_FAR = 1 << 128  # the second sequence's count; the first one never gets there
_TOGETHER = 4  # words of the generator per count, and leading bits per word
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


def words(stream: Stream, count: int) -> _Words:
    """The first words of the stream as they are."""
    return _drawn(stream, 0, 0, count)


def kept(stream: Stream, values: Tensor, probability: float | Tensor, start: int = 0) -> Tensor:
    """Which elements of ``values`` survive: each one alone with its ``probability``, as a mask of its shape.

    An element survives where its number of the stream (``uniform``), in row-major order from position ``start`` on, is
    less than its probability. ``probability`` is one number or a tensor of the shape of ``values``.
    """
    numbers = probability if isinstance(probability, float) else probability.flatten().cpu().double().numpy()
    limits = np.ceil(np.asarray(numbers) / _UNIT).astype(np.uint64)
    heads = np.minimum(limits >> np.uint64(_REST), np.uint64(_MOST))
    tails = limits - (heads << np.uint64(_REST))  # 2³⁷, which every rest is below, where the probability is 1
    leads, heads = _leads(stream, start, values.numel()), heads.astype(np.uint16)
    mask = leads < heads
    ties = np.flatnonzero((leads == heads) & (tails > 0))
    for tie, tail in zip(ties.tolist(), np.broadcast_to(tails, mask.shape)[ties], strict=True):
        mask[tie] = _rests(stream, start + tie, 1)[0] < tail
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


def _leads(stream: Stream, start: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """The leading bits of the numbers from a position on."""
    skipped = start % _TOGETHER
    found = _drawn(stream, 0, start // _TOGETHER, -(-(skipped + count) // _TOGETHER))
    return found.astype("<u8", copy=False).view("<u2")[skipped : skipped + count]


def _rests(stream: Stream, start: int, count: int) -> _Words:
    """The other bits of the numbers from a position on."""
    return _drawn(stream, _FAR, start, count) >> np.uint64(64 - _REST)


def _drawn(stream: Stream, counter: int, start: int, count: int) -> _Words:
    """Words of the sequence that begins at a count, from its word ``start`` on; where drawing begins changes none."""
    skipped = start % _TOGETHER
    generator = np.random.Philox(key=_key(stream), counter=counter + start // _TOGETHER)
    return np.asarray(generator.random_raw(skipped + count), dtype=np.uint64)[skipped:]


@lru_cache
def _key(stream: Stream) -> int:
    """128 bits."""
    what = [stream.seed, stream.module, stream.level, stream.position, stream.part]
    return int.from_bytes(hashlib.sha256(digest.canonical_json(what)).digest()[:16], "little")
