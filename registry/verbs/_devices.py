"""Which device computes, and what is recorded about the libraries that did."""

from __future__ import annotations

import platform

import torch

from registry.errors import UsageError
from registry.verbs._text import check_device
from registry.version import VERSION


def device_of(name: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:n``. Raises ``UsageError``."""
    check_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
