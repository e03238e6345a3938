from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from registry.deltas import Delta


class Iso(Method):
    """Iso-C on rank k: the sum, with a flat spectrum.

    ``Σ wᵢΔWᵢ = U Σ Vᵀ`` at its numerical rank k (or ``rank``, if that is less), and σ̄ is the mean of its k singular
    values. The paper's code takes the mean over ``min(m, n)`` and puts σ̄ on the null space too, where singular
    vectors are arbitrary: for low-rank deltas that is not defined, so only this reading is offered. Whatever is not
    zero is raised to σ̄: singular values up to ``tolerance·σ₁`` are taken for rounding of the inputs. Reports ``rank``.
    """

    about: ClassVar[About] = About(
        formula="scale · σ̄ · U Vᵀ",
        source="Marczak et al., No Task Left Behind: Isotropic Model Merging, ICML 2025, arXiv 2502.04959",
        domain="core",
        cost="O((m + n)·k² + N·k³)",
        example="iso(a, b)",
    )

    rank: int | None = Field(default=None, ge=1, description="the most singular values kept of the sum")
    scale: Decimal = Field(default=Decimal(1), description="a factor of the whole result")
    tolerance: Decimal = Field(
        default=Decimal("0.000001"),
        ge=0,
        lt=1,
        description="singular values up to this share of the largest count as zero",
    )

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.methods._joint import joint, lift, parts

        del site
        found = joint(deltas, weights)
        with one_thread(found.left.device):
            whole = found.cores.sum(0)  # (p, q)
            size, *sizes = (float(torch.linalg.matrix_norm(x, 2)) for x in (whole, *found.cores))
            lost = max(float(self.tolerance) * size, found.floor * max(sizes))
            cut = parts(whole, lost, largest=1.0)
            k = min(self.rank or len(cut.values), len(cut.values))
            middle = (cut.left[:, :k] * cut.values[:k].sum() / max(k, 1)) @ cut.right[:k]  # (p, q)
            delta = lift(found, float(self.scale) * middle)
        return Merged(delta, {"rank": float(delta.rank)})

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return min(sum(ranks), self.rank or sum(ranks))
