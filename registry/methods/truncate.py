from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field, model_validator

from registry.methods import Merged, Method, Site
from registry.methods._core import Singular, one_thread, singular

if TYPE_CHECKING:
    from registry.deltas import Delta, LowRank


class Truncate(Method):
    """The best approximation of lower rank: ``Σ_{i≤q} σᵢ uᵢ vᵢᵀ`` of ``ΔW = Σᵢ σᵢ uᵢ vᵢᵀ``.

    No matrix of rank q is closer in Frobenius norm; the relative error is ``√(Σ_{i>q}σᵢ² / Σσᵢ²)``. Give one of
    ``rank`` (q, or less where ΔW has less) and ``energy`` (the smallest q that keeps this share of ``Σσᵢ²``).
    Both factors get ``√σᵢ``. Reports ``rank``, ``energy`` kept and relative ``error`` per module.

    Source: Eckart & Young, Psychometrika 1 (1936); computed from the stacked factors by QR and a small SVD in
    float64, never from a dense ΔW.
    """

    arity: ClassVar[tuple[int, int | None]] = (1, 1)

    rank: int | None = Field(default=None, ge=1)
    energy: Decimal | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _one_of(self) -> Truncate:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("give either rank or energy")
        return self

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import doubled, stack

        del site
        given = [(w, cast("LowRank", d)) for w, d in zip(weights, deltas, strict=True) if d is not None]
        with one_thread(given[0][1].up.device):
            return self._truncated(stack([(w, doubled(d)) for w, d in given]))

    def _truncated(self, whole: LowRank) -> Merged:
        from registry.deltas import zero

        parts = singular(whole)
        if not len(parts.values):
            return Merged(zero(whole, whole.up.dtype), {"rank": 1.0, "energy": 1.0, "error": 0.0})
        q = self._kept(parts)
        root = parts.values[:q].sqrt()  # (q,)
        up, down = parts.left[:, :q] * root, root[:, None] * parts.right[:q]  # (m, q), (q, n)
        return Merged(replace(whole, up=up, down=down), _report(parts, q))

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return min(sum(ranks), self.rank or sum(ranks))

    def _kept(self, parts: Singular) -> int:
        if self.rank is not None:
            return min(self.rank, len(parts.values))
        kept = parts.values.square().cumsum(0)  # (s,)
        return int((kept < float(self.energy or 1) * kept[-1]).sum()) + 1


def _report(parts: Singular, q: int) -> Mapping[str, float]:
    squares = parts.values.square()
    total, kept, lost = (float(part.sum()) for part in (squares, squares[:q], squares[q:]))
    return {"rank": float(q), "energy": kept / total, "error": (lost / total) ** 0.5}
