"""What the element-wise methods share. They are not invariant under changes of basis, so they need ΔW itself.

``on="delta"``: the formula works on each ``ΔWᵢ`` as a matrix (on ``ℓᵢ − 1`` for (IA)³), one module at a time, in blocks
of rows: a method may go over its inputs to measure them, and then gives a function that merges a block.
``on="factors"``: it works on the A's and on the B's separately, with weights ``sgn(wᵢsᵢ)·√|wᵢsᵢ|`` and
``√|wᵢsᵢ|``, as PEFT's ``add_weighted_adapter`` does.

An input of weight 0, and one without the module, is the zero delta: it has no vote and is not counted among those
that agree. (In PEFT an input of weight 0 votes.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from registry.errors import Incompatible
from registry.methods import Merged, Method, Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from registry.deltas import Delta, LowRank
    from registry.methods._blocks import Merge, Step, Term
    from registry.methods._random import Stream

On = Literal["delta", "factors"]
Divisor = Literal["none", "count", "weight", "signed"]
Elect = Literal["weighted", "unweighted", "none"]
Density = Annotated[Decimal, Field(gt=0, le=1, description="the share of elements kept, per tensor")]
NormRescale = Annotated[
    Literal["none", "l1"],
    Field(description="l1 scales what is kept of an input up to the L1 norm that it had"),
]
RandomRescale = Annotated[
    Literal["density", "l1", "none"],
    Field(
        description="what is kept is divided by its probability of being kept, so that the input is right on "
        "average; or scaled up to the L1 norm that the input had; or left"
    ),
]


@dataclass(frozen=True)
class Live:
    """An input that has the module and a weight other than 0."""

    position: int
    name: str
    weight: float
    delta: Delta


class Elementwise(Method):
    """Base of the methods that are a formula on every element."""

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector", "ia3"})
    takes_dense: ClassVar[bool] = True

    on: On = Field(default="delta", description="work on ΔW, or on LoRA's factors one by one as PEFT does")
    rank: int | None = Field(
        default=None,
        ge=1,
        description="the rank an adapter approximates the dense result with; by default the inputs' largest",
    )
    scale: Decimal = Field(default=Decimal(1), description="λ, a factor of the whole result")

    @model_validator(mode="after")
    def _one_rank(self) -> Elementwise:
        if self.on == "factors" and self.rank is not None:
            raise ValueError("on=factors keeps the inputs' rank, so rank has no meaning")
        return self

    def formula(self, terms: Sequence[Term], weights: Sequence[float]) -> Merge:
        """What merges a block, but for λ. ``weights`` are those of all inputs, also of those that are zero here."""
        raise NotImplementedError

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        import torch

        from registry.methods._core import one_thread

        live, first, dtype = gathered(deltas, weights, site)
        if not live:
            return Merged(nothing(first, dtype))
        with one_thread(torch.device("cpu")):
            if self.on == "factors":
                low = on_factors(
                    self.name, live, site, dtype, lambda terms: self.formula(terms, [t.weight for t in terms])
                )
                return Merged(_times(float(self.scale), low))
            return Merged(self._on_delta(live, weights, site, dtype))

    def needs_equal_ranks(self) -> bool:
        return self.on == "factors"

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return self.rank or max(ranks, default=1)

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _on_delta(
        self, live: Sequence[Live], weights: Sequence[float], site: Site, dtype: torch.dtype
    ) -> Delta:
        import torch

        from registry.deltas import Dense, LowRank, Rescaling, Rows, device_of
        from registry.methods._blocks import merged, of_delta
        from registry.methods._core import one_thread

        first = live[0].delta
        if isinstance(first, Rescaling) and self.rank is not None:
            raise Incompatible(f"{self.name}: rank has no meaning for (IA)³, whose result is exact")
        terms = [of_delta(each.delta, dtype, each.weight, _stream(site, each)) for each in live]
        formula, scale = self.formula(terms, weights), float(self.scale)

        def read(rows: slice) -> Tensor:
            with one_thread(torch.device("cpu")), torch.no_grad():
                found = merged(terms, formula, rows)
                return found if scale == 1 else found.mul_(scale)

        m, n = terms[0].shape
        if isinstance(first, Rescaling):
            return Rescaling(read(slice(0, m))[0], first.feedforward)
        rank = self.rank or max(each.delta.rank for each in live if not isinstance(each.delta, Rescaling))
        # Only factors take less memory than the result. A table is stored across, so its rows come all at once.
        later = first.form != "embedding" and all(isinstance(each.delta, LowRank) for each in live)
        values = Rows((m, n), dtype, device_of(first), read) if later else read(slice(0, m))
        return Dense(values, rank, form=first.form, kernel=first.kernel)


class Summed(Elementwise):
    """Base of the methods that make each input sparse by itself and add: ``λ · Σ wᵢ·sparse(δᵢ)``."""

    divisor: Divisor = Field(
        default="none",
        description="what the sum is divided by: nothing, the count of inputs (of those that agree, where signs "
        "are elected), their weight Σ|wᵢ|, or the signed Σwᵢ, which is mergekit's and cancels negation",
    )

    def sparse(self, term: Term) -> Step:
        """What makes a block of an input sparse."""
        raise NotImplementedError

    def formula(self, terms: Sequence[Term], weights: Sequence[float]) -> Merge:
        steps, live = [self.sparse(term) for term in terms], [term.weight for term in terms]

        def merge(values: Sequence[Tensor], start: int) -> Tensor:
            parts = [step(block, start) for step, block in zip(steps, values, strict=True)]
            return self.joined(parts, live, weights)

        return merge

    def joined(self, parts: Sequence[Tensor], live: Sequence[float], weights: Sequence[float]) -> Tensor:
        """The sum of sparse parts; ``live`` are their weights, ``weights`` those of all inputs."""
        from registry.methods import _sparsify

        total = _sparsify.weighted_sum(parts, live)
        if self.divisor == "none":
            return total
        return total.div_(sum(_sparsify.share(weight, self.divisor) for weight in weights) or 1.0)


class Elected(Summed):
    """Base of the methods that let the inputs elect a sign per element before those that agree are added."""

    elect: Elect = Field(
        default="weighted",
        description="who votes for a sign: wᵢδᵢ, or δᵢ whatever its weight; none adds all inputs",
    )
    sign: Literal["total", "frequency"] = Field(
        default="total",
        description="the elected sign is that of the votes' sum, or of the sum of their signs",
    )
    tie: Literal["zero", "positive"] = Field(
        default="zero", description="the sign where votes cancel: none, so that the result is 0 there, or +"
    )
    divisor: Divisor = Field(default="count", description=Summed.model_fields["divisor"].description)

    def joined(self, parts: Sequence[Tensor], live: Sequence[float], weights: Sequence[float]) -> Tensor:
        from registry.methods import _sparsify

        if self.elect == "none":
            return super().joined(parts, live, weights)
        weighted = self.elect == "weighted"
        votes = live if weighted else [1.0 for _ in live]
        elected = _sparsify.majority(parts, votes, sign=self.sign, tie=self.tie)
        return _sparsify.disjoint(parts, live, elected, weighted=weighted, divisor=self.divisor)


def on_factors(
    name: str,
    live: Sequence[Live],
    site: Site,
    dtype: torch.dtype,
    formula: Callable[[Sequence[Term]], Merge],
) -> LowRank:
    """``formula`` on the A's and on the B's, with PEFT's weights. Raises ``Incompatible`` for unequal ranks."""
    from registry.deltas import LowRank
    from registry.methods._blocks import held, merged

    lows = [(each, _factors(name, each, site)) for each in live]
    first = lows[0][1]
    for each, low in lows[1:]:
        if low.rank != first.rank:
            raise Incompatible(
                f"{name} needs equal ranks, but in module {site.module} {live[0].name} has {first.rank} and "
                f"{each.name} has {low.rank}",
                hint="use the exact sum, or truncate both to one rank first",
            )
    ups, downs = [], []
    for each, low in lows:
        whole = each.weight * low.scale
        root = sqrt(abs(whole))
        ups.append(held(low.up.to(dtype), root, _stream(site, each, "B")))
        downs.append(held(low.down.to(dtype), -root if whole < 0 else root, _stream(site, each, "A")))
    up, down = (merged(terms, formula(terms)) for terms in (ups, downs))
    return LowRank(up, down, form=first.form, kernel=first.kernel)


def gathered(
    deltas: Sequence[Delta | None], weights: Sequence[float], site: Site
) -> tuple[list[Live], Delta, torch.dtype]:
    """The inputs that are not zero, the first delta there is, and the dtype to compute in.

    Raises ``Incompatible``, naming two inputs, unless all deltas belong to one space.
    """
    from registry.deltas import accumulator, describe

    given = [
        Live(i, name, w, d)
        for i, (name, w, d) in enumerate(zip(site.inputs, weights, deltas, strict=True))
        if d is not None
    ]
    first = given[0]
    for each in given[1:]:
        if describe(each.delta) != describe(first.delta):
            raise Incompatible(
                f"module {site.module} is {describe(first.delta)} in {first.name} but {describe(each.delta)} in "
                f"{each.name}"
            )
    return [each for each in given if each.weight != 0], first.delta, accumulator([g.delta for g in given])


def _factors(name: str, each: Live, site: Site) -> LowRank:
    from registry.deltas import LowRank

    if not isinstance(each.delta, LowRank):
        raise Incompatible(f"{name} works on LoRA's factors here, and {each.name} has none in {site.module}")
    return each.delta


def _stream(site: Site, each: Live, part: str = "") -> Stream:
    from registry.methods._random import Stream

    return Stream(site.seed, site.module, site.level, each.position, part)


def nothing(like: Delta, dtype: torch.dtype) -> Delta:
    """The zero delta of the same space."""
    from registry.deltas import Rescaling, zero

    if isinstance(like, Rescaling):
        return Rescaling(like.offset.new_zeros(like.shape, dtype=dtype), like.feedforward)
    return zero(like, dtype)


def _times(factor: float, low: LowRank) -> LowRank:
    from dataclasses import replace

    return low if factor == 1 else replace(low, up=low.up * factor)
