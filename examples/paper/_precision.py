"""What is kept is measured in float32; a check may take half the time, where the processor can."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def products(*, half: bool) -> AbstractContextManager[object]:
    """Matrix products of bfloat16 within, if wanted and if the processor multiplies them faster."""
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.autocast("cpu", torch.bfloat16, enabled=half and capabilities.get("avx512_bf16") is True)


def rounded(model: Model) -> Model:
    """Round the linear layers' weights, in place, to what ``products`` makes of them anew at each product."""
    if torch.is_autocast_enabled("cpu"):
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.get_autocast_dtype("cpu"))
    return model
