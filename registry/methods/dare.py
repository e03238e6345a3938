from __future__ import annotations

from typing import TYPE_CHECKING

from registry.methods._elementwise import Density, RandomRescale, Summed, Term

if TYPE_CHECKING:
    from torch import Tensor


class Dare(Summed):
    """DARE, drop and rescale: ``λ · Σ wᵢ·(bᵢ∘δᵢ)/density`` with ``bᵢ`` 1 with probability ``density``, else 0.

    Every element is drawn by itself, for every input and module separately (see ``registry.methods._random``); the
    recipe's seed decides the draws. Over seeds, the average is the exact sum.

    As PEFT (``dare_linear_svd`` with ``on=delta``, ``dare_linear`` with ``on=factors``): the defaults, but for the
    draws, which are PEFT's global generator's. As mergekit's ``dare_linear``, likewise: ``rescale=l1``, with
    ``rescale=none`` for its ``rescale: false`` and ``divisor=signed`` for its ``normalize: true``.

    Source: Yu, Yu, Yu, Huang & Li, "Language Models are Super Mario: Absorbing Abilities from Homologous Models as
    a Free Lunch", ICML 2024, arXiv 2311.03099, section 3.
    """

    density: Density
    rescale: RandomRescale = "density"

    def sparse(self, term: Term) -> Tensor:
        from registry.methods import _random

        return _random.dropped(term.values, term.stream, float(self.density), self.rescale)
