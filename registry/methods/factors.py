from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, cast

from registry.errors import Incompatible
from registry.methods import About, Merged, Method, Site

if TYPE_CHECKING:
    from registry.deltas import Delta, LowRank


class Factors(Method):
    """Arithmetic on LoRA's factors instead of on ΔW.

    Addition adds A and B separately, negation flips the sign of B only. Cross terms ``BᵢAⱼ`` appear, so this
    approximates ``Σ wᵢΔWᵢ`` only where the A's come from one initialization and drifted little; ``init_cosine``
    reports the smallest cosine between two of them. Needs equal ranks; an input without the module contributes
    nothing.
    """

    about: ClassVar[About] = About(
        formula="ΔW = B·A, A = Σ |wᵢ|·Aᵢ, B = Σ wᵢ·sᵢ·Bᵢ",
        source="Zhang, Chen, Liu & He, Composing Parameter-Efficient Modules with Arithmetic Operations, NeurIPS 2023, "
        "arXiv 2306.14870, section 3",
        domain="factors",
        cost="O((m + n)·k)",
        example="factors(0.5*a + 0.5*b)",
        in_adapters="`lora_linear_only_negate_b` with `normalize_weights=False`; `linear`, where no weight is negative",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})
    spread: ClassVar[bool] = True

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import LowRank, accumulator, zero

        given = [
            (name, w, cast("LowRank", d))
            for name, w, d in zip(site.inputs, weights, deltas, strict=True)
            if d is not None
        ]
        dtype = accumulator([delta for _, _, delta in given])
        live = [term for term in given if term[1] != 0]
        if not live:
            return Merged(zero(given[0][2], dtype), {})
        _require_same(live, site)
        first = live[0][2]
        up, down = (
            first.up.new_zeros(first.up.shape, dtype=dtype),
            first.down.new_zeros(first.down.shape, dtype=dtype),
        )
        for _, w, delta in live:
            up = up + (w * delta.scale) * delta.up.to(dtype)  # (m, k)
            down = down + abs(w) * delta.down.to(dtype)  # (k, n)
        merged = LowRank(up, down, form=first.form, kernel=first.kernel)
        return Merged(merged, _init_cosine([delta for _, _, delta in live]))

    def needs_equal_ranks(self) -> bool:
        return True

    def rank_bound(self, ranks: Sequence[int]) -> int:
        return max(ranks)


def _require_same(terms: Sequence[tuple[str, float, LowRank]], site: Site) -> None:
    from registry.deltas import describe

    name, _, first = terms[0]
    for other, _, delta in terms[1:]:
        if delta.rank != first.rank:
            raise Incompatible(
                f"factors needs equal ranks, but in module {site.module} {name} has {first.rank} and {other} has "
                f"{delta.rank}",
                hint="use the exact sum, or truncate both to one rank first",
            )
        if describe(delta) != describe(first):
            raise Incompatible(
                f"module {site.module} is {describe(first)} in {name} but {describe(delta)} in {other}"
            )


def _init_cosine(deltas: Sequence[LowRank]) -> dict[str, float]:
    """The smallest cosine between two A's, in float64; nothing where there are no two that are not zero."""
    downs = [delta.down.double().flatten() for delta in deltas]  # (k·n,)
    lengths = [float(down.norm()) for down in downs]
    cosines = [
        float(downs[i] @ downs[j]) / (lengths[i] * lengths[j])
        for i, j in combinations(range(len(downs)), 2)
        if lengths[i] and lengths[j]
    ]
    return {"init_cosine": min(cosines)} if cosines else {}
