"""Sketches: a few thousand numbers for an adapter, whose inner products are about those of the whole ΔW.

Every module's ΔW is hashed, element by element, into one vector of :data:`SIZE` numbers that all modules share::

    s[(h(i) + g(j)) mod D] += σ(i)·τ(j)·ΔW[i, j]

with hashes ``h, g`` and signs ``σ, τ`` that are drawn for each module's name and space. This is linear in ΔW, whatever it is
factored into, and ``⟨s(a), s(b)⟩`` estimates ``⟨a, b⟩`` without bias. For factors no ``(m, n)`` is formed: the sketch of
``u·vᵀ`` is the circular convolution of those of u and of v, so that ``ΔW = s·B·A`` costs ``O((m + n)·k + k·D·log D)``.

Sources: Charikar, Chen & Farach-Colton, "Finding frequent items in data streams", ICALP 2002 (the hashing); Pagh,
"Compressed matrix multiplication", ACM TOCT 2013 (of a product, by FFT); Pham & Pagh, "Fast and scalable polynomial
kernels via explicit feature maps", KDD 2013.

The cosine of two sketches has a standard error of about ``(1 − c²)/√D``: see :func:`standard_error`.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, Dense, LowRank

SIZE = 4096
"""D: numbers in a sketch, a power of two up to 2¹⁵."""

ALGORITHM = 1
"""Version of what is on this page: sketches of different versions are not comparable."""

Vector = np.ndarray[Any, np.dtype[np.float64]]
_Spectrum = np.ndarray[Any, np.dtype[np.complex128]]
Direction = np.ndarray[Any, np.dtype[np.float16]]

_HEAD = struct.Struct("<Id")  # CRC-32 of what follows it, and the norm
_LENGTH = _HEAD.size + 2 * SIZE
_SIGN = np.uint16(1 << 15)
_BLOCK = 1 << 22  # elements of a dense ΔW that are hashed at once


@dataclass(frozen=True)
class Sketch:
    """An adapter's sketch: ``‖ΔW‖`` exactly, and the direction ``(SIZE,)``, about of unit length.

    ``left_out`` says which part of the adapter is not in it, and is '' where all of it is. The norm is 0 where nothing of
    it can be compared, or where there is no change.
    """

    norm: float
    direction: Direction
    left_out: str = ""

    def to_bytes(self) -> bytes:
        """As it is stored: a checksum, the norm, the numbers in float16, and what was left out; little-endian."""
        rest = self.direction.astype("<f2").tobytes() + self.left_out.encode()
        head = _HEAD.pack(0, self.norm)[4:]
        return struct.pack("<I", zlib.crc32(head + rest)) + head + rest


def from_bytes(stored: bytes) -> Sketch | None:
    """The stored sketch; None where it is not what was stored."""
    if len(stored) < _LENGTH:
        return None
    crc, norm = _HEAD.unpack_from(stored)
    if zlib.crc32(stored[4:]) != crc:
        return None
    direction = np.frombuffer(stored, "<f2", SIZE, _HEAD.size).astype(np.float16, copy=False)
    return Sketch(norm, direction, stored[_LENGTH:].decode(errors="replace"))


def of(deltas: Iterable[tuple[str, Delta]], left_out: str = "") -> Sketch:
    """The sketch of an adapter from its modules' names and deltas, which are read one at a time.

    In float64 up to the rounding of the direction to float16: the same bytes on every machine, but for the last bits of
    products, which rarely are seen in so few.
    """
    sketch, square = np.zeros(SIZE // 2 + 1, complex), 0.0
    for name, delta in deltas:
        own = norm(delta)
        if own > 0:
            square += own**2
            sketch += transformed(name, delta)
    length = math.sqrt(square)
    whole = np.fft.irfft(sketch, SIZE) / (length or 1.0)
    return Sketch(length, whole.astype(np.float16) + np.float16(0), left_out)  # and no −0


def transformed(name: str, delta: Delta) -> _Spectrum:
    """The Fourier transform ``(SIZE/2 + 1,)`` of one module's sketch, which is linear in its ΔW."""
    from registry.deltas import Dense, LowRank, describe

    space = describe(delta)
    if isinstance(delta, LowRank):
        return _of_factors(name, space, delta)
    if isinstance(delta, Dense):
        return np.fft.rfft(_of_rows(name, space, delta))
    where, signs = _hashes(name, space, "rows", len(delta.offset))
    return np.fft.rfft(np.bincount(where, signs * delta.offset.double().numpy(), SIZE))


def cosines(query: Sketch, others: Direction) -> Vector:
    """The estimated cosines ``(N,)`` with the sketches whose directions are the rows of ``others (N, SIZE)``.

    Lengths are those of the sketches, not of the deltas: their errors are those of the product, and cancel. 0 where a
    sketch is zero. Float32.
    """
    wide = others.astype(np.float32)
    own = query.direction.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", wide, wide)) * float(np.linalg.norm(own))
    found = wide @ own / np.where(lengths > 0, lengths, 1)
    return np.clip(found, -1, 1).astype(np.float64)


def standard_error(cosine: float) -> float:
    """Of an estimated cosine: that of a correlation of :data:`SIZE` numbers, ``(1 − c²)/√D``."""
    return (1 - min(1.0, cosine**2)) / math.sqrt(SIZE)


def norm(delta: Delta) -> float:
    """``deltas.norm``, and 0 where it is but what rounding left of factors that cancel."""
    from registry import deltas

    found = deltas.norm(delta)
    if not isinstance(delta, deltas.LowRank):
        return found
    size = abs(delta.scale) * float(delta.up.double().norm()) * float(delta.down.double().norm())
    return found if found > float(np.finfo(np.float64).eps) * max(delta.shape) * size else 0.0


def _of_factors(name: str, space: str, delta: LowRank) -> _Spectrum:
    """``Σ_k F(s(B[:, k])) · F(s(A[k, :]))``."""
    left = _spread(_hashes(name, space, "rows", delta.shape[0]), delta.up.T.double() * delta.scale)
    right = _spread(_hashes(name, space, "columns", delta.shape[1]), delta.down.double())
    found: _Spectrum = (np.fft.rfft(left) * np.fft.rfft(right)).sum(0)
    return found


def _spread(hashes: _Hashes, vectors: Tensor) -> Vector:
    """The sketches ``(k, SIZE)`` of the rows of ``(k, m)``."""
    import torch

    where, signs = (torch.from_numpy(each) for each in hashes)
    found = torch.zeros(len(vectors), SIZE, dtype=torch.float64)
    return found.index_add_(1, where, vectors * signs).numpy()


def _of_rows(name: str, space: str, delta: Dense) -> Vector:
    """The sketch of a dense ΔW, element by element, some rows at a time."""
    (m, n), found = delta.shape, np.zeros(SIZE)
    (down, signs), (right, others) = (
        _hashes(name, space, what, size) for what, size in (("rows", m), ("columns", n))
    )
    step = max(1, _BLOCK // max(n, 1))
    for first in range(0, m, step):
        rows = slice(first, min(m, first + step))
        values = delta.rows(rows).double().cpu().numpy() * signs[rows, None] * others
        where = (down[rows, None] + right) & (SIZE - 1)
        found += np.bincount(where.ravel(), values.ravel(), SIZE)
    return found


_Hashes = tuple[np.ndarray[Any, np.dtype[np.int64]], Vector]


def _hashes(name: str, space: str, side: str, count: int) -> _Hashes:
    """Where each of ``count`` indices goes, and with which sign: from 16 bits of the module's stream."""
    from registry.methods._random import Stream, words

    drawn = words(Stream(ALGORITHM, name, part=f"sketch {side} of {space}"), -(-count // 4))
    bits = drawn.astype("<u8", copy=False).view("<u2")[:count]
    return (bits & np.uint16(SIZE - 1)).astype(np.int64), np.where(bits & _SIGN, -1.0, 1.0)
