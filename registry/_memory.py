"""What keeps memory that was freed at hand."""

from __future__ import annotations

import torch


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks for the next ones instead of handing each back to the system.

    It adapts that threshold to the largest block it has seen freed (up to 32 MiB); page faults on fresh memory
    would otherwise take longer than the arithmetic. Elsewhere this does nothing: the memory is never touched.
    """
    torch.empty(31 << 20, dtype=torch.uint8)
