from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry.methods import About
from registry.methods._elementwise import Density, Elected, NormRescale

if TYPE_CHECKING:
    from registry.methods._blocks import Step, Term


class Ties(Elected):
    """TIES: trim, elect a sign, average those that agree.

    The formula holds for every element e. ``δ̂ᵢ`` keeps the ``int(density·elements)`` elements of ``δᵢ`` of largest
    magnitude (of equal ones the first); ``γₑ = sgn(Σ wᵢδ̂ᵢ)``; ``Aₑ`` are the inputs with ``sgn(wᵢδ̂ᵢ) = γₑ ≠ 0``; λ is
    ``scale``. The weights scale the inputs before all this, so the defaults are the paper's formula on the task
    vectors ``wᵢδᵢ``, and negative weights negate.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|",
        source="Yadav, Tam, Choshen, Raffel & Bansal, TIES-Merging, NeurIPS 2023, arXiv 2306.01708, section 3",
        domain="element-wise",
        cost="O(m·n·k)",
        example="ties(0.6*a, 0.4*b, density=0.2)",
        in_peft="`ties_svd`: `elect=unweighted tie=positive`; `ties`: also `on=factors`; `majority_sign_method` is "
        "`sign`",
        in_mergekit="`ties`: `tie=positive divisor=signed`; `divisor=none` for `normalize: false`, `rescale=l1` for "
        "`rescale: true` (it keeps one element at least)",
    )

    density: Density
    rescale: NormRescale = "none"

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        cut = _sparsify.top(term, _sparsify.count_of(float(self.density), term))
        return _sparsify.rescaled(cut.trim, term, self.rescale)
