"""Inputs for the methods that are exact in the core, and what their dense definitions are written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import assume, settings
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import Delta, LowRank, Rescaling, dense
from registry.methods import Merged, Site

LAW = settings(deadline=None, max_examples=60)
WEIGHTS = st.sampled_from([1.0, 0.5, -0.7, 2.0])

Stack = tuple[list[LowRank | None], list[float]]
"""Inputs, None where the module is missing, and their weights."""


def low(
    m: int, n: int, k: int, seed: int, scale: float = 1.0, *, dtype: torch.dtype = torch.float64
) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((m, k), (k, n)))
    return LowRank(up.to(dtype), down.to(dtype), scale)


def vector(seed: int, size: int = 7) -> Rescaling:
    generator = torch.Generator().manual_seed(seed)
    return Rescaling(torch.randn(size, generator=generator, dtype=torch.float64), feedforward=False)


@st.composite
def stacks(draw: st.DrawFn, least: int = 1, most: int = 4) -> Stack:
    """Modules of every sort: 1×n, rank 1, mixed ranks, k > min(m, n), rank-deficient, zero, repeated, missing."""
    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    count = draw(st.integers(least, most))
    found: list[LowRank | None] = []
    for _ in range(count):
        sort = draw(st.sampled_from(["plain", "plain", "plain", "deficient", "zero", "again", "missing"]))
        delta = low(
            m,
            n,
            draw(st.integers(1, 11)),
            draw(st.integers(0, 2**16)),
            draw(st.sampled_from([1.0, -2.0, 0.3])),
        )
        if sort == "deficient":
            delta.up[:, delta.rank // 2 :] = delta.up[:, :1]
        elif sort == "zero":
            delta.up.zero_()
        earlier = [one for one in found if one is not None]
        again = earlier[0] if sort == "again" and earlier else delta
        found.append(None if sort == "missing" else again)
    assume(any(delta is not None for delta in found))
    return found, [draw(WEIGHTS) for _ in range(count)]


def merge(
    name: str, deltas: Sequence[Delta | None], weights: Sequence[float] | None = None, **parameters: Any
) -> Merged:
    names = [f"adapter{i}" for i in range(len(deltas))]
    weights = [1.0] * len(deltas) if weights is None else weights
    return methods.build(name, parameters).merge(deltas, weights, Site("h.0.q", names, 3))


def merged(
    name: str, deltas: Sequence[Delta | None], weights: Sequence[float] | None = None, **parameters: Any
) -> Tensor:
    """The result's ΔW."""
    return dense(merge(name, deltas, weights, **parameters).delta)


def around(
    name: str, deltas: Sequence[Delta | None], inner: Callable[[list[Tensor]], Tensor], **parameters: Any
) -> Tensor:
    """The ΔW of a method that wraps ``inner``, a function of dense matrices."""

    def applied(small: Sequence[Delta | None]) -> Merged:
        shape = next(one.shape for one in small if one is not None)
        found = inner(
            [torch.zeros(shape, dtype=torch.float64) if one is None else dense(one) for one in small]
        )
        return Merged(LowRank(found, torch.eye(found.shape[1], dtype=torch.float64)))

    return dense(methods.build(name, parameters).around(applied, deltas).delta)


def wholes(deltas: Sequence[Delta | None], weights: Sequence[float] | None = None) -> list[Tensor]:
    """``wᵢ·ΔWᵢ``, dense."""
    shape = next(delta.shape for delta in deltas if delta is not None)
    weights = [1.0] * len(deltas) if weights is None else weights
    return [
        torch.zeros(shape, dtype=torch.float64) if delta is None else weight * dense(delta)
        for weight, delta in zip(weights, deltas, strict=True)
    ]


def distance(found: Tensor, expected: Tensor) -> float:
    """The relative difference; absolute where zero is expected."""
    return float((found - expected).norm()) / (float(expected.norm()) or 1.0)


def turned(delta: LowRank, seed: int) -> LowRank:
    """The same ΔW, factored in another way."""
    k = delta.rank
    gauge = torch.randn((k, k), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gauge = gauge + 4 * torch.eye(k, dtype=torch.float64)
    return LowRank(delta.up @ gauge, torch.linalg.solve(gauge, delta.down), delta.scale)


def cut(x: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and Vᵀ of a dense matrix, less the singular values up to ``floor``."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    kept = int((s > floor).sum())
    return u[:, :kept], s[:kept], v[:kept]


def isometry(x: Tensor) -> Tensor:
    """The polar factor of a dense matrix, zero on its null space."""
    if not x.numel():
        return x
    u, _, v = cut(x, 1e-7 * float(torch.linalg.matrix_norm(x, 2)))
    return u @ v


def largest(matrices: Sequence[Tensor]) -> float:
    return max(float(torch.linalg.matrix_norm(x, 2)) for x in matrices)
