from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from registry.errors import Incompatible
from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, LowRank


class RobustMerge(Method):
    """RobustMerge: factors pruned by magnitude, each rank row scaled to make up for it.

    A hat keeps the share ``density`` of a factor's entries that are largest in size (all that are as large as the
    smallest kept). ``cᵢⱼ = ‖Aᵢ[j]‖₁ / ‖Âᵢ[j]‖₁`` makes up for what pruning took from a rank row; within an input it
    is raised to its own quantile ``1 − tail``. Bᵢ carries alpha/r and the weight. Depends on how a ΔW is
    factored; needs equal ranks; inputs without the module, or of weight 0, contribute nothing. The constants are
    those of the authors' code. Ours: a row that is pruned whole, where the quotient is infinite, takes its input's
    largest finite one, and ``balanced=true``.
    """

    about: ClassVar[About] = About(
        formula="A = scale·Σᵢ Âᵢ, B[:, j] = scale·Σᵢ cᵢⱼ·B̂ᵢ[:, j] / Σᵢ cᵢⱼ",
        source="Zeng et al., RobustMerge, NeurIPS 2025, arXiv 2502.17159",
        domain="factors",
        cost="O((m + n)·k)",
        example="robust_merge(a, b)",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})

    density: Decimal = Field(
        default=Decimal("0.2"), gt=0, le=1, description="the share of a factor's entries that is kept"
    )
    tail: Decimal = Field(
        default=Decimal("0.2"),
        ge=0,
        le=1,
        description="the share of rank rows that keep a coefficient of their own",
    )
    scale: Decimal = Field(default=Decimal(2), description="a factor of A and of B")
    balanced: bool = Field(
        default=False, description="the same ΔW in factors that share its singular values evenly"
    )

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import LowRank, doubled, zero
        from registry.methods._joint import balanced

        given = [
            (name, w, doubled(cast("LowRank", d)))
            for name, w, d in zip(site.inputs, weights, deltas, strict=True)
            if d is not None
        ]
        live = [term for term in given if term[1] != 0]
        first = given[0][2]
        if not live:
            return Merged(zero(first, first.up.dtype))
        _require_equal_ranks([(name, delta.rank) for name, _, delta in live], site)
        with one_thread(first.up.device):
            up, down = self._factors([(w * d.scale * d.up, d.down) for _, w, d in live])
            merged = LowRank(up, down, form=first.form, kernel=first.kernel)
            return Merged(balanced(merged) if self.balanced else merged)

    def needs_equal_ranks(self) -> bool:
        return True

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return max(ranks)

    def _factors(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """B (m, k) and A (k, n) from those of the inputs."""
        scale = float(self.scale)
        pruned = [(self._pruned(up), self._pruned(down)) for up, down in pairs]
        makeup = [
            self._makeup(whole.abs().sum(1), left.abs().sum(1))
            for (_, whole), (_, left) in zip(pairs, pruned, strict=True)
        ]  # (k,) each
        up = sum(c * b for c, (b, _) in zip(makeup, pruned, strict=True)) / sum(makeup)  # (m, k)
        down = sum(a for _, a in pruned)  # (k, n)
        return scale * cast("Tensor", up), scale * cast("Tensor", down)

    def _pruned(self, factor: Tensor) -> Tensor:
        sizes = factor.abs().flatten()
        cut = int(len(sizes) * (1 - self.density))
        if cut == 0:
            return factor
        return factor * (factor.abs() >= sizes.kthvalue(cut).values)

    def _makeup(self, whole: Tensor, left: Tensor) -> Tensor:
        """cᵢⱼ of one input from the row sums (k,) before and after pruning."""
        import torch

        if not bool((left > 0).any()):
            return torch.ones_like(whole)
        ratio = whole / left
        finite = ratio[left > 0].max()
        ratio = torch.where(left > 0, ratio, finite)
        place = min(int(len(ratio) * (1 - self.tail)), len(ratio) - 1)
        return ratio.clamp(min=ratio.sort().values[place])


def _require_equal_ranks(ranks: Sequence[tuple[str, int]], site: Site) -> None:
    name, rank = ranks[0]
    for other, another in ranks[1:]:
        if another != rank:
            raise Incompatible(
                f"robust_merge needs equal ranks, but in module {site.module} {name} has {rank} and {other} has "
                f"{another}",
                hint="truncate both to one rank first",
            )
