from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta
    from registry.methods._joint import Parts


class IsoCts(Method):
    """Iso-CTS on rank k: common and task-specific directions, with a flat spectrum.

    k is the rank of the inputs together: the smaller of those of ``[ΔW₁ … ΔW_N]`` and ``[ΔW₁; …; ΔW_N]``. Each of
    the N inputs gets ``s = ⌊(k − ⌊common·k⌋)/N⌋`` directions, the other ``c = k − N·s`` are the first singular
    directions ``U_c Σ_c V_cᵀ`` of ``Σ wᵢΔWᵢ``. Input i adds the first s singular directions of what the common ones
    leave, ``(1 − U_c U_cᵀ)·wᵢΔWᵢ``. All of them side by side give U, Σ and V; U⊥ and V⊥ are polar factors, σ̄ is the
    mean of Σ. Directions of singular values up to ``tolerance·σ₁`` (σ₁ of the sum, or of the largest input) do not
    exist and are left out. Reports ``rank``. The paper has ``min(m, n)`` for k, which for low-rank deltas would pick
    arbitrary vectors; rounding c and s down is ours.
    """

    about: ClassVar[About] = About(
        formula="scale · σ̄ · U⊥ V⊥ᵀ",
        source="Marczak et al., No Task Left Behind: Isotropic Model Merging, ICML 2025, arXiv 2502.04959",
        domain="core",
        cost="O((m + n)·k² + N·k³)",
        example="iso_cts(a, b, common=0.8)",
    )

    common: Decimal = Field(
        default=Decimal("0.8"),
        ge=0,
        le=1,
        description="the share of the directions that the inputs have in common",
    )
    scale: Decimal = Field(default=Decimal(1), description="a factor of the whole result")
    tolerance: Decimal = Field(
        default=Decimal("0.000001"),
        ge=0,
        lt=1,
        description="singular values up to this share of the largest count as zero",
    )

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.methods._joint import joint, lift, polar

        del site
        found = joint(deltas, weights)
        with one_thread(found.left.device):
            pieces = self._directions(found.cores, found.floor)
            u = torch.cat([left for left, _, _ in pieces], dim=1)  # (p, c + N·s)
            v = torch.cat([right for _, _, right in pieces])  # (c + N·s, q)
            values = torch.cat([values for _, values, _ in pieces])
            middle = polar(u) @ polar(v) * (values.sum() / max(len(values), 1))  # (p, q)
            delta = lift(found, float(self.scale) * middle)
        return Merged(delta, {"rank": float(delta.rank)})

    def _directions(self, cores: Tensor, floor: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Left vectors, values and right vectors: the common ones first, then those of each input."""
        import torch

        from registry.methods._joint import parts

        whole = cores.sum(0)  # (p, q)
        sizes = [float(torch.linalg.matrix_norm(x, 2)) for x in (whole, *cores)]
        lost = max(float(self.tolerance), floor) * max(sizes)

        def seen(x: Tensor) -> Parts:
            return parts(x, lost, largest=1.0)

        wide, tall = torch.cat(tuple(cores), dim=1), torch.cat(tuple(cores))  # (p, N·q), (N·p, q)
        k, count = min(len(seen(wide).values), len(seen(tall).values)), len(cores)
        own = (k - int(self.common * k)) // count
        first = seen(whole)
        c = min(k - count * own, len(first.values))
        u = first.left[:, :c]  # (p, c)
        pieces = [(u, first.values[:c], first.right[:c])]
        for core in cores:
            rest = seen(core - u @ (u.T @ core))
            pieces.append((rest.left[:, :own], rest.values[:own], rest.right[:own]))
        return pieces
