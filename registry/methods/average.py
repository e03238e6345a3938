from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from registry.methods import Merged, Method, Site

if TYPE_CHECKING:
    from registry.deltas import Delta


class Average(Method):
    """The mean of the inputs: ``ΔW = (1/N) · Σ wᵢΔWᵢ``, on (IA)³ ``ℓ = 1 + (1/N) · Σ wᵢ(ℓᵢ − 1)``.

    N counts all inputs: one without the module is a zero delta, and weights are multiplied, never normalized, so
    ``average(0.5*a, 0.5*b)`` is ``0.25*a + 0.25*b``. Exact, of rank Σr.

    Source: the mean, as in model soups (Wortsman et al., ICML 2022, arXiv 2203.05482), taken of the deltas.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "ia3"})

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._flat import combine

        del site
        return Merged(combine([weight / len(weights) for weight in weights], deltas))
