from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.methods import About, Inner, Merged, Method
from registry.methods._core import canonical_signs, one_thread

if TYPE_CHECKING:
    from registry.deltas import Delta


class Knots(Method):
    """KnOTS: another method on the inputs in one common basis, lifted back.

    ``[ΔW₁ … ΔW_N] = U Σ [V₁ᵀ … V_Nᵀ]``, thin, and ``M`` is the inner method's result on the ``Σ Vᵢᵀ = Uᵀ ΔWᵢ`` (k, n),
    to which it applies its own weights. U comes from QR and a small SVD; no (m, n) matrix is formed unless the
    inner method does. The scale alpha/r is part of ΔW (the authors' code leaves it out), singular values up to
    ``tolerance·σ₁`` are cut, and the largest entry of each column of U is positive (ours), so that the result is
    reproducible unless singular values coincide. It does not depend on how a ΔW is factored.
    """

    about: ClassVar[About] = About(
        formula="U · M",
        source="Stoica et al., Model merging with SVD to tie the Knots, ICLR 2025, arXiv 2410.19735",
        domain="core",
        cost="O((m + n)·k² + N·k³), and the inner method on k×n matrices",
        example="knots(ties(a, b, density=0.2))",
    )

    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    wraps: ClassVar[bool] = True

    tolerance: Decimal = Field(
        default=Decimal("0.000001"),
        ge=0,
        lt=1,
        description="directions shorter than this share of the longest are taken for rounding of the inputs",
    )

    def around(self, inner: Inner, deltas: Sequence[Delta | None]) -> Merged:
        import torch

        from registry.deltas import LowRank, zero
        from registry.methods._joint import factored, joint, lifted, parts

        found = [None if delta is None else factored(delta) for delta in deltas]
        bases = joint(found, [1.0] * len(found))
        with one_thread(bases.left.device):
            wide = torch.cat(tuple(bases.cores), dim=1)  # (p, N·q)
            left = bases.left @ parts(wide, max(bases.floor, float(self.tolerance))).left  # (m, r)
            if not left.shape[1]:
                return Merged(zero(bases.like, left.dtype))
            left = left * canonical_signs(left)
            tied = [None if d is None else LowRank(d.scale * (left.T @ d.up), d.down) for d in found]
        merged = inner(tied)
        with one_thread(left.device):
            return Merged(lifted(merged.delta, bases.like, left, None), merged.report)
