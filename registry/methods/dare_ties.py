from __future__ import annotations

from typing import TYPE_CHECKING

from registry.methods._elementwise import Density, Elected, RandomRescale, Term

if TYPE_CHECKING:
    from torch import Tensor


class DareTies(Elected):
    """DARE, then TIES' election: ``λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|`` with ``δ̂ᵢ = (bᵢ∘δᵢ)/density``, bᵢ random.

    ``bᵢ`` is 1 with probability ``density``, else 0, drawn as in ``dare``; ``γₑ = sgn(Σ wᵢδ̂ᵢ)``; ``Aₑ`` are the inputs
    with ``sgn(wᵢδ̂ᵢ) = γₑ ≠ 0``, as in ``ties``.

    As PEFT (``dare_ties_svd`` with ``on=delta``, ``dare_ties`` with ``on=factors``), but for the draws:
    ``elect=unweighted tie=positive``. As mergekit, likewise: ``rescale=l1 tie=positive divisor=none``, with
    ``divisor=signed`` for its ``normalize: true``.

    Source: Yu et al., ICML 2024, arXiv 2311.03099, section 3, with Yadav et al., NeurIPS 2023, arXiv 2306.01708.
    """

    density: Density
    rescale: RandomRescale = "density"

    def sparse(self, term: Term) -> Tensor:
        from registry.methods import _random

        return _random.dropped(term.values, term.stream, float(self.density), self.rescale)
