from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from registry.methods import About
from registry.methods._elementwise import Elected, Elementwise

if TYPE_CHECKING:
    from torch import Tensor

    from registry.methods._blocks import Merge, Term


class Sce(Elementwise):
    """SCE: select what varies most, calculate coefficients, erase the minority.

    The formula holds for every element e, with ``δᵢ ← wᵢδᵢ``. Select: ``δ̂ᵢ`` keeps the elements whose variance over
    all inputs is largest, ``int(density·v)`` of the v that vary at all (of equal ones the first). Calculate: ``cᵢ`` is
    the mean square of ``δ̂ᵢ``. Erase: ``γₑ = sgn(Σ δ̂ᵢ)``, and ``Aₑ`` are the inputs with ``sgn(δ̂ᵢ) = γₑ ≠ 0``. λ is
    ``scale``. The method weighs its inputs itself, so the weights scale them before all this, and one input alone has
    no variance. An input without the module takes part as zeros.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ_{i∈Aₑ} cᵢδ̂ᵢ / Σ_{i∈Aₑ} cᵢ",
        source="Wan, Zhong, Yang, Chen & Quan, FuseChat, arXiv 2408.07990, section 3.3",
        domain="element-wise",
        cost="O(m·n·k)",
        example="sce(a, b, density=0.2)",
        in_mergekit="`sce`: weights 1 and `tie=positive`; differs for small deltas, since its cut-offs are absolute "
        "(equal coefficients once all mean squares sum to less than 1e-6)",
    )

    arity: ClassVar[tuple[int, int | None]] = (2, None)

    density: Annotated[
        Decimal, Field(gt=0, le=1, description="the share of varying elements kept, per tensor")
    ]
    tie: Literal["zero", "positive"] = Field(
        default="zero", description=Elected.model_fields["tie"].description
    )

    def formula(self, terms: Sequence[Term], weights: Sequence[float]) -> Merge:
        from registry.methods import _sparsify
        from registry.methods._blocks import blocks

        def weighted(values: Sequence[Tensor]) -> list[Tensor]:
            return [block * term.weight for block, term in zip(values, terms, strict=True)]

        def variances() -> Iterator[tuple[int, Tensor]]:
            return (
                (start, _sparsify.variance(weighted(values), len(weights))) for start, values in blocks(terms)
            )

        cut = _sparsify.varying(variances, terms[0].size, float(self.density)) if self.density < 1 else None

        def selected(values: Sequence[Tensor], start: int) -> list[Tensor]:
            parts = weighted(values)
            if cut is None:
                return parts
            mask = cut.trim(_sparsify.variance(parts, len(weights)), start).sign_()
            return [part.mul_(mask) for part in parts]

        squares = [0.0 for _ in terms]
        for start, values in blocks(terms):
            for i, part in enumerate(selected(values, start)):
                squares[i] += _sparsify.squares(part)
        whole = sum(squares) or 1.0
        shares = [square / whole for square in squares]

        def merge(values: Sequence[Tensor], start: int) -> Tensor:
            parts = selected(values, start)
            elected = _sparsify.majority(parts, [1.0] * len(parts), sign="total", tie=self.tie)
            return _sparsify.disjoint(parts, shares, elected, weighted=False, divisor="weight")

        return merge
