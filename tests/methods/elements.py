"""What the tests of the element-wise methods share: inputs of every awkward shape, and a plain way to merge them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import Delta, Dense, LowRank, Rescaling, dense
from registry.methods import Site
from registry.methods._random import Stream, kept

LAW = settings(deadline=None, max_examples=40)
MODULE = "h.0.q"
WEIGHTS = [0.7, -0.4, 1.3]
Terms = Sequence[tuple[float, Delta | None]]


def merge(name: str, terms: Terms, *, seed: int = 0, module: str = MODULE, **parameters: Any) -> Delta:
    site = Site(module, [f"adapter{i}" for i in range(len(terms))], seed)
    return methods.build(name, parameters).merge([d for _, d in terms], [w for w, _ in terms], site).delta


def value(name: str, terms: Terms, **options: Any) -> Tensor:
    """The merged ΔW (or ℓ − 1) in float64."""
    return dense(merge(name, terms, **options))


def matrices(*rows: Sequence[Sequence[float]]) -> list[Dense]:
    return [Dense(torch.tensor(row, dtype=torch.float64), 1) for row in rows]


def low(m: int, n: int, rank: int, seed: int, scale: float = 2.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn((m, rank), generator=generator, dtype=torch.float64)
    return LowRank(up, torch.randn((rank, n), generator=generator, dtype=torch.float64), scale)


def three(m: int = 7, n: int = 5) -> list[LowRank]:
    """Three inputs of mixed ranks."""
    return [low(m, n, rank, seed) for seed, rank in enumerate((1, 4, 2))]


def vectors() -> list[Rescaling]:
    return [Rescaling(dense(delta).flatten(), feedforward=False) for delta in three(1, 12)]


@st.composite
def inputs(draw: st.DrawFn) -> list[LowRank | None]:
    """Three inputs of one module: mixed ranks (also beyond min(m, n)), 1×n, zero adapters, a missing module."""
    m, n = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    made: list[LowRank | None] = []
    for _ in range(3):
        found = low(
            m, n, draw(st.integers(1, 8)), draw(st.integers(0, 999)), draw(st.sampled_from([0.5, -2.0]))
        )
        what = draw(st.sampled_from(["some", "some", "some", "zero", "none"]))
        zero = LowRank(torch.zeros_like(found.up), found.down)
        made.append({"some": found, "zero": zero, "none": None}[what])
    return made if any(made) else [low(m, n, 1, 0), *made[1:]]


def terms(
    deltas: Sequence[Delta | None], weights: Sequence[float] = WEIGHTS
) -> list[tuple[float, Delta | None]]:
    return list(zip(weights[: len(deltas)], deltas, strict=True))


class Masks:
    """Stands in for ``torch.bernoulli``: a peer draws what our streams hold, one stream per call, in order."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.left = list(streams)

    def __call__(self, probabilities: Tensor) -> Tensor:
        return kept(self.left.pop(0), probabilities, probabilities.double()).to(probabilities.dtype)
