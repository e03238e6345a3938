from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry.methods import About
from registry.methods._elementwise import Density, NormRescale, Summed

if TYPE_CHECKING:
    from registry.methods._blocks import Step, Term


class MagnitudePrune(Summed):
    """Magnitude pruning: each input keeps its elements of largest magnitude.

    ``top`` keeps ``int(density·elements)`` of them (of equal ones the first) as they are; the rest becomes 0. λ is
    ``scale``.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ wᵢ·top(δᵢ)",
        source="PEFT 0.21.2, `peft.utils.merge_utils.magnitude_prune`; pruning by magnitude is Han, Pool, Tran & Dally, "
        "NeurIPS 2015, arXiv 1506.02626",
        domain="element-wise",
        cost="O(m·n·k)",
        example="magnitude_prune(a, b, density=0.2)",
        in_peft="`magnitude_prune_svd`: the defaults; `magnitude_prune`: `on=factors`",
    )

    density: Density
    rescale: NormRescale = "none"

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        cut = _sparsify.top(term, _sparsify.count_of(float(self.density), term))
        return _sparsify.rescaled(cut.trim, term, self.rescale)
