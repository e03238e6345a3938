from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from registry.methods import About
from registry.methods._elementwise import Density, Elected, RandomRescale

if TYPE_CHECKING:
    from torch import Tensor

    from registry.methods._blocks import Step, Term


class Della(Elected):
    """DELLA: drop at random, small elements likelier, elect a sign, and fuse.

    ``δ̂ᵢ = (bᵢ∘δᵢ)/pᵢ``; ``bᵢ`` is 1 with probability ``pᵢ = density − epsilon + 2·epsilon·r/(n − 1)``, where r is the
    rank of the element's magnitude in its row of n, from 0 for the smallest (of equal ones the first is lower), and
    ``pᵢ = density`` where n is 1. A row is one output feature of ΔW, (IA)³'s vector is one row. ``γₑ`` and ``Aₑ`` are
    those of ``ties``, λ is ``scale``, and ``elect=none`` adds all inputs. The paper spreads the probabilities over
    its ε in all, mergekit and this over ±epsilon.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|",
        source="Deep, Bhardwaj & Poria, DELLA-Merging, arXiv 2406.11617, section 3",
        domain="element-wise",
        cost="O(m·n·(k + N·log n))",
        example="della(a, b, density=0.4, epsilon=0.15)",
        in_mergekit="`della`: `rescale=l1 tie=positive divisor=signed`; `della_linear`: `rescale=l1 elect=none "
        "divisor=none`; other draws",
    )

    algorithm: ClassVar[int] = 2  # 1 drew 53 bits of every number at once
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

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        density, epsilon, n = float(self.density), float(self.epsilon), term.shape[1]
        if not epsilon or n == 1:
            return _sparsify.dropping(term, density, self.rescale)

        def probability(values: Tensor) -> Tensor:
            return density - epsilon + 2 * epsilon * _sparsify.row_ranks(values).double() / (n - 1)

        return _sparsify.dropping(term, probability, self.rescale)
