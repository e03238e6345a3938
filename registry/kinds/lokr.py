"""LoKr: ``ΔW = s·(w1 ⊗ w2)`` with ``s = alpha/r``, read as a LoRA of rank ``rank(w1)·rank(w2)``, exactly.

For ``wᵢ = uᵢ·vᵢ`` the Kronecker product is ``(u1 ⊗ u2)·(v1 ⊗ v2)``. Each ``wᵢ`` is stored whole or as ``wᵢ_a·wᵢ_b``; one
that is whole, or whose rank is above its shorter side, becomes the identity of that side and itself. The ``w2`` of a
convolution may have the core ``t2``: ``w2[p, q, k, l] = Σ_{ab} t2[a, b, k, l]·w2_a[a, p]·w2_b[b, q]``.

Sources: Yeh et al., LyCORIS, ICLR 2024 (arXiv 2309.14859); Edalati et al., KronA (arXiv 2212.10650); names, scale and
the rule what is stored whole as in PEFT 0.21.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Refused
from registry.kinds import Module, _parts
from registry.kinds._lycoris import Lycoris, kernel_of, mismatch, tucker, whole, widened
from registry.kinds._scaling import Scaling

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import LowRank

_W1 = (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"}))
_W2 = (
    frozenset({"lokr_w2"}),
    frozenset({"lokr_w2_a", "lokr_w2_b"}),
    frozenset({"lokr_t2", "lokr_w2_a", "lokr_w2_b"}),
)


@dataclass(frozen=True)
class _Side:
    """One of the two matrices, ``(rows, columns·kernel)``; ``inner`` is None where it is stored whole."""

    rows: int
    columns: int
    inner: int | None
    kernel: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        shortest = min(self.rows, self.columns * math.prod(self.kernel))
        return shortest if self.inner is None else min(shortest, self.inner)


class Lokr(Lycoris):
    """LoKr on Linear and on convolutions."""

    peft_type = "LOKR"
    roles: ClassVar[re.Pattern[str]] = re.compile(r"(?P<module>.+)\.(?P<role>lokr_(?:w[12](?:_[ab])?|t2))")

    def module(
        self,
        name: str,
        roles: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        scaling: Scaling,
        config: Mapping[str, Any],
    ) -> Module:
        one, two = (frozenset(role for role in roles if f"{i}" in role) for i in (1, 2))
        if one not in _W1 or two not in _W2:
            raise Refused(
                f"module {name} has only {', '.join(sorted(roles))}",
                hint="lokr_w1 and lokr_w2 belong together",
            )
        left, right = _side(name, shapes, 1), _side(name, shapes, 2)
        rank = scaling.rank(name)
        for side in (left, right):
            if side.inner is not None:
                scaling.require(name, side.inner)
        for i, side in ((1, left), (2, right)):
            may_factor = i == 2 or _parts.whole(config, "decompose_both", default=False)
            factored = may_factor and 2 * rank < max(side.rows, side.columns)
            if factored != (side.inner is not None):
                how = "in factors" if side.inner is not None else "whole"
                raise Refused(
                    f"module {name} stores lokr_w{i} {how}, which does not fit rank {rank:g} in the config",
                    hint="the config belongs to other weights",
                )
        kernel = right.kernel
        shape = (left.rows * right.rows, left.columns * right.columns * math.prod(kernel))
        form = "conv" if kernel else "linear"
        return Module(name, roles, shape, left.rank * right.rank, scaling.scale(name), form, kernel)

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> LowRank:
        from registry.deltas import LowRank

        wide = widened(tensors)
        (u1, v1), (u2, v2) = _factors(wide, 1), _factors(wide, 2)  # (a, p), (p, c), (b, q), (q, d·kernel)
        w2 = wide.get("lokr_w2")
        if w2 is not None and w2.ndim == 3:  # PEFT's product for Conv1d runs over (b, a) and (d, c, kernel)
            up = _kron(u2, u1)  # (b·a, q·p)
            v2 = v2.reshape(-1, 1, w2.shape[1], 1, w2.shape[2])  # (q, 1, d, 1, kernel)
            down = (v2 * v1[:, None, :, None]).reshape(up.shape[1], -1)  # (q·p, d·c·kernel)
        else:
            up, down = _kron(u1, u2), _kron(v1, v2)  # (a·b, p·q), (p·q, c·d·kernel)
        form: Any = module.form
        return LowRank(up, down, module.scale, form, module.kernel)


def _side(name: str, shapes: Mapping[str, tuple[int, ...]], which: int) -> _Side:
    """What the shapes of ``lokr_w1`` or ``lokr_w2`` say. Raises ``Refused`` where they do not fit each other."""
    w, t = f"lokr_w{which}", f"lokr_t{which}"
    stated = shapes.get(w)
    if stated is not None:
        if len(stated) != 2 and (which == 1 or len(stated) not in (3, 4)):
            raise mismatch(name, shapes, [w])
        return _Side(stated[0], stated[1], None, stated[2:])
    up, down, core = shapes[f"{w}_a"], shapes[f"{w}_b"], shapes.get(t)
    if len(up) == len(down) == 2:
        if core is None and up[1] == down[0]:
            return _Side(up[0], down[1], down[0])
        if core is not None and len(core) == 4 and core[:2] == (up[0], down[0]) and up[0] == down[0]:
            return _Side(up[1], down[1], down[0], kernel_of(core))
    raise mismatch(name, shapes, [f"{w}_a", f"{w}_b", *([t] if core else [])])


def _factors(tensors: Mapping[str, Tensor], which: int) -> tuple[Tensor, Tensor]:
    """One of the two matrices as ``(rows, k)`` and ``(k, columns·kernel)``, k at most its shorter side."""
    w = tensors.get(f"lokr_w{which}")
    if w is not None:
        return whole(w.flatten(1))
    up, down, core = tensors[f"lokr_w{which}_a"], tensors[f"lokr_w{which}_b"], tensors.get(f"lokr_t{which}")
    if core is not None:
        up, down = tucker(core, up, down)
    return (up, down) if up.shape[1] <= min(up.shape[0], down.shape[1]) else whole(up @ down)


def _kron(x: Tensor, y: Tensor) -> Tensor:
    """``x ⊗ y``; torch's own needs contiguous tensors."""
    return (x[:, None, :, None] * y[None, :, None, :]).reshape(len(x) * len(y), -1)
