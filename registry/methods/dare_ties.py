from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry.methods import About
from registry.methods._elementwise import Density, Elected, RandomRescale

if TYPE_CHECKING:
    from registry.methods._blocks import Step, Term


class DareTies(Elected):
    """DARE, then TIES' election.

    ``δ̂ᵢ = (bᵢ∘δᵢ)/density``, with ``bᵢ`` 1 with probability ``density``, else 0, drawn as in ``dare``;
    ``γₑ = sgn(Σ wᵢδ̂ᵢ)``; ``Aₑ`` are the inputs with ``sgn(wᵢδ̂ᵢ) = γₑ ≠ 0``, as in ``ties``. λ is ``scale``.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|",
        source="Yu et al., ICML 2024, arXiv 2311.03099, section 3, with Yadav et al., NeurIPS 2023, arXiv 2306.01708",
        domain="element-wise",
        cost="O(m·n·k)",
        example="dare_ties(a, b, density=0.3)",
        in_peft="`dare_ties_svd`: `elect=unweighted tie=positive`; `dare_ties`: also `on=factors`; other draws",
        in_mergekit="`dare_ties`: `rescale=l1 tie=positive divisor=none`; `divisor=signed` for `normalize: true`; "
        "other draws",
    )

    algorithm: ClassVar[int] = 2  # 1 drew 53 bits of every number at once
    density: Density
    rescale: RandomRescale = "density"

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        return _sparsify.dropping(term, float(self.density), self.rescale)
