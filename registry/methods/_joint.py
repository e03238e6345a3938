"""Several low-rank deltas in one pair of orthonormal bases, where they are small matrices.

``ΔWᵢ = left · Cᵢ · right`` with ``left (m, p)`` and ``rightᵀ (n, q)`` from thin QR of the stacked factors, so
``p = min(m, Σk)`` and ``q = min(n, Σk)``. A method that commutes with orthogonal changes of basis may work on the
``Cᵢ`` instead of the ΔWᵢ and is exact. All of it is float64, and no ``(m, n)`` matrix is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from registry.methods._core import canonical_signs, one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, LowRank


@dataclass(frozen=True)
class Joint:
    """``wᵢ·ΔWᵢ = left @ cores[i] @ right``; ``like`` says of what form the module is, ``floor`` is eps·max(m, n)."""

    like: LowRank
    left: Tensor
    right: Tensor
    cores: Tensor
    floor: float


@dataclass(frozen=True)
class Parts:
    """``x = left · diag(values) · right``, values falling, without those that are zero; signs canonical."""

    left: Tensor
    values: Tensor
    right: Tensor


def factored(delta: Delta) -> LowRank:
    """The delta as float64 factors; a dense one gets the identity on its shorter side."""
    from registry import deltas

    if isinstance(delta, deltas.Rescaling):
        raise TypeError(f"not a matrix: {delta!r}")
    return deltas.doubled(deltas.factored(delta) if isinstance(delta, deltas.Dense) else delta)


def joint(deltas: Sequence[Delta | None], weights: Sequence[float]) -> Joint:
    """The common bases of all deltas, and a core ``(p, q)`` for each; that of a missing one is zero."""
    import torch

    from registry.deltas import require_same

    found = [None if delta is None else factored(delta) for delta in deltas]
    given = [delta for delta in found if delta is not None]
    require_same(given)
    like = given[0]
    with one_thread(like.up.device):
        left, upper = torch.linalg.qr(torch.cat([delta.up for delta in given], dim=1))  # (m, p), (p, Σk)
        right, lower = torch.linalg.qr(torch.cat([delta.down for delta in given]).T)  # (n, q), (q, Σk)
        cores, start = [], 0
        for weight, delta in zip(weights, found, strict=True):
            if delta is None:
                cores.append(left.new_zeros((left.shape[1], right.shape[1])))
                continue
            columns = slice(start, start := start + delta.rank)
            cores.append(weight * delta.scale * (upper[:, columns] @ lower[:, columns].T))  # (p, q)
    floor = torch.finfo(torch.float64).eps * max(like.shape)
    return Joint(like, left, right.T, torch.stack(cores), floor)


def parts(x: Tensor, floor: float, *, largest: float | None = None) -> Parts:
    """The singular value decomposition of a small matrix, cut at ``floor`` times ``largest`` (or its own largest)."""
    import torch

    with one_thread(x.device):
        left, values, right = torch.linalg.svd(x, full_matrices=False)  # (p, s), (s,), (s, q)
    top = float(values[0]) if largest is None and len(values) else largest or 0.0
    kept = int((values > floor * top).sum())
    signs = canonical_signs(left[:, :kept]) if kept else values[:0]
    return Parts(left[:, :kept] * signs, values[:kept], signs[:, None] * right[:kept])


def polar(x: Tensor) -> Tensor:
    """The polar factor ``P·Qᵀ`` of ``x = P·D·Qᵀ``: the nearest matrix whose singular values are 1 or 0.

    Singular values below √eps of the largest count as zero: what is left of two equal directions is rounding, and
    the factor would give it the same weight as the direction itself.
    """
    import torch

    found = parts(x, torch.finfo(torch.float64).eps ** 0.5)
    return found.left @ found.right


def lift(found: Joint, middle: Tensor) -> LowRank:
    """``left @ middle @ right`` as factors of the numerical rank, ``√σ`` on both; zero where the middle is."""
    from registry.deltas import zero

    cut = parts(middle, found.floor)
    if not len(cut.values):
        return zero(found.like, middle.dtype)
    root = cut.values.sqrt()  # (r,)
    up, down = found.left @ (cut.left * root), (root[:, None] * cut.right) @ found.right  # (m, r), (r, n)
    return replace(found.like, up=up, down=down, scale=1.0)


def balanced(delta: LowRank) -> LowRank:
    """The same delta in balanced factors of its numerical rank (float64)."""
    found = joint([delta], [1.0])
    return lift(found, found.cores[0])


def lifted(merged: Delta, like: LowRank, left: Tensor, right: Tensor | None) -> LowRank:
    """``left @ merged @ right`` as a delta of the form of ``like``; without ``right``, ``left @ merged``."""
    small = factored(merged)
    up = small.scale * (left @ small.up)  # (m, k)
    down = small.down if right is None else small.down @ right  # (k, n)
    return replace(like, up=up, down=down, scale=1.0)
