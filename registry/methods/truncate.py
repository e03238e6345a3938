from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field, model_validator

from registry.methods import About, Merged, Method, Site
from registry.methods._core import canonical_signs, leading, one_thread, singular
from registry.methods._gram import is_suited, truncated

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, LowRank


class Truncate(Method):
    """The best approximation of lower rank.

    ``ΔW = Σ σᵢuᵢvᵢᵀ``, and no matrix of rank q is closer to it in Frobenius norm; the relative error is
    ``√(Σ_{i>q}σᵢ² / Σσᵢ²)``. Give one of ``rank`` and ``energy``. Computed from the stacked factors by QR and a small
    SVD in float64, or for float32 factors from their Gram matrices where that is as good (``gram`` then reports the
    bits of its products); a ΔW that is dense already is cut to a rank by block Krylov iteration. Both factors get ``√σᵢ``.
    Reports ``rank``, ``energy`` kept and relative ``error`` per module. Parameters stored whole stay as they are.
    """

    about: ClassVar[About] = About(
        formula="Σ_{i≤q} σᵢuᵢvᵢᵀ",
        source="Eckart & Young, Psychometrika 1 (1936)",
        domain="core",
        cost="O((m + n)·k² + k³)",
        example="truncate(a + b, rank=16)",
        in_peft="`svd` with `svd_rank`, of a dense ΔW; the same ΔW, other factors",
        in_mergekit="`mergekit-extract-lora --max-rank`, of the difference of two whole models",
        in_adapters="`lora_delta_w_svd` with `normalize_weights=False`, r/svd_rank times as large",
    )

    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_dense: ClassVar[bool] = True

    rank: int | None = Field(default=None, ge=1, description="q, or less where ΔW has less")
    energy: Decimal | None = Field(
        default=None, gt=0, le=1, description="the share of Σσᵢ² to keep, with the smallest q that does"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Truncate:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("give either rank or energy")
        return self

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import Dense, doubled, factored, stack, total
        from registry.forms import EXACT
        from registry.methods._lowrank import low_rank

        del site
        given = [
            (w, cast("LowRank | Dense", d)) for w, d in zip(weights, deltas, strict=True) if d is not None
        ]
        first = given[0][1]
        if first.form in EXACT:
            return Merged(total(given))
        if self.rank is not None and any(isinstance(delta, Dense) for _, delta in given):
            return low_rank(replace(total(given), rank=min(self.rank, *first.shape)))
        low = [(w, factored(d) if isinstance(d, Dense) else d) for w, d in given]
        whole = stack(low)
        with one_thread(whole.up.device):
            if is_suited(whole.up, whole.down) and (found := truncated(whole.up, whole.down, self._kept)):
                signs = canonical_signs(found.left)
                up, down = found.left * signs, signs[:, None] * found.right  # (m, q), (q, n)
                report = {**_report(found.squares, up.shape[1]), "gram": float(found.bits)}
                return Merged(replace(whole, up=up, down=down), report)
            return self._by_qr(stack([(w, doubled(d)) for w, d in low]))

    def _by_qr(self, whole: LowRank) -> Merged:
        parts = singular(whole)
        if not len(parts.values):
            return Merged(leading(whole, parts, 0), {"rank": 1.0, "energy": 1.0, "error": 0.0})
        squares = parts.values.square()
        q = self._kept(squares)
        return Merged(leading(whole, parts, q), _report(squares, q))

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return min(sum(ranks), self.rank or sum(ranks))

    def _kept(self, squares: Tensor) -> int:
        if self.rank is not None:
            return min(self.rank, len(squares))
        kept = squares.cumsum(0)  # (s,)
        return int((kept < float(self.energy or 1) * kept[-1]).sum()) + 1


def _report(squares: Tensor, q: int) -> Mapping[str, float]:
    total, kept, lost = (float(part.sum()) for part in (squares, squares[:q], squares[q:]))
    return {"rank": float(q), "energy": kept / total, "error": (lost / total) ** 0.5}
