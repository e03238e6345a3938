from __future__ import annotations

from typing import TYPE_CHECKING

from registry.methods._elementwise import Density, Elected, NormRescale, Term

if TYPE_CHECKING:
    from torch import Tensor


class Ties(Elected):
    """TIES: trim, elect a sign, average those that agree: ``λ · Σ_{i∈Aₑ} wᵢδ̂ᵢ / |Aₑ|`` for every element e.

    ``δ̂ᵢ`` keeps the ``int(density·elements)`` elements of ``δᵢ`` of largest magnitude (of equal ones the first);
    ``γₑ = sgn(Σ wᵢδ̂ᵢ)``; ``Aₑ`` are the inputs with ``sgn(wᵢδ̂ᵢ) = γₑ ≠ 0``. The weights scale the inputs before
    all this, so the defaults are the paper's formula on the task vectors ``wᵢδᵢ``, and negative weights negate.

    As PEFT (``ties_svd`` with ``on=delta``, ``ties`` with ``on=factors``): ``elect=unweighted tie=positive``, and
    its ``majority_sign_method`` as ``sign``. As mergekit: ``tie=positive divisor=signed``, with ``divisor=none``
    for its ``normalize: false`` and ``rescale=l1`` for its ``rescale: true`` (it keeps one element at least).

    Source: Yadav, Tam, Choshen, Raffel & Bansal, "TIES-Merging: Resolving Interference When Merging Models",
    NeurIPS 2023, arXiv 2306.01708, section 3.
    """

    density: Density
    rescale: NormRescale = "none"

    def sparse(self, term: Term) -> Tensor:
        from registry.methods import _sparsify

        count = _sparsify.count_of(float(self.density), term.values)
        return _sparsify.masked(term.values, _sparsify.largest(term.values.abs(), count), self.rescale)
