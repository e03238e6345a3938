"""The core of stacked factors: what ΔW is, exactly, in an orthonormal basis of at most k dimensions.

With ``U = up (m, k)`` and ``V = downᵀ (n, k)``, thin QR gives ``ΔW = Qᵤ (Rᵤ Rᵥᵀ) Qᵥᵀ``. Every method that is
invariant under orthogonal changes of basis may work on the small matrix in the middle; no ``(m, n)`` matrix is
ever formed. All of it is float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from registry.deltas import LowRank


@dataclass(frozen=True)
class Core:
    """``ΔW = left @ middle @ right``: ``left (m, p)`` and ``rightᵀ (n, q)`` with orthonormal columns."""

    left: Tensor
    middle: Tensor
    right: Tensor


@dataclass(frozen=True)
class Singular:
    """``ΔW = left · diag(values) · right``, singular values falling; signs canonical (see :func:`singular`)."""

    left: Tensor
    values: Tensor
    right: Tensor


def core(delta: LowRank) -> Core:
    """Thin QR of both factors; the scale goes into the middle. Exact for any rank, also k > min(m, n)."""
    import torch

    with one_thread(delta.up.device):
        left, upper = torch.linalg.qr(delta.up.double())  # (m, p), (p, k)
        right, lower = torch.linalg.qr(delta.down.double().T)  # (n, q), (q, k)
        return Core(left, delta.scale * (upper @ lower.T), right.T)  # middle (p, q)


def singular(delta: LowRank) -> Singular:
    """The singular value decomposition of ΔW, cut at its numerical rank: σ > eps·max(m, n)·σ₁ (float64's eps).

    Signs are canonical: in each left vector the entry of largest size is positive, so that neither the signs
    LAPACK picks nor those of the factors show. A zero ΔW gives no values at all.
    """
    import torch

    with one_thread(delta.up.device):
        found = core(delta)
        w, values, zh = torch.linalg.svd(found.middle, full_matrices=False)  # (p, s), (s,), (s, q)
        floor = torch.finfo(torch.float64).eps * max(delta.shape) * values[:1]  # (1,)
        kept = int((values > floor).sum())
        left = found.left @ w[:, :kept]  # (m, kept)
        right = zh[:kept] @ found.right  # (kept, n)
        signs = canonical_signs(left)
        return Singular(left * signs, values[:kept], signs[:, None] * right)


def leading(delta: LowRank, parts: Singular, count: int) -> LowRank:
    """``Σ_{i≤count} σᵢuᵢvᵢᵀ`` of a delta's decomposition, in factors that get ``√σᵢ`` each; zero where ΔW is."""
    from registry.deltas import zero

    if not len(parts.values):
        return zero(delta, delta.up.dtype)
    root = parts.values[:count].sqrt()  # (count,)
    up, down = parts.left[:, :count] * root, root[:, None] * parts.right[:count]  # (m, count), (count, n)
    return replace(delta, up=up, down=down, scale=1.0)


def canonical_signs(left: Tensor) -> Tensor:
    """``±1`` per column of ``left (m, k)``, making its entry of largest size positive; ``(k,)``."""
    import torch

    largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))[0]  # (k,)
    return torch.where(largest < 0, -1.0, 1.0).to(left.dtype)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """LAPACK on one thread: its results depend on the number of threads, and matrices here are thin."""
    import torch

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
