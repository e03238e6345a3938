"""Optimal truncation through Gram matrices: an order of magnitude cheaper than QR, where that is safe.

For ``ΔW = U·V`` with ``U (m, k)`` and ``V (k, n)``: with the Cholesky factor ``VVᵀ = LLᵀ`` the eigenvectors of
``S = Lᵀ(UᵀU)L`` are the right singular vectors of ΔW in the basis ``L⁻¹V``, its eigenvalues their ``σ²``. Only products
of tall factors, and k×k matrices in float64. What such products lose in precision only turns the q directions a little,
and ΔW is then projected on the directions as they came out, so that the error of the approximation is larger by the
square of that: nothing that float32 shows.

It is not safe where the rows of V are nearly dependent, where U and V nearly cancel, or where the values that decide
drown in rounding. Then products are taken in float64, then with U and V exchanged, and else not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Approximated:
    """``left (m, q) @ right (q, n)`` with ``√σᵢ`` on both, all ``σ²`` falling, and the bits that products had."""

    left: Tensor
    right: Tensor
    squares: Tensor
    bits: int


@dataclass(frozen=True)
class _Bounds:
    """What is safe at a precision: how far rows may depend on each other, and how small what decides may be."""

    independent: float
    smallest: float
    lost: float
    uncancelled: float = 3e-2


_LARGE = 256
_STEADY = 3.0  # how much larger than their sum terms may be, that its rounding stays that of one term
_BOUNDS = {32: _Bounds(3e-2, 1e-5, 1e-4), 64: _Bounds(1e-4, 1e-11, 1e-10)}

Keep = Callable[["Tensor"], int]
"""From all ``σ²``, falling, to how many of them are kept."""


def truncated(up: Tensor, down: Tensor, keep: Keep) -> Approximated | None:
    """The best approximation of ``up @ down`` of the rank that ``keep`` decides; None where QR has to do it.

    ``up`` is ``(m, k)``, ``down`` ``(k, n)``, both float32, with k at most as large as m and n.
    """
    for bits in (32, 64):
        if (found := _one_side(up, down, keep, bits)) is not None:
            return found
        if (found := _one_side(down.T, up.T, keep, bits)) is not None:
            return Approximated(found.right.T, found.left.T, found.squares, bits)
    return None


def _one_side(up: Tensor, down: Tensor, keep: Keep, bits: int) -> Approximated | None:
    """The route through ``VVᵀ``, at a precision; None where that is not safe."""
    import torch

    bounds = _BOUNDS[bits]
    wide = torch.float32 if bits == 32 else torch.float64
    right = _gram(down.to(wide))  # (k, k)
    lower = _cholesky(right, bounds.independent)
    left = None if lower is None else _gram(up.to(wide).T)  # (k, k)
    if lower is None or left is None or not bool(left.isfinite().all()):
        return None
    values, vectors = torch.linalg.eigh(lower.T @ left @ lower)
    squares = values.flip(0).clamp_(min=0)  # (k,)
    q, total = keep(squares), float(squares.sum())
    enough = total > bounds.uncancelled * float(left.diagonal() @ right.diagonal())
    clear = float(squares[q - 1]) >= bounds.smallest * float(squares[0])
    if not (enough and clear and float(squares[q:].sum()) >= bounds.lost * total):
        return None
    found = torch.linalg.solve_triangular(lower.T, vectors.flip(1)[:, :q], upper=True)  # (k, q)
    basis = found.T.to(down.dtype) @ down  # (q, n)
    onto = _onto(found, basis, down, right)  # (q, k)
    if onto is None:
        return None
    sizes = squares[:q].sqrt().sqrt()[:, None]  # (q, 1)
    return Approximated(up @ (onto / sizes).T.to(up.dtype), basis * sizes.to(basis.dtype), squares, bits)


def _onto(found: Tensor, basis: Tensor, down: Tensor, right: Tensor) -> Tensor | None:
    """``(RRᵀ)⁻¹·R·Vᵀ`` for the basis R as it came out: with it, U times this times R is ΔW projected; ``(q, k)``."""
    import torch

    if float(found.abs().max() * right.diagonal().max().sqrt()) < _STEADY:
        return found.T @ right  # R came out orthonormal
    root = _cholesky(_gram(basis), 0.5)
    return None if root is None else torch.cholesky_solve((basis @ down.T).double(), root)


def _gram(rows: Tensor) -> Tensor:
    """``X·Xᵀ`` in float64, from products in the dtype of X; a quarter of them is left to symmetry."""
    half = len(rows) // 2
    gram = rows.new_empty((len(rows), len(rows)))
    gram[:half] = rows[:half] @ rows.T
    gram[half:, half:] = rows[half:] @ rows[half:].T
    gram[half:, :half] = gram[:half, half:].T
    return gram.double()


def _cholesky(gram: Tensor, least: float) -> Tensor | None:
    """The lower factor, None where a row is closer than ``least``, as a share of its length, to the ones before."""
    import torch

    lengths = gram.diagonal().sqrt()
    if not bool(((lengths > 0) & lengths.isfinite()).all()):
        return None
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(gram / lengths[:, None] / lengths)
    if int(failed) or float(lower.diagonal().min()) < least:
        return None
    return lengths[:, None] * lower


def is_suited(up: Tensor, down: Tensor) -> bool:
    """Whether the route is for these factors at all: float32, and so large that QR in float64 takes its time."""
    size, k = min(up.shape[0], down.shape[1]), up.shape[1]
    return str(up.dtype) == "torch.float32" and size >= max(_LARGE, 2 * k)
