from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from registry.methods import About, Inner, Merged, Method
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, LowRank


class Core(Method):
    """Core Space: another method on the inputs' small cores, lifted back.

    ``Mᵢ = Uᵀ ΔWᵢ V`` with orthonormal U (m, p) and V (n, q) that span all inputs' columns and rows, so that
    ``U Mᵢ Vᵀ = ΔWᵢ`` exactly; ``M`` is the inner method's result on the Mᵢ, to which it applies its own weights. A
    method that looks at single elements depends on the basis. ``basis=factors`` is the paper's: left singular
    vectors of ``[s₁B₁ … s_NB_N]`` and right ones of ``[A₁; …; A_N]``. ``basis=deltas`` takes those of
    ``[ΔW₁ … ΔW_N]`` and ``[ΔW₁; …; ΔW_N]``, which do not depend on how a ΔW is factored (ours). Singular values
    fall, those up to ``tolerance·σ₁`` are cut, and the largest entry of each vector is positive (ours): the basis, and
    with it the result, is reproducible unless singular values coincide.
    """

    about: ClassVar[About] = About(
        formula="U · M · Vᵀ",
        source="Panariello et al., Accurate and Efficient Low-Rank Model Merging in Core Space, NeurIPS 2025, "
        "arXiv 2509.17786",
        domain="core",
        cost="O((m + n)·k² + N·k³), and the inner method on k×k matrices",
        example="core(ties(a, b, density=0.2))",
    )

    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    wraps: ClassVar[bool] = True

    basis: Literal["factors", "deltas"] = Field(
        default="factors",
        description="whose singular vectors the basis is: the stacked factors' or the deltas'",
    )

    tolerance: Decimal = Field(
        default=Decimal("0.000001"),
        ge=0,
        lt=1,
        description="directions shorter than this share of the longest are taken for rounding of the inputs",
    )

    def around(self, inner: Inner, deltas: Sequence[Delta | None]) -> Merged:
        from registry.deltas import LowRank, zero
        from registry.methods._joint import factored, lifted

        found = [None if delta is None else factored(delta) for delta in deltas]
        given = [delta for delta in found if delta is not None]
        with one_thread(given[0].up.device):
            left, right = self._basis(given)  # (m, p), (q, n)
            if not left.shape[1] or not right.shape[0]:
                return Merged(zero(given[0], given[0].up.dtype))
            cores = [
                None if d is None else LowRank(d.scale * (left.T @ d.up), d.down @ right.T) for d in found
            ]
        merged = inner(cores)
        with one_thread(left.device):
            return Merged(lifted(merged.delta, given[0], left, right), merged.report)

    def _basis(self, given: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
        import torch

        from registry.methods._core import canonical_signs
        from registry.methods._joint import joint, parts

        found = joint(given, [1.0] * len(given))
        floor = max(found.floor, float(self.tolerance))
        if self.basis == "deltas":
            ups, downs = torch.cat(tuple(found.cores), dim=1), torch.cat(tuple(found.cores))
        else:
            ups = found.left.T @ torch.cat([d.scale * d.up for d in given], dim=1)  # (p, Σk)
            downs = torch.cat([d.down for d in given]) @ found.right.T  # (Σk, q)
        left = found.left @ parts(ups, floor).left  # (m, p)
        right = parts(downs, floor).right @ found.right  # (q, n)
        if not left.shape[1] or not right.shape[0]:
            return left, right
        return left * canonical_signs(left), right * canonical_signs(right.T)[:, None]
