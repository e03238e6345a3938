from __future__ import annotations

from typing import TYPE_CHECKING

from registry.methods._elementwise import Density, NormRescale, Summed, Term

if TYPE_CHECKING:
    from torch import Tensor


class MagnitudePrune(Summed):
    """Magnitude pruning: ``λ · Σ wᵢ·top(δᵢ)``, each input keeping its elements of largest magnitude.

    ``top`` keeps ``int(density·elements)`` of them (of equal ones the first) as they are; the rest becomes 0.

    As PEFT (``magnitude_prune_svd`` with ``on=delta``, ``magnitude_prune`` with ``on=factors``): the defaults.
    mergekit has no such method; its ``ties`` would be this one without the election, ``rescale=l1`` its ``rescale``.

    Source: the formula is PEFT's (``peft.utils.merge_utils.magnitude_prune``); pruning by magnitude is Han, Pool,
    Tran & Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015, arXiv 1506.02626.
    """

    density: Density
    rescale: NormRescale = "none"

    def sparse(self, term: Term) -> Tensor:
        from registry.methods import _sparsify

        count = _sparsify.count_of(float(self.density), term.values)
        return _sparsify.masked(term.values, _sparsify.largest(term.values.abs(), count), self.rescale)
