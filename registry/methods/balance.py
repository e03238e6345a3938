from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from registry.methods import About, Merged, Method, Site
from registry.methods._core import leading, one_thread, singular

if TYPE_CHECKING:
    from registry.deltas import Delta, Dense, LowRank


class Balance(Method):
    """The same ΔW in balanced factors, of as many ranks as it has.

    ``ΔW = U Σ Vᵀ`` at its numerical rank, ``σᵢ > ε·max(m, n)·σ₁`` with float64's ε: nothing is approximated. Both factors
    get ``√σᵢ``, so they have one norm, and columns of B are orthogonal, rows of A too. In each column of B the entry of
    largest size is positive, so the factors are the same however ΔW was factored, unless singular values coincide.
    Reports ``rank``. A ΔW that is dense stays so, since an adapter stores its approximation in such factors anyway.
    """

    about: ClassVar[About] = About(
        formula="B = U√Σ, A = √Σ Vᵀ",
        source="Eckart & Young, Psychometrika 1 (1936), with all ranks kept",
        domain="core",
        cost="O((m + n)·k² + k³)",
        example="balance(a + b)",
        in_mergekit="`mergekit-extract-lora` with `--distribute-scale`, of the difference of two whole models",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_dense: ClassVar[bool] = True

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import Dense, doubled, stack, total

        del site
        given = [
            (w, cast("LowRank | Dense", d)) for w, d in zip(weights, deltas, strict=True) if d is not None
        ]
        low = [(w, doubled(d)) for w, d in given if not isinstance(d, Dense)]
        if len(low) < len(given):
            return Merged(total(given))
        whole = stack(low)
        with one_thread(whole.up.device):
            parts = singular(whole)
            found = leading(whole, parts, len(parts.values))
        return Merged(found, {"rank": float(found.rank)})
