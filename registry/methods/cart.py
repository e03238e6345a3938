from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from registry.deltas import Delta


class Cart(Method):
    """CART: the mean, and what each input adds to it, at low rank.

    ``M = (1/N)·Σ wᵢΔWᵢ``, and ``[·]_q`` is the best approximation of rank q: ``rank``, or the share ``keep`` of the
    rank of ``wᵢΔWᵢ − M``, rounded up. (The paper's share is of ``min(m, n)``, more than a LoRA has.) An input
    without the module is a zero delta. Reports ``rank``.
    """

    about: ClassVar[About] = About(
        formula="M + scale · Σ [wᵢΔWᵢ − M]_q",
        source="Choi et al., Revisiting Weight Averaging for Model Merging, arXiv 2412.12153",
        domain="core",
        cost="O((m + n)·k² + N·k³)",
        example="cart(a, b, keep=0.5)",
    )

    rank: int | None = Field(
        default=None, ge=1, description="singular values kept of each input less the mean"
    )
    keep: Decimal | None = Field(
        default=None, gt=0, le=1, description="the share of its rank that is kept, rounded up"
    )
    scale: Decimal = Field(default=Decimal(1), description="a factor of what is added to the mean")

    @model_validator(mode="after")
    def _one_of(self) -> Cart:
        if (self.rank is None) == (self.keep is None):
            raise ValueError("give either rank or keep")
        return self

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.methods._joint import joint, lift, parts

        del site
        found = joint(deltas, weights)
        with one_thread(found.left.device):
            largest = max(float(torch.linalg.matrix_norm(core, 2)) for core in found.cores)
            mean = found.cores.mean(0)  # (p, q)
            middle = mean
            for core in found.cores:
                rest = parts(core - mean, found.floor, largest=largest)
                q = self._kept(len(rest.values))
                piece = (rest.left[:, :q] * rest.values[:q]) @ rest.right[:q]  # (p, q)
                middle = middle + float(self.scale) * piece
            delta = lift(found, middle)
        return Merged(delta, {"rank": float(delta.rank)})

    def _kept(self, rank: int) -> int:
        if self.keep is not None:
            return math.ceil(self.keep * rank)
        return min(self.rank or rank, rank)
