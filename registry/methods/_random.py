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

_SHIFT, _UNIT = 11, 2.0**-53
_TOGETHER = 4  # words of the generator per count


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
    return torch.from_numpy(_drawn(stream, count, start).astype(np.float64) * _UNIT)


def kept(stream: Stream, values: Tensor, probability: float | Tensor, start: int = 0) -> Tensor:
    """Which elements of ``values`` survive: each one alone with its ``probability``, as a mask of its shape.

    An element survives where its number of the stream, in row-major order from position ``start`` on, is less than its
    probability. ``probability`` is one number or a tensor of the shape of ``values``.
    """
    numbers = probability if isinstance(probability, float) else probability.flatten().cpu().double().numpy()
    limits = np.ceil(np.asarray(numbers) / _UNIT).astype(np.uint64)
    mask = _drawn(stream, values.numel(), start) < limits
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


def _drawn(stream: Stream, count: int, start: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Whole numbers below 2⁵³, from a position of the stream on; where drawing begins changes none of them."""
    skipped = start % _TOGETHER
    generator = np.random.Philox(key=_key(stream), counter=start // _TOGETHER)
    words = np.asarray(generator.random_raw(skipped + count), dtype=np.uint64)[skipped:]
    words >>= np.uint64(_SHIFT)
    return words


@lru_cache
def _key(stream: Stream) -> int:
    """128 bits."""
    what = [stream.seed, stream.module, stream.level, stream.position, stream.part]
    return int.from_bytes(hashlib.sha256(digest.canonical_json(what)).digest()[:16], "little")
