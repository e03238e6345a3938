from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from registry.methods import About, Merged, Method, Site
from registry.methods._core import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta

_NOWHERE = 1e-12
"""A mean of unit vectors shorter than this has no direction."""


class Karcher(Method):
    """The mean direction on the sphere, times the mean length.

    ``u`` minimizes ``Σ θ(u, δᵢ/‖δᵢ‖)²``, θ the angle, with ``δᵢ ← wᵢδᵢ``; each module is one vector. From the
    normalized sum of the directions, steps ``u ← exp_u(mean of log_u uᵢ)`` are taken until a step is shorter than
    ``tolerance`` radians, at most ``max_iter`` of them. A zero or missing delta has no direction but counts in the
    mean length, as it does in ``average``. Directions that cancel have no mean: the result is zero (both ours).
    Weights are multiplied into the inputs: their sizes change lengths, their signs directions. Reports
    ``iterations`` and the last ``step``.
    """

    about: ClassVar[About] = About(
        formula="(1/N)·Σ‖wᵢδᵢ‖ · u",
        source="Karcher, Comm. Pure Appl. Math. 30 (1977); the iteration as in Afsari, Tron & Vidal, arXiv 1201.0925, "
        "with step 1",
        domain="core",
        cost="O((m + n)·k² + k³ + I·N·k²) for I steps",
        example="karcher(a, b, c)",
        in_mergekit="`karcher` takes the mean of whole weights, not of deltas: another result",
    )

    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector", "ia3"})

    max_iter: int = Field(default=100, ge=1, le=100_000, description="the most steps that are taken")
    tolerance: Decimal = Field(
        default=Decimal("0.0000000001"),
        gt=0,
        le=1,
        description="the step, in radians, that ends the iteration",
    )

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        from registry.methods._flat import combine, lengths, vectors

        del site
        rows = vectors(deltas, weights)  # (N, d)
        norms = lengths(rows)
        live = [i for i, norm in enumerate(norms) if norm]
        coefficients, report = [0.0] * len(norms), {"iterations": 0.0, "step": 0.0}
        if live:
            units = rows[live] / rows.new_tensor([norms[i] for i in live])[:, None]  # (L, d)
            with one_thread(rows.device):
                found, report = self._direction(units)
            length = sum(norms) / len(norms)
            for i, c in zip(live, found, strict=True):
                coefficients[i] = length * c / norms[i] * weights[i]
        return Merged(combine(coefficients, deltas), report)

    def _direction(self, units: Tensor) -> tuple[list[float], dict[str, float]]:
        """The mean of unit vectors ``(L, d)`` as coefficients on them; all zero where there is none."""
        c = units.new_full((len(units),), 1 / len(units))  # (L,)
        length = float((c @ units).norm())
        if length < _NOWHERE:
            return [0.0] * len(units), {"iterations": 0.0, "step": 0.0}
        c, step, taken = c / length, math.inf, 0
        while taken < self.max_iter and step >= float(self.tolerance):
            tangent = _mean_log(c, units)  # (L,)
            step = float((tangent @ units).norm())
            if step > 0:
                c = math.cos(step) * c + math.sin(step) / step * tangent
                c = c / (c @ units).norm()
            taken += 1
        return c.tolist(), {"iterations": float(taken), "step": step}


def _mean_log(c: Tensor, units: Tensor) -> Tensor:
    """The mean of ``log_u uᵢ`` at ``u = c @ units``, as coefficients ``(L,)``; a point opposite of u pulls nowhere."""
    from registry.methods._flat import angle

    u = c @ units  # (d,)
    tangent = c.new_zeros(c.shape)
    for i, unit in enumerate(units):
        theta = angle(u, unit)
        sine = max(math.sin(theta), _NOWHERE)
        factor = max(theta, _NOWHERE) / sine if theta < math.pi - _NOWHERE else 0.0
        tangent[i] += factor
        tangent -= factor * math.cos(theta) * c
    return tangent / len(units)
