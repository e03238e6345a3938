"""Deltas of a module as vectors: what the methods that only need lengths and angles have in common.

Such a method gives a linear combination of its inputs, so its result is stacked exactly from their own tensors;
only the coefficients are computed here, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta


def vectors(deltas: Sequence[Delta | None], weights: Sequence[float]) -> Tensor:
    """``wᵢ·ΔWᵢ`` as rows ``(N, d)`` in one orthonormal basis, ``wᵢ·(ℓᵢ − 1)`` as they are; zero where missing."""
    import torch

    from registry.deltas import Rescaling, require_same
    from registry.methods._joint import joint

    given = [delta for delta in deltas if delta is not None]
    require_same(given)
    first = given[0]
    if isinstance(first, Rescaling):
        rows = [
            w * d.offset.double() if isinstance(d, Rescaling) else torch.zeros_like(first.offset).double()
            for w, d in zip(weights, deltas, strict=True)
        ]
        return torch.stack(rows)  # (N, d)
    return joint(deltas, weights).cores.flatten(1)  # (N, p·q)


def combine(coefficients: Sequence[float], deltas: Sequence[Delta | None]) -> Delta:
    """``Σ cᵢ·ΔWᵢ``, stacked exactly, or ``Σ cᵢ·(ℓᵢ − 1)``; a missing delta is zero."""
    from registry.deltas import Dense, Rescaling, require_same, stack
    from registry.methods._joint import factored

    terms = [(c, d) for c, d in zip(coefficients, deltas, strict=True) if d is not None]
    require_same([delta for _, delta in terms])
    first = terms[0][1]
    if isinstance(first, Rescaling):
        total = first.offset.double() * 0
        for c, delta in terms:
            if isinstance(delta, Rescaling) and c != 0:
                total = total + c * delta.offset.double()  # (d,)
        return Rescaling(total, first.feedforward)
    return stack([(c, factored(d) if isinstance(d, Dense | Rescaling) else d) for c, d in terms])


def lengths(rows: Tensor) -> list[float]:
    """The Euclidean norm of each row."""
    import torch

    with one_thread(rows.device):
        return [float(torch.linalg.vector_norm(row)) for row in rows]


def angle(u: Tensor, v: Tensor) -> float:
    """The angle between two unit vectors, in 0 … π; precise also near both ends, where the arc cosine is not."""
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))
