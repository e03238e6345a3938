"""Random numbers that depend on what they are for, not on when or where they are drawn.

A stream is keyed by the recipe's seed, the module's name, the level of the call (see ``methods.Site``), the
position of the input, and which of its tensors is meant. The key is the first half of a sha256 over the canonical
JSON of these; the generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011) counting from 0. Only its raw 64-bit words are used, which NumPy keeps the same in all its releases.
Everything is drawn on the CPU and then moved, so the order of modules, batches, threads and the device do not show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from registry import digest
from registry.methods._sparsify import masked

_CHUNK = 1 << 20
_SHIFT, _UNIT = 11, 2.0**-53


@dataclass(frozen=True)
class Stream:
    """The key of a stream of random numbers."""

    seed: int
    module: str
    level: int = 0
    position: int = 0
    part: str = ""


def uniform(stream: Stream, count: int) -> Tensor:
    """``count`` numbers, uniform in [0, 1) in steps of 2⁻⁵³, float64 on the CPU; ``(count,)``."""
    drawn = np.empty(count, dtype=np.float64)
    for start, chunk in _chunks(stream, count):
        drawn[start : start + len(chunk)] = chunk
    return torch.from_numpy(drawn)


def kept(stream: Stream, values: Tensor, probability: float | Tensor) -> Tensor:
    """Which elements of ``values`` survive: each one alone with its ``probability``, as a mask of its shape.

    An element survives where its number of the stream, in row-major order, is less than its probability.
    ``probability`` is one number or a tensor of the shape of ``values``.
    """
    limits = None if isinstance(probability, float) else probability.flatten().cpu().double().numpy()
    mask = np.empty(values.numel(), dtype=np.bool_)
    for start, chunk in _chunks(stream, values.numel()):
        end = start + len(chunk)
        mask[start:end] = chunk < (probability if limits is None else limits[start:end])
    return torch.from_numpy(mask).reshape(values.shape).to(values.device)


def dropped(values: Tensor, stream: Stream, probability: float | Tensor, rescale: str) -> Tensor:
    """``values`` with elements dropped at random, kept with ``probability``.

    ``rescale``: ``density`` divides what is kept by its probability, ``l1`` scales it to the L1 norm of ``values``.
    """
    mask = kept(stream, values, probability)
    if rescale != "density":
        return masked(values, mask, rescale)
    found = values * mask
    return found / (probability if isinstance(probability, float) else probability.to(values.dtype))


def _chunks(stream: Stream, count: int) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]]:
    """Uniform numbers and where they belong; drawing in chunks gives what drawing at once would."""
    generator = np.random.Philox(key=_key(stream))
    for start in range(0, count, _CHUNK):
        words = np.asarray(generator.random_raw(min(_CHUNK, count - start)), dtype=np.uint64)
        yield start, (words >> np.uint64(_SHIFT)).astype(np.float64) * _UNIT


def _key(stream: Stream) -> int:
    """128 bits."""
    what = [stream.seed, stream.module, stream.level, stream.position, stream.part]
    return int.from_bytes(hashlib.sha256(digest.canonical_json(what)).digest()[:16], "little")
