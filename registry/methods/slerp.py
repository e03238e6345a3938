from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from registry.deltas import Delta

_STRAIGHT = 1e-8
"""Below this sine of the angle two deltas count as parallel: there the arc is the chord, to float64's precision."""


class Slerp(Method):
    """Along the arc between two deltas.

    Ω is the angle between them, with ``δᵢ ← wᵢδᵢ``. Each module is one vector; lengths are not changed before, so
    t = 0 is the first input and t = 1 the second. Where the angle is 0 or π, or a delta is zero or missing, no arc is
    determined and the chord is taken instead: ``(1−t)·δ₁ + t·δ₂``. Reports ``cosine`` where there is one.
    """

    about: ClassVar[About] = About(
        formula="(sin((1−t)Ω)/sin Ω)·δ₁ + (sin(tΩ)/sin Ω)·δ₂",
        source="Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; on deltas, not on weights",
        domain="core",
        cost="O((m + n)·k² + k³)",
        example="slerp(a, b, t=0.3)",
        in_mergekit="`nuslerp` with a base model, `nuslerp_flatten: true` and weights 1−t and t; `slerp` turns whole "
        "weights",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector", "ia3"})
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    t: Decimal = Field(default=Decimal("0.5"), ge=0, le=1, description="0 is the first input, 1 the second")

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._flat import angle, combine, lengths, vectors

        del site
        rows = vectors(deltas, weights)  # (2, d)
        norms = lengths(rows)
        shares, report = (1 - float(self.t), float(self.t)), {}
        if all(norms):
            with one_thread(rows.device):
                omega = angle(rows[0] / norms[0], rows[1] / norms[1])
            report = {"cosine": math.cos(omega)}
            if math.sin(omega) > _STRAIGHT:
                shares = (math.sin(shares[0] * omega), math.sin(shares[1] * omega))
                shares = (shares[0] / math.sin(omega), shares[1] / math.sin(omega))
        return Merged(combine([s * w for s, w in zip(shares, weights, strict=True)], deltas), report)
