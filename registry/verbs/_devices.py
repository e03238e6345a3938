"""Which device computes, and what is recorded about the libraries that did."""

from __future__ import annotations

import platform
import re

import torch

from registry.errors import UsageError
from registry.version import VERSION

_DEVICE = re.compile(r"cpu|cuda(?::[0-9]+)?")


def device_of(name: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:n``. Raises ``UsageError``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if _DEVICE.fullmatch(name) is None:
        raise UsageError(f"unknown device {name!r}", hint="one of: auto, cpu, cuda, cuda:0, cuda:1 …")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"there is no device {name}", hint=f"this machine has {torch.cuda.device_count()} GPUs"
        )
    return device


def libraries() -> dict[str, str]:
    """The versions a result may depend on."""
    return {
        "adapter-registry": VERSION,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
