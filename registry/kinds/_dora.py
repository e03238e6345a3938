"""DoRA's delta, which depends on the base model's weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Dense, LowRank


def dora_delta(low: LowRank, magnitude: Tensor, base: Tensor) -> Dense:
    """``m·(W + ΔW)/‖W + ΔW‖ − W``, norms taken over each output feature, in float64; of full rank.

    ``base`` is W in the orientation of ΔW, ``(m, n)``. Source: Liu et al., "DoRA: Weight-Decomposed Low-Rank
    Adaptation", ICML 2024, arXiv 2402.09353, equation 5.
    """
    import torch

    from registry.deltas import Dense, dense

    weight = base.double()
    moved = weight + dense(low)  # (m, n)
    moved *= (magnitude.double().flatten() / torch.linalg.vector_norm(moved, dim=1))[:, None]
    return Dense(moved.sub_(weight), min(low.shape), low.form, low.kernel)
