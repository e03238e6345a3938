from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, LowRank


class Lego(Method):
    """LoRA-LEGO: the inputs' rank-one units, clustered; each mean is a rank of the result.

    Unit j of input i is the vector ``[Aᵢ[j], wᵢsᵢBᵢ[:, j]]``; k-means makes ``rank`` clusters of all units (the
    largest rank of the inputs where none is given), and the two halves of a cluster's mean are a row ``a_c`` of A and
    a column ``b_c`` of B. With ``reweight`` the mean of a cluster is stretched to the mean length of its units
    (``parameters``: averaging shrinks), ΔW is scaled by ``√(r/q)``, r the largest rank of the inputs and q the
    number of clusters (``output``: more units vary more), both (``dual``), or neither (``none``). Units that are zero
    are left out. Depends on how a ΔW is factored. Reports ``rank``.

    Ours: alpha/r and weight are part of B, k-means starts with k-means++ from the recipe's seed and the module's
    name, with the units sorted by size (so that the order of the inputs does not matter, unless sizes coincide),
    the reading of the two reweightings, and ``balanced=true``.
    """

    about: ClassVar[About] = About(
        formula="Σ_c b_c a_cᵀ over q clusters c",
        source="Zhao et al., Merging LoRAs like Playing LEGO, ICLR 2025, arXiv 2409.16167",
        domain="factors",
        cost="O((m + n)·(k² + I·k·q)) for I steps of k-means",
        example="lego(a, b, rank=8)",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})

    rank: int | None = Field(
        default=None, ge=1, description="the number of clusters; by default the inputs' largest rank"
    )
    reweight: Literal["dual", "parameters", "output", "none"] = Field(
        default="dual", description="stretch the clusters' means, scale the whole, both, or neither"
    )
    balanced: bool = Field(
        default=False, description="the same ΔW in factors that share its singular values evenly"
    )

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.deltas import LowRank, doubled, require_same, zero
        from registry.methods._joint import balanced

        given = [
            (w, doubled(cast("LowRank", d))) for w, d in zip(weights, deltas, strict=True) if d is not None
        ]
        first = given[0][1]
        require_same([delta for _, delta in given])
        with one_thread(first.up.device):
            units = torch.cat(
                [torch.cat([d.down, w * d.scale * d.up.T], dim=1) for w, d in given]
            )  # (Σr, n + m)
            n = first.shape[1]
            sizes = units[:, :n].norm(dim=1) * units[:, n:].norm(dim=1)  # (Σr,)
            order = sizes.argsort(descending=True, stable=True)
            units = units[order[: int((sizes > 0).sum())]]
            if not len(units):
                return Merged(zero(first, units.dtype), {"rank": 1.0})
            means = self._means(units, max(delta.rank for _, delta in given), site)  # (k, n + m)
            merged = LowRank(means[:, n:].T, means[:, :n], form=first.form, kernel=first.kernel)
            merged = balanced(merged) if self.balanced else merged
        return Merged(merged, {"rank": float(merged.rank)})

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return min(sum(ranks), self.rank or max(ranks))

    def _means(self, units: Tensor, rank: int, site: Site) -> Tensor:
        """The clusters' means ``(k, n + m)``, reweighted."""
        import torch

        from registry.methods._clusters import clusters

        own = clusters(units, self.rank or rank, f"lego {site.seed} {site.module}").to(units.device)  # (U,)
        rows = []
        for c in range(int(own.max()) + 1):
            members = units[own == c]
            mean = members.mean(0)
            length = mean.norm()
            if self.reweight in {"dual", "parameters"} and float(length) > 0:
                mean = mean * (members.norm(dim=1).mean() / length)
            rows.append(mean)
        means = torch.stack(rows)  # (k, n + m)
        if self.reweight in {"dual", "output"}:
            means = means * (rank / len(means)) ** 0.25  # on both factors, so √ of it on ΔW
        return means
