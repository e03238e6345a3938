"""Interference: how much inputs of a composition get in each other's way, measured before anything is composed.

Two inputs enter one module as ``a = ±ΔWₐ`` and ``b = ±ΔW_b``, each with the sign of its weight (0 counts as +). Of a
weight only the sign matters, since all three measures are free of scale; so is the way a ΔW is factored.

- cosine: ``⟨a, b⟩ / (‖a‖·‖b‖)``, Frobenius. 1 is one direction, 0 unrelated, −1 cancels as far as sizes allow.
- subspace overlap: ``φ = ‖UₐᵀU_b‖² / min(rₐ, r_b)`` with orthonormal U of the column spaces, and the same of the row
  spaces with V. 0 is orthogonal, 1 says that one space holds the other. With all singular directions this is φ of
  Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, section 7.2; ``rₐ`` counts ``σ > 10⁻⁶·σ₁``.
- sign agreement: of the elements that are zero in neither, the share where a and b have one sign. The rest is the sign
  conflict of Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv 2306.01708, section 3; unrelated deltas agree in half.

(IA)³ is measured on ``ℓ − 1`` and has no subspaces; neither has a dense ΔW, which fills its space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, isqrt

import torch
from torch import Tensor

from registry.deltas import Delta, Dense, LowRank, Rescaling, doubled, require_same
from registry.methods._core import Singular, one_thread, singular

ELEMENTS = 1 << 16
"""The most elements of a ΔW that are looked at one by one: of a larger one, those of a grid."""

_ROUNDING = 1e-6  # singular values up to this share of the largest are what rounding left, as in iso


@dataclass(frozen=True)
class Interference:
    """Two inputs in one module; see this file's first lines for the measures.

    Each is None where it is not defined: a zero delta has no direction. ``sampled`` says that single elements were
    looked at on a grid: of evenly spaced rows and columns, :data:`ELEMENTS` at most. What needs elements is the sign
    agreement, and the cosine with a dense ΔW; between factors the cosine is exact.
    """

    cosine: float | None
    columns: float | None
    rows: float | None
    agreement: float | None
    sampled: bool


def pairwise(deltas: Sequence[Delta | None], weights: Sequence[float]) -> dict[tuple[int, int], Interference]:
    """All pairs of a module's deltas by position, ``(0, 1)`` first; None stands for an input without the module.

    Costs O((m + n)·k² + N·k³) for N inputs whose ranks sum to k, and never forms ``(m, n)``. Float64, signs aside.
    Raises ``Incompatible`` for unequal spaces.
    """
    given = [(i, delta) for i, delta in enumerate(deltas) if delta is not None]
    if len(given) < 2:
        return {}
    require_same([delta for _, delta in given])
    with torch.no_grad(), one_thread(torch.device("cpu")):
        low = {i: doubled(delta) for i, delta in given if isinstance(delta, LowRank)}
        parts = dict(zip(low, _parts(list(low.values())), strict=True)) if low else {}
        views = [
            _view(low.get(i, delta), -1.0 if weights[i] < 0 else 1.0, parts.get(i)) for i, delta in given
        ]
        agreement = _agreements([view.elements for view in views])
        return {
            (given[i][0], given[j][0]): _between(views[i], views[j], agreement[i][j])
            for i, j in combinations(range(len(views)), 2)
        }


@dataclass(frozen=True)
class _View:
    """What is needed of one delta: its elements ``(e,)``, and of a low-rank one the singular triplets."""

    sign: float
    elements: Tensor
    sampled: bool
    parts: Singular | None


def _view(delta: Delta, sign: float, parts: Singular | None) -> _View:
    if isinstance(delta, Rescaling):
        return _View(sign, sign * delta.offset.double(), False, None)
    rows, columns = _grid(*delta.shape)
    sampled = len(rows) * len(columns) < delta.shape[0] * delta.shape[1]
    if isinstance(delta, Dense):
        elements = sign * delta.weight[rows][:, columns].double()
    else:
        scale = sign * delta.scale if parts is None or len(parts.values) else 0.0
        elements = scale * (delta.up[rows] @ delta.down[:, columns])
    return _View(sign, elements.flatten(), sampled, parts)


def _parts(deltas: Sequence[LowRank]) -> list[Singular]:
    """Each delta's singular triplets in bases that all have in common, where they are small."""
    left = torch.linalg.qr(torch.cat([delta.up for delta in deltas], dim=1), mode="r").R  # (p, Σk)
    right = torch.linalg.qr(torch.cat([delta.down for delta in deltas]).T, mode="r").R  # (q, Σk)
    ranks = [delta.rank for delta in deltas]
    small = zip(left.split(ranks, dim=1), right.split(ranks, dim=1), deltas, strict=True)
    return [_singular(LowRank(up, down.T, delta.scale)) for up, down, delta in small]


def _singular(delta: LowRank) -> Singular:
    """The singular triplets; none where ΔW is but what rounding leaves of factors that cancel."""
    found = singular(delta)
    size = abs(delta.scale) * float(delta.up.norm()) * float(delta.down.norm())
    rounding = torch.finfo(torch.float64).eps * max(delta.shape) * size
    kept = len(found.values) if float(found.values[:1].sum()) > rounding else 0
    return Singular(found.left[:, :kept], found.values[:kept], found.right[:kept])


def _grid(m: int, n: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced rows and columns with :data:`ELEMENTS` elements at most, as many of each as there are."""
    rows = m if m * n <= ELEMENTS else min(m, max(isqrt(ELEMENTS), ELEMENTS // n))
    columns = min(n, ELEMENTS // rows)
    return torch.arange(rows) * m // rows, torch.arange(columns) * n // columns


def _agreements(elements: Sequence[Tensor]) -> list[list[float | None]]:
    """Of the elements that are zero in neither of two, the share of one sign, for all pairs."""
    signs = torch.stack([each.sign().float() for each in elements])  # (N, e); counts are exact up to 2²⁴
    nonzero = signs.abs()
    both, difference = nonzero @ nonzero.T, signs @ signs.T  # (N, N)
    shares: list[list[float]] = ((both + difference) / (2 * both)).tolist()
    return [[None if isnan(share) else share for share in row] for row in shares]


def _between(a: _View, b: _View, agreement: float | None) -> Interference:
    sampled = a.sampled or b.sampled
    if a.parts is None or b.parts is None:
        return Interference(
            _cosine(a.elements @ b.elements, a.elements, b.elements), None, None, agreement, sampled
        )
    left, right = a.parts.left.T @ b.parts.left, a.parts.right @ b.parts.right.T  # (rₐ, r_b)
    inner = a.sign * b.sign * (a.parts.values @ (left * right) @ b.parts.values)
    return Interference(
        _cosine(inner, a.parts.values, b.parts.values),
        _overlap(left, a.parts, b.parts),
        _overlap(right, a.parts, b.parts),
        agreement,
        sampled,
    )


def _cosine(inner: Tensor, a: Tensor, b: Tensor) -> float | None:
    lengths = float(a.norm()) * float(b.norm())
    return max(-1.0, min(1.0, float(inner) / lengths)) if lengths else None


def _overlap(products: Tensor, a: Singular, b: Singular) -> float | None:
    ranks = [int((parts.values > _ROUNDING * parts.values[:1]).sum()) for parts in (a, b)]
    if not all(ranks):
        return None
    return min(1.0, float(products[: ranks[0], : ranks[1]].square().sum()) / min(ranks))
