from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from registry.methods._elementwise import Density, Elected, RandomRescale, Term

if TYPE_CHECKING:
    from torch import Tensor


class Della(Elected):
    """DELLA: drop at random, small elements likelier; elect a sign; fuse: ``λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|``.

    ``δ̂ᵢ = (bᵢ∘δᵢ)/pᵢ``; ``bᵢ`` is 1 with probability ``pᵢ = density − epsilon + 2·epsilon·r/(n − 1)``, where r is the
    rank of the element's magnitude in its row of n, from 0 for the smallest (of equal ones the first is lower), and
    ``pᵢ = density`` where n is 1. A row is one output feature of ΔW, (IA)³'s vector is one row. ``γₑ`` and ``Aₑ`` are
    those of ``ties``, and ``elect=none`` adds all inputs: ``della_linear``.

    The paper spreads the probabilities over its ε in all, mergekit and this over ±epsilon. As mergekit, but for the
    draws: ``rescale=l1 tie=positive divisor=signed`` for ``della``, and ``rescale=l1 elect=none divisor=none`` for
    ``della_linear``. Not in PEFT.

    Source: Deep, Bhardwaj & Poria, "DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based
    Sampling", arXiv 2406.11617, section 3.
    """

    density: Density
    epsilon: Decimal = Field(
        default=Decimal("0.15"),
        ge=0,
        lt=1,
        description="how far probabilities reach to both sides of density",
    )
    rescale: RandomRescale = "density"

    @model_validator(mode="after")
    def _probabilities(self) -> Della:
        if self.density + self.epsilon > 1 or self.density < self.epsilon:
            raise ValueError("density - epsilon and density + epsilon must lie between 0 and 1")
        return self

    def sparse(self, term: Term) -> Tensor:
        from registry.methods import _random, _sparsify

        density, epsilon = float(self.density), float(self.epsilon)
        if not epsilon or term.values.shape[-1] == 1:
            return _random.dropped(term.values, term.stream, density, self.rescale)
        ranks = _sparsify.row_ranks(term.values).double()
        probability = density - epsilon + 2 * epsilon * ranks / (term.values.shape[-1] - 1)
        return _random.dropped(term.values, term.stream, probability, self.rescale)
