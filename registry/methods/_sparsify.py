"""Steps of the element-wise methods: which elements stay, how the rest is rescaled, which sign wins.

All are exact functions of their arguments: sums over a whole tensor are taken in float64 on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from registry.methods._core import one_thread


def largest(sizes: Tensor, count: int) -> Tensor:
    """The mask of the ``count`` largest of ``sizes``; of equal ones, those that come first in row-major order."""
    flat = sizes.flatten()  # (e,)
    if count <= 0 or count >= flat.numel():
        return torch.full_like(sizes, count > 0, dtype=torch.bool)
    cut = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > cut
    level = (flat == cut).nonzero()[:, 0]  # never empty
    mask[level[: count - int(mask.sum())]] = True
    return mask.reshape(sizes.shape)


def count_of(share: float, values: Tensor) -> int:
    """``int(share · elements)``, rounded down in float64 as PEFT and mergekit do."""
    return int(share * values.numel())


def masked(values: Tensor, mask: Tensor, rescale: str) -> Tensor:
    """``values`` where ``mask`` is, else 0; ``l1`` scales them to the L1 norm of all ``values``, if any is left."""
    found = values * mask
    if rescale == "none":
        return found
    before, after = l1(values), l1(found)
    return found.mul_(before / after) if after else found


def l1(values: Tensor) -> float:
    with one_thread(values.device):
        return float(torch.linalg.vector_norm(values, 1, dtype=torch.float64))


def mean_square(values: Tensor) -> float:
    with one_thread(values.device):
        return float(torch.linalg.vector_norm(values, 2, dtype=torch.float64)) ** 2 / values.numel()


def row_ranks(values: Tensor) -> Tensor:
    """The rank of each element's magnitude in its row, from 0 for the smallest; the first of equal ones is lower.

    A vector is one row.
    """
    order = values.abs().argsort(dim=-1, stable=True)
    places = torch.arange(values.shape[-1], device=values.device).expand(values.shape)
    return torch.empty_like(order).scatter_(-1, order, places.contiguous())


def weighted_sum(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ wᵢpᵢ``, every product rounded before it is added, so that ``w·p − w·p`` is 0 and no vote is decided by
    what a fused multiplication and addition would leave."""
    total = torch.zeros_like(parts[0])
    for weight, part in zip(weights, parts, strict=True):
        total.add_(part * weight)
    return total


def majority(parts: Sequence[Tensor], weights: Sequence[float], *, sign: str, tie: str) -> Tensor:
    """The elected sign of every element: that of ``Σ wᵢpᵢ`` (``total``) or ``Σ sgn(wᵢpᵢ)`` (``frequency``).

    Where that is 0 the sign is 0 (``tie="zero"``: nobody wins) or + (``"positive"``).
    """
    if sign == "frequency":
        parts, weights = [part.sign() for part in parts], [_sign(weight) for weight in weights]
    elected = weighted_sum(parts, weights).sign_()
    return elected.masked_fill_(elected == 0, 1) if tie == "positive" else elected


def disjoint(
    parts: Sequence[Tensor], weights: Sequence[float], elected: Tensor, *, weighted: bool, divisor: str
) -> Tensor:
    """``Σ wᵢpᵢ`` over the inputs that agree with the elected sign, over how many (or how much) they are.

    An input agrees where the sign of ``wᵢpᵢ`` (``weighted``) or of ``pᵢ`` is the elected one, and not 0.
    ``divisor`` names the denominator: their ``count``, their ``weight`` ``Σ|wᵢ|``, ``signed`` ``Σwᵢ``, or ``none``;
    1 where it is 0.
    """
    above, below = torch.zeros_like(elected), torch.zeros_like(elected)
    for weight, part in zip(weights, parts, strict=True):
        agrees = (part.sign() * (_sign(weight) if weighted else 1.0) == elected) & (elected != 0)
        above.add_((part * weight).mul_(agrees))
        if divisor != "none":
            below.add_(agrees, alpha=share(weight, divisor))
    return above if divisor == "none" else above / below.masked_fill_(below == 0, 1)


def varying(parts: Sequence[Tensor], inputs: int, density: float) -> Tensor:
    """The mask of the elements that vary most over ``inputs`` inputs, of which those not in ``parts`` are zeros.

    They are ``int(density · v)`` of the v elements whose variance is not 0.
    """
    mean = weighted_sum(parts, [1 / inputs] * len(parts))
    variance = mean.square() * (inputs - len(parts))
    for part in parts:
        variance.add_((part - mean).square_())
    return largest(variance, int(density * int(variance.count_nonzero())))


def share(weight: float, divisor: str) -> float:
    """What an input adds to a divisor."""
    return {"count": 1.0, "weight": abs(weight), "signed": weight}[divisor]


def _sign(weight: float) -> float:
    return float((weight > 0) - (weight < 0))
