"""The low-rank approximation of a dense ΔW, for adapters; its error is measured, not estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from registry.deltas import Dense, LowRank, zero
from registry.methods import Merged
from registry.methods._core import canonical_signs, one_thread
from registry.methods._random import Stream, words

_EXTRA = 8  # directions beyond the rank
_STEPS = 12
_SETTLED = 3e-5  # relative change of the squared error that ends the iteration
_NEW = 10.0  # what is less than so many roundings is no new direction
_RANGE = 1e-15, 1e15  # norms whose squares, and those of their parts, float32 holds
_ROWS = 64  # in the processor's cache


def low_rank(delta: Dense) -> Merged:
    """ΔW projected on ``q = delta.rank`` directions, with ``rank``, ``energy`` kept and relative ``error``.

    The directions are the leading left singular vectors of ΔW inside the block Krylov space of ``q + 8`` fixed random
    starts, which grows until the error settles; a narrow ΔW is decomposed as a whole, and then no matrix of that rank
    is closer. ``error`` is ``‖ΔW − BA‖/‖ΔW‖`` taken from the difference itself, so it holds however well the iteration
    went. In the precision of ΔW; factors get ``√σᵢ``.

    Source: Musco & Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
    decomposition", NeurIPS 2015, algorithm 2, arXiv 1504.05477.
    """
    with one_thread(delta.weight.device):
        length = _norm(torch.split(delta.weight, _ROWS))
        fits = delta.weight.dtype != torch.float64 and _RANGE[0] < length < _RANGE[1]
        whole = delta.weight.to(torch.float32 if fits else torch.float64)  # (m, n)
        if length == 0:
            return Merged(zero(delta, whole.dtype), {"rank": 1.0, "energy": 1.0, "error": 0.0})
        left, values, right = _leading(whole, length, delta.rank)
        root = values.sqrt() * math.sqrt(length)  # (q,)
        found = LowRank(left * root, root[:, None] * right, form=delta.form, kernel=delta.kernel)
        error = _norm(_difference(whole, found)) / length
    return Merged(found, {"rank": float(found.rank), "energy": max(0.0, 1 - error**2), "error": error})


def _leading(whole: Tensor, length: float, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading singular triplets of ``whole / length``, at most ``rank``, cut at its numerical rank."""
    narrow = 4 * (rank + _EXTRA) >= min(whole.shape)
    basis, across = (None, whole.double() / length) if narrow else _krylov(whole, length, rank)
    left, values, right = torch.linalg.svd(across, full_matrices=False)
    floor = torch.finfo(torch.float64).eps * max(whole.shape) * values[0]
    q = min(rank, int((values > floor).sum()))
    up = left[:, :q] if basis is None else basis @ left[:, :q]  # (m, q)
    signs = canonical_signs(up)  # (q,)
    return up * signs, values[:q], signs[:, None] * right[:q]


def _krylov(whole: Tensor, length: float, rank: int) -> tuple[Tensor, Tensor]:
    """An orthonormal basis ``(m, b)`` of what matters in the range of ``whole / length``, and that in it ``(b, n)``."""
    m, n = whole.shape
    drawn = words(Stream(0, "low-rank approximation"), n * (rank + _EXTRA)) >> np.uint64(11)
    start = torch.from_numpy(drawn.astype(np.float64)).reshape(n, -1) * 2.0**-53 - 0.5  # uniform in [-½, ½)
    basis, across, energy = whole.new_empty((m, 0)), whole.new_empty((0, n)), 0.0
    reached = whole @ start.to(whole)  # (m, b)
    for _ in range(_STEPS):
        fresh = _orthonormal(reached / length, basis)
        if not fresh.shape[1]:
            break
        onto = (fresh.T @ whole) / length  # (b, n)
        basis, across = torch.cat([basis, fresh], dim=1), torch.cat([across, onto])
        squares = torch.linalg.eigvalsh((across @ across.T).double())
        before, energy = energy, float(squares[-rank:].sum())
        if energy - before <= _SETTLED * (1 - energy):
            break
        reached = whole @ torch.linalg.qr(onto.T).Q
    return basis, across


def _orthonormal(columns: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of what columns have beyond the orthonormal ``basis``, as far as rounding lets tell."""
    rounding = torch.finfo(columns.dtype).eps * float(torch.linalg.matrix_norm(columns))
    for least in (_NEW * rounding, 0.5):  # the second time removes what rounding left of the basis
        left, values, _ = torch.linalg.svd(columns - basis @ (basis.T @ columns), full_matrices=False)
        columns = left[:, values > least]
    return columns


def _difference(whole: Tensor, found: LowRank) -> Iterator[Tensor]:
    """``ΔW − BA``, a block of rows at a time."""
    for rows, up in zip(torch.split(whole, _ROWS), torch.split(found.up, _ROWS), strict=True):
        yield torch.addmm(rows.to(up), up, found.down, alpha=-1)  # (rows, n)


def _norm(blocks: Iterable[Tensor]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(block, dtype=torch.float64)) for block in blocks))
