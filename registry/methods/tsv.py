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


class Tsv(Method):
    """TSV-Merge: the inputs' leading singular vectors, made orthogonal to each other.

    Each ``wᵢΔWᵢ ≈ Uᵢ Σᵢ Vᵢᵀ`` keeps its first singular values: ``rank`` of them, or the share ``keep`` of its own
    rank (rounded up), or, where neither is given, the paper's ``⌊min(m, n)/N⌋`` (at least one), N the inputs. With
    ``U = [U₁ … U_N]``, ``V`` likewise and Σ diagonal, ``U⊥`` and ``V⊥`` are the polar factors, the nearest
    matrices with orthonormal columns. Where U has dependent columns (repeated inputs, more columns than rows) the
    polar factor is a partial isometry, which is ours: the paper's is not unique there. Reports ``rank``.
    """

    about: ClassVar[About] = About(
        formula="scale · U⊥ Σ V⊥ᵀ",
        source="Gargiulo et al., Task Singular Vectors, CVPR 2025, arXiv 2412.00081",
        domain="core",
        cost="O((m + n)·k² + N·k³)",
        example="tsv(a, b, keep=0.5)",
    )

    rank: int | None = Field(default=None, ge=1, description="singular values kept of each input")
    keep: Decimal | None = Field(
        default=None, gt=0, le=1, description="the share of each input's own rank that is kept, rounded up"
    )
    scale: Decimal = Field(default=Decimal(1), description="a factor of the whole result")

    @model_validator(mode="after")
    def _at_most_one(self) -> Tsv:
        if self.rank is not None and self.keep is not None:
            raise ValueError("give rank or keep, not both")
        return self

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.methods._joint import joint, lift, parts, polar

        del site
        found = joint(deltas, weights)
        room = max(1, min(found.like.shape) // len(weights))
        with one_thread(found.left.device):
            each = [parts(c, found.floor) for c in found.cores]
            kept = [self._kept(len(p.values), room) for p in each]
            u = torch.cat([p.left[:, :q] for p, q in zip(each, kept, strict=True)], dim=1)  # (p, Σq)
            s = torch.cat([p.values[:q] for p, q in zip(each, kept, strict=True)])  # (Σq,)
            v = torch.cat([p.right[:q] for p, q in zip(each, kept, strict=True)])  # (Σq, q)
            middle = float(self.scale) * (polar(u) * s) @ polar(v)  # (p, q)
            delta = lift(found, middle)
        return Merged(delta, {"rank": float(delta.rank)})

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return sum(self._kept(rank, rank) for rank in ranks)

    def _kept(self, rank: int, room: int) -> int:
        if self.rank is not None:
            return min(self.rank, rank)
        return min(room, rank) if self.keep is None else math.ceil(self.keep * rank)
