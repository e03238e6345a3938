from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry.methods import About
from registry.methods._elementwise import Density, RandomRescale, Summed

if TYPE_CHECKING:
    from registry.methods._blocks import Step, Term


class Dare(Summed):
    """DARE: drop elements at random, rescale the others, and add.

    ``bᵢ`` is 1 with probability d, which is ``density``, else 0; λ is ``scale``. Every element is drawn by itself, for
    every input and module separately (see ``registry.methods._random``); the recipe's seed decides the draws. Over
    seeds, the average is the exact sum.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ wᵢ·(bᵢ∘δᵢ)/d",
        source="Yu, Yu, Yu, Huang & Li, Language Models are Super Mario, ICML 2024, arXiv 2311.03099, section 3",
        domain="element-wise",
        cost="O(m·n·k)",
        example="dare(a, b, density=0.3)",
        in_peft="`dare_linear_svd`: the defaults; `dare_linear`: `on=factors`; other draws, PEFT's come from the "
        "global generator",
        in_mergekit="`dare_linear`: `rescale=l1`; `rescale=none` for `rescale: false`, `divisor=signed` for "
        "`normalize: true`; other draws",
    )

    algorithm: ClassVar[int] = 2  # 1 drew 53 bits of every number at once
    density: Density
    rescale: RandomRescale = "density"

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        return _sparsify.dropping(term, float(self.density), self.rescale)
