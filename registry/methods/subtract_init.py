from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from registry.errors import Incompatible
from registry.methods import About, Merged, Method, Site

if TYPE_CHECKING:
    from registry.deltas import Delta, LowRank

_CHANGED = frozenset({"linear", "embedding", "conv"})
"""Forms of the modules whose base weight an initialization may change; the rest is stored whole."""


class SubtractInit(Method):
    """What training changed, where the initialization had changed the base model.

    The first input is the trained adapter (B, A), the second the one that training started from (B₀, A₀), with the same
    modules: both are required in each. Initializations such as PiSSA's take ``s₀B₀A₀`` out of the base weight and freeze
    what is left; beside the unchanged weight the trained adapter is ``sBA − s₀B₀A₀``, exactly, of rank r + r₀. Of equal
    ranks the factors are those of ``(sB − s₀B₀)·A + s₀B₀·(A − A₀)``: products as small as the change itself, which
    storing in a narrow type then rounds, and not ``s₀B₀A₀``. What is stored whole had not been changed, and is that of
    the trained adapter.
    """

    about: ClassVar[About] = About(
        formula="w₁s·B·A − w₂s₀·B₀·A₀",
        source="Meng, Wang & Zhang, PiSSA, NeurIPS 2024, arXiv 2404.02948; OLoRA (arXiv 2406.01775), CorDA (arXiv "
        "2406.05223) and LoRA-GA (arXiv 2407.05000) change the base in the same way",
        domain="vector space",
        cost="O((m + n)·k)",
        example="subtract_init(trained, initial)",
        in_peft="`save_pretrained(…, path_initial_model_for_weight_conversion=…)`; the same ΔW, other factors",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora"})
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    takes_dense: ClassVar[bool] = True
    waives: ClassVar[frozenset[str]] = frozenset({"initialization"})

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.deltas import Dense, require_same, stack, total

        first = deltas[0]
        if isinstance(first, Dense) and first.form not in _CHANGED:
            return Merged(total([(weights[0], first)]))
        trained, initial = (
            _factored(delta, name, site) for delta, name in zip(deltas, site.inputs, strict=True)
        )
        require_same([trained, initial])
        if trained.rank != initial.rank:
            return Merged(stack([(weights[0], trained), (-weights[1], initial)]))
        return Merged(_change(trained, weights[0], initial, weights[1]))


def _factored(delta: Delta | None, name: str, site: Site) -> LowRank:
    """An input's factors in float64. Raises ``Incompatible`` where it has none."""
    from registry.deltas import LowRank, doubled

    if delta is None:
        raise Incompatible(
            f"module {site.module} is missing in {name}",
            hint="the initial adapter is the one that training started from, with the same modules",
        )
    if not isinstance(delta, LowRank):
        raise Incompatible(
            f"subtract_init needs LoRA's factors, which module {site.module} of {name} does not have",
            hint="with DoRA the trained weights are no sum of the base weight and a delta",
        )
    return doubled(delta)


def _change(trained: LowRank, w: float, initial: LowRank, v: float) -> LowRank:
    """``w·ΔW − v·ΔW₀`` in factors ``(m, 2k)`` and ``(2k, n)`` whose products are small where the two are close."""
    from dataclasses import replace

    import torch

    up, start = w * trained.scale * trained.up, v * initial.scale * initial.up  # (m, k)
    return replace(
        trained,
        up=torch.cat([up - start, start], dim=1),
        down=torch.cat([trained.down, trained.down - initial.down], dim=0),
        scale=1.0,
    )
