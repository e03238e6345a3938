from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from registry.methods import About
from registry.methods._elementwise import Density, Divisor, Elect, Elected, NormRescale, Summed

if TYPE_CHECKING:
    from torch import Tensor

    from registry.methods._blocks import Step, Term


class Breadcrumbs(Elected):
    """Model Breadcrumbs: mask each input's largest and smallest elements, and add.

    ``mᵢ`` masks: of E elements ordered by magnitude (of equal ones the first is larger), the ``int(gamma·E)`` largest
    go, the next ``int(density·E)`` stay, the rest goes. In the paper's terms γ = ``gamma`` and
    β = 1 − ``density`` − ``gamma``. λ is ``scale``. With ``elect=weighted`` (or ``unweighted``) signs are elected as in
    ``ties``.
    """

    about: ClassVar[About] = About(
        formula="λ · Σ wᵢ·(mᵢ∘δᵢ)",
        source="Davari & Belilovsky, Model Breadcrumbs, ECCV 2024, arXiv 2312.06795, section 3",
        domain="element-wise",
        cost="O(m·n·k)",
        example="breadcrumbs(a, b, density=0.3, gamma=0.01)",
        in_mergekit="`breadcrumbs`: the defaults; `rescale=l1` for `rescale: true`, `divisor=signed` for "
        "`normalize: true`; `breadcrumbs_ties`: `elect=weighted tie=positive`",
    )

    density: Density
    gamma: Decimal = Field(
        default=Decimal("0.01"), ge=0, lt=1, description="the share of elements of largest magnitude that go"
    )
    rescale: NormRescale = "none"
    elect: Elect = Field(default="none", description=Elected.model_fields["elect"].description)
    divisor: Divisor = Field(default="none", description=Summed.model_fields["divisor"].description)

    @model_validator(mode="after")
    def _shares(self) -> Breadcrumbs:
        if self.density + self.gamma > 1:
            raise ValueError("density + gamma must not be more than 1")
        return self

    def sparse(self, term: Term) -> Step:
        from registry.methods import _sparsify

        top, stay = (_sparsify.count_of(float(share), term) for share in (self.gamma, self.density))
        outer, inner = (_sparsify.top(term, count) for count in (top + stay, top))

        def crumbs(values: Tensor, start: int) -> Tensor:
            return outer.trim(values, start).sub_(inner.trim(values, start))

        return _sparsify.rescaled(crumbs, term, self.rescale)
