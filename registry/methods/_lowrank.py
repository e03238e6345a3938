"""The low-rank approximation of a dense ΔW, for adapters; its error is measured, not estimated."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from registry.deltas import Dense, LowRank, zero
from registry.methods import Merged
from registry.methods._core import canonical_signs, one_thread
from registry.methods._random import Stream, uniform

_EXTRA = 8  # directions beyond twice the rank
_PASSES = 12
_SETTLED = 1e-4  # relative growth of the captured energy that ends the iteration
_ROWS = 1024


def low_rank(delta: Dense) -> Merged:
    """ΔW projected on ``q = delta.rank`` directions, with ``rank``, ``energy`` kept and relative ``error``.

    The directions are the leading left singular vectors of ΔW inside a subspace of ``2q + 8`` dimensions, which is
    found by block power iteration from a fixed random start and iterated until the energy captured settles; a
    narrower ΔW is decomposed as a whole, and then no matrix of that rank is closer. ``error`` is ``‖ΔW − BA‖/‖ΔW‖``
    taken from the difference itself, so it holds however well the iteration went. Float64; factors get ``√σᵢ``.

    Source: Halko, Martinsson & Tropp, "Finding structure with randomness", SIAM Review 53 (2011), algorithms 4.4
    and 5.1, arXiv 0909.4061.
    """
    with one_thread(delta.weight.device):
        whole = delta.weight.double()  # (m, n)
        length = float(torch.linalg.matrix_norm(whole))
        if length == 0:
            return Merged(zero(delta, torch.float64), {"rank": 1.0, "energy": 1.0, "error": 0.0})
        left, values, right = _leading(whole / length, delta.rank)
        root = (values * length).sqrt()  # (q,)
        found = LowRank(left * root, root[:, None] * right, form=delta.form, kernel=delta.kernel)
        error = _distance(whole, found) / length
    return Merged(found, {"rank": float(found.rank), "energy": max(0.0, 1 - error**2), "error": error})


def _leading(whole: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading singular triplets of ``whole (m, n)``, at most ``rank``, cut at its numerical rank."""
    basis = _range(whole, 2 * rank + _EXTRA)
    projected = whole if basis is None else basis.T @ whole  # (b, n)
    left, values, right = torch.linalg.svd(projected, full_matrices=False)
    floor = torch.finfo(torch.float64).eps * max(whole.shape) * values[0]
    q = min(rank, int((values > floor).sum()))
    up = left[:, :q] if basis is None else basis @ left[:, :q]  # (m, q)
    signs = canonical_signs(up)  # (q,)
    return up * signs, values[:q], signs[:, None] * right[:q]


def _range(whole: Tensor, width: int) -> Tensor | None:
    """An orthonormal basis ``(m, width)`` of most of the range of ``whole``; None where that is nearly all."""
    m, n = whole.shape
    if 2 * width >= min(m, n):
        return None
    start = uniform(Stream(0, "low-rank approximation"), n * width).reshape(n, width) - 0.5
    basis: Tensor = torch.linalg.qr(whole @ start.to(whole.device)).Q  # (m, width)
    energy = 0.0
    for _ in range(_PASSES):
        across = whole.T @ basis  # (n, width)
        before, energy = energy, float(across.square().sum())
        if energy - before <= _SETTLED * energy:
            break
        basis = torch.linalg.qr(whole @ torch.linalg.qr(across).Q).Q
    return basis


def _distance(whole: Tensor, found: LowRank) -> float:
    """``‖ΔW − BA‖``, a block of rows at a time."""
    squares = 0.0
    for row in range(0, whole.shape[0], _ROWS):
        rows = slice(row, row + _ROWS)
        difference = torch.addmm(whole[rows], found.up[rows], found.down, alpha=-1)  # (rows, n)
        squares += float(difference.square().sum())
    return math.sqrt(squares)
