"""Steps of the element-wise methods: which elements stay, how the rest is rescaled, which sign wins.

All are exact functions of their arguments, on blocks that stay in the processor's cache. Masks are numbers, 0 and 1 in
the dtype of the values, because that is what arithmetic is fast with. Sums over a whole tensor are taken in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from registry.methods._blocks import Step, Term
from registry.methods._random import dropped
from registry.methods._select import Cut, Numbers, largest


def top(term: Term, count: int) -> Cut:
    """What tells the ``count`` elements of largest magnitude; of equal ones, those first in row-major order."""
    return largest(lambda: ((start, values.abs()) for start, values in term.blocks()), term.size, count)


def count_of(share: float, term: Term) -> int:
    """``int(share · elements)``, rounded down in float64 as PEFT and mergekit do."""
    return int(share * term.size)


def dropping(term: Term, probability: float | Callable[[Tensor], Tensor], rescale: str) -> Step:
    """What drops elements at random and keeps each with its ``probability``, which may depend on a block's values.

    ``rescale``: ``density`` divides what is kept by its probability, ``l1`` scales it to the L1 norm of all values.
    """

    def step(values: Tensor, start: int) -> Tensor:
        chance = probability if isinstance(probability, float) else probability(values)
        return dropped(values, start, term.stream, chance, divided=rescale == "density")

    return rescaled(step, term, rescale)


def rescaled(step: Step, term: Term, rescale: str) -> Step:
    """``step``, and with ``l1`` what it leaves of the term scaled to the L1 norm of all its values, if any is left."""
    if rescale != "l1":
        return step
    before = after = 0.0
    stay = {}  # a bit per element, so that nothing is drawn twice
    for start, values in term.blocks():
        found = step(values, start)
        before, after = before + _l1(values), after + _l1(found)
        stay[start] = np.packbits(found.flatten().cpu().numpy() != 0)
    factor = before / after if after else 1.0

    def again(values: Tensor, start: int) -> Tensor:
        mask = torch.from_numpy(np.unpackbits(stay[start], count=values.numel()))
        return mask.to(values).reshape(values.shape).mul_(values).mul_(factor)

    return again


def row_ranks(values: Tensor) -> Tensor:
    """The rank of each element's magnitude in its row, from 0 for the smallest; the first of equal ones is lower."""
    sizes = np.ascontiguousarray(values.abs().cpu().numpy())
    columns = np.broadcast_to(np.arange(sizes.shape[-1], dtype=np.uint64), sizes.shape)
    if sizes.dtype == np.float32:
        # the bits of numbers that are not below 0 have their order; with the column after them no two are equal
        keys = (sizes.view(np.uint32).astype(np.uint64) << np.uint64(32)) | columns
        keys.sort(axis=-1)
        order = (keys & np.uint64(0xFFFFFFFF)).view(np.int64)
    else:
        order = sizes.argsort(axis=-1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, columns.view(np.int64), axis=-1)
    return torch.from_numpy(ranks).to(values.device)


def weighted_sum(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ wᵢpᵢ``, every product rounded before it is added, so that ``w·p − w·p`` is 0 and no vote is decided by
    what a fused multiplication and addition would leave."""
    total = parts[0] * weights[0]
    product = torch.empty_like(total)
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total.add_(part if weight == 1 else torch.mul(part, weight, out=product))
    return total


def majority(parts: Sequence[Tensor], weights: Sequence[float], *, sign: str, tie: str) -> Tensor:
    """The elected sign of every element: that of ``Σ wᵢpᵢ`` (``total``) or ``Σ sgn(wᵢpᵢ)`` (``frequency``).

    Where that is 0 the sign is 0 (``tie="zero"``: nobody wins) or + (``"positive"``).
    """
    if sign == "frequency":
        parts, weights = [part.sign() for part in parts], [_sign(weight) for weight in weights]
    elected = weighted_sum(parts, weights).sign_()
    return _unless_zero(elected) if tie == "positive" else elected


def disjoint(
    parts: Sequence[Tensor], weights: Sequence[float], elected: Tensor, *, weighted: bool, divisor: str
) -> Tensor:
    """``Σ wᵢpᵢ`` over the inputs that agree with the elected sign, over how many (or how much) they are.

    An input agrees where the sign of ``wᵢpᵢ`` (``weighted``) or of ``pᵢ`` is the elected one, and not 0.
    ``divisor`` names the denominator: their ``count``, their ``weight`` ``Σ|wᵢ|``, ``signed`` ``Σwᵢ``, or ``none``;
    1 where it is 0.
    """
    above, below = torch.zeros_like(elected), torch.zeros_like(elected)
    agreeing, ones = torch.empty_like(elected), torch.empty_like(elected)  # the same memory for all inputs
    for weight, part in zip(weights, parts, strict=True):
        turned = _sign(weight) if weighted else 1.0
        torch.mul(part, elected, out=agreeing)
        _scale(agreeing, turned).clamp_(min=0)  # the magnitude where it agrees, else 0
        if divisor != "none":
            below.add_(torch.sign(agreeing, out=ones), alpha=share(weight, divisor))
        above.add_(_scale(agreeing, weight * turned))
    above.mul_(elected)
    return above if divisor == "none" else above.div_(_unless_zero(below))


def variance(parts: Sequence[Tensor], inputs: int) -> Tensor:
    """The variance over ``inputs`` inputs, of which those not in ``parts`` are zeros, times their number."""
    mean = weighted_sum(parts, [1 / inputs] * len(parts))
    found = mean.square() * (inputs - len(parts))
    for part in parts:
        found.add_((part - mean).square_())
    return found


def varying(numbers: Numbers, size: int, density: float) -> Cut:
    """What tells the elements that vary most: ``int(density · v)`` of the v elements whose variance is not 0."""
    varied = sum(int(block.count_nonzero()) for _, block in numbers())
    return largest(numbers, size, int(density * varied))


def squares(values: Tensor) -> float:
    """Their sum."""
    return float(torch.linalg.vector_norm(values, 2, dtype=torch.float64)) ** 2


def share(weight: float, divisor: str) -> float:
    """What an input adds to a divisor."""
    return {"count": 1.0, "weight": abs(weight), "signed": weight}[divisor]


def _sign(weight: float) -> float:
    return float((weight > 0) - (weight < 0))


def _scale(values: Tensor, factor: float) -> Tensor:
    """``values``, changed."""
    return values if factor == 1 else values.mul_(factor)


def _unless_zero(values: Tensor) -> Tensor:
    """``values``, changed to 1 where they are 0."""
    return values.add_(torch.eq(values, 0, out=torch.empty_like(values)))


def _l1(values: Tensor) -> float:
    return float(values.abs().sum(dtype=torch.float64))
