from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from registry.methods import About, Merged, Method, Site
from registry.methods._elementwise import gathered, nothing, on_factors

if TYPE_CHECKING:
    from registry.deltas import Delta
    from registry.methods._blocks import Merge, Term


class Linear(Method):
    """PEFT's ``linear``: a sum of factors, each with the root of its weight.

    Not the exact sum: cross terms ``√(wᵢsᵢwⱼsⱼ)·BᵢAⱼ`` come with it, as large as the sum itself for inputs of
    different initializations, and an average of n adapters with one initialization comes out n times too large. It
    is here to reproduce what PEFT made; ``a + b`` is exact. One input alone comes back exactly, as in PEFT. Needs
    equal ranks; an input without the module contributes nothing.
    """

    about: ClassVar[About] = About(
        formula="ΔW = B·A, A = Σ sgn(wᵢsᵢ)·√|wᵢsᵢ|·Aᵢ, B = Σ √|wᵢsᵢ|·Bᵢ",
        source="PEFT 0.21.2, `LoraModel.add_weighted_adapter`; signs as since 0.19.0",
        domain="factors",
        cost="O((m + n)·k)",
        example="linear(0.5*a, 0.5*b)",
        in_peft="`linear`",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._sparsify import weighted_sum

        def summed(terms: Sequence[Term]) -> Merge:
            return lambda values, _: weighted_sum(values, [term.weight for term in terms])

        live, first, dtype = gathered(deltas, weights, site)
        return Merged(on_factors("linear", live, site, dtype, summed) if live else nothing(first, dtype))

    def needs_equal_ranks(self) -> bool:
        return True

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return max(ranks, default=1)
