from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from registry.methods import About, Merged, Method, Site

if TYPE_CHECKING:
    from registry.deltas import Delta


class Average(Method):
    """The mean of the inputs.

    N counts all inputs: one without the module is a zero delta, and weights are multiplied, never normalized, so
    ``average(0.5*a, 0.5*b)`` is ``0.25*a + 0.25*b``. Exact, of rank k.
    """

    about: ClassVar[About] = About(
        formula="(1/N) · Σ wᵢδᵢ",
        source="Wortsman et al., Model soups, ICML 2022, arXiv 2203.05482; taken of the deltas",
        domain="vector space",
        cost="O((m + n)·k)",
        example="average(a, b, c)",
        in_peft="`cat` with weights wᵢ/N; (IA)³ likewise, where all adapters have the same modules",
        in_mergekit="`linear` with equal weights, on whole models",
        in_adapters="(IA)³ only: `average_adapter` with equal weights",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector", "ia3"})

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._flat import combine

        del site
        return Merged(combine([weight / len(weights) for weight in weights], deltas))
