"""LoHa: ``ΔW = s·(w1_a·w1_b) ∘ (w2_a·w2_b)`` with ``s = alpha/r``, read as a LoRA of rank ``min(r², m, n)``, exactly.

The product of elements of two matrices of rank r is ``up·down`` with ``up[:, (p, q)] = w1_a[:, p]·w2_a[:, q]`` and
``down[(p, q), :] = w1_b[p, :]·w2_b[q, :]``, ``(m, r²)`` and ``(r², n)``. A convolution may have the cores ``t1``, ``t2``:
``wᵢ[p, q, k, l] = Σ_{ab} tᵢ[a, b, k, l]·wᵢ_a[a, p]·wᵢ_b[b, q]``.

Sources: Hyeon-Woo, Ye-Bin & Oh, FedPara, ICLR 2022 (arXiv 2108.06098), propositions 1 and 3; Yeh et al., LyCORIS,
ICLR 2024 (arXiv 2309.14859); names and scale as in PEFT 0.21.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Refused
from registry.kinds import Module
from registry.kinds._lycoris import Lycoris, kernel_of, mismatch, tucker, whole, widened
from registry.kinds._scaling import Scaling

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import LowRank

_FLAT = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_CORES = frozenset({"hada_t1", "hada_t2"})


class Loha(Lycoris):
    """LoHa on Linear and on convolutions."""

    peft_type = "LOHA"
    roles: ClassVar[re.Pattern[str]] = re.compile(r"(?P<module>.+)\.(?P<role>hada_(?:w[12]_[ab]|t[12]))")

    def module(
        self,
        name: str,
        roles: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        scaling: Scaling,
        config: Mapping[str, Any],
    ) -> Module:
        del config
        if roles.keys() not in (_FLAT, _FLAT | _CORES):
            raise Refused(
                f"module {name} has only {', '.join(sorted(roles))}",
                hint="hada_w1 and hada_w2 belong together",
            )
        first, second = ([shapes[role] for role in sorted(roles) if f"{i}" in role] for i in (1, 2))
        up, down = shapes["hada_w1_a"], shapes["hada_w1_b"]
        if first != second or len(up) != 2 or len(down) != 2:
            raise mismatch(name, shapes, sorted(roles))
        rank, kernel = down[0], tuple[int, ...]()
        if "hada_t1" in roles:
            core = shapes["hada_t1"]
            if len(core) != 4 or core[:2] != (rank, rank) or up[0] != rank:
                raise mismatch(name, shapes, sorted(roles))
            shape, kernel = (up[1], down[1] * math.prod(core[2:])), kernel_of(core)
        elif up[1] == rank:
            shape = (up[0], down[1])
        else:
            raise mismatch(name, shapes, sorted(roles))
        scaling.require(name, rank)
        form = "conv" if kernel else "linear"
        return Module(name, roles, shape, min(rank**2, *shape), scaling.scale(name), form, kernel)

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> LowRank:
        import torch

        from registry.deltas import LowRank

        wide = widened(tensors)
        (up1, down1), (up2, down2) = _factors(wide, 1), _factors(wide, 2)  # (m, r), (r, n)
        if down1.shape[0] ** 2 <= min(module.shape):
            up = torch.einsum("mp,mq->mpq", up1, up2).flatten(1)  # (m, r²)
            down = torch.einsum("pn,qn->pqn", down1, down2).flatten(0, 1)  # (r², n)
        else:
            up, down = whole((up1 @ down1) * (up2 @ down2))
        form: Any = module.form
        return LowRank(up, down, module.scale, form, module.kernel)


def _factors(tensors: Mapping[str, Tensor], which: int) -> tuple[Tensor, Tensor]:
    """One of the two matrices, as ``(m, r)`` and ``(r, n)``."""
    up, down, core = tensors[f"hada_w{which}_a"], tensors[f"hada_w{which}_b"], tensors.get(f"hada_t{which}")
    return (up, down) if core is None else tucker(core, up, down)
