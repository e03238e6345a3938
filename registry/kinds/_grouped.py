"""LoRA on a grouped convolution: lora_A sees all channels, each group of lora_B its own part of the rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import LowRank


def block_diagonal(up: Tensor, groups: int) -> Tensor:
    """``lora_B`` of a grouped convolution ``(m, k / groups)`` as the matrix that it is, ``(m, k)``."""
    m, width = up.shape
    whole = up.new_zeros((m, width * groups))
    for group, rows in enumerate(up.chunk(groups)):
        whole[group * len(rows) : (group + 1) * len(rows), group * width : (group + 1) * width] = rows
    return whole


def grouped(low: LowRank) -> tuple[Tensor, Tensor]:
    """The factors as a grouped convolution stores them: ``(m, k / groups)`` and ``(k, n)``, exactly.

    Each group keeps the columns of ``up`` that are not zero in its rows, with the rows of ``down`` that belong to
    them; groups with fewer are filled up with zeros.
    """
    import torch

    if low.groups == 1:
        return low.up, low.down
    blocks = low.up.chunk(low.groups)
    used = [block.ne(0).any(dim=0).nonzero()[:, 0] for block in blocks]
    width = max(1, *(len(columns) for columns in used))
    up = torch.cat([_padded(b[:, columns], width, 1) for b, columns in zip(blocks, used, strict=True)])
    down = torch.cat([_padded(low.down[columns], width, 0) for columns in used])
    return up, down


def _padded(x: Tensor, size: int, dim: int) -> Tensor:
    import torch

    shape = list(x.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([x, x.new_zeros(shape)], dim=dim)
