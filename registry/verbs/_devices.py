"""Which device computes, and what is recorded about the libraries that did."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from registry.errors import UsageError
from registry.verbs._text import check_device
from registry.version import VERSION

if TYPE_CHECKING:
    import torch


def check_devices(names: str) -> None:
    """Raise ``UsageError`` unless ``names`` can be a device, or several GPUs apart by commas, each once.

    torch is imported only where a GPU is asked for.
    """
    listed = names.split(",")
    for name in listed:
        check_device(name)
    if len(listed) > 1 and not all(name.startswith("cuda:") for name in listed):
        raise UsageError(f"not all of {names!r} are GPUs by number", hint="such as cuda:0,cuda:1")
    if len(set(listed)) < len(listed):
        raise UsageError(f"{names!r} names a device twice", hint="such as cuda:0,cuda:1")
    if names not in {"auto", "cpu"}:
        devices_of(names)


def devices_of(names: str) -> tuple[torch.device, ...]:
    """One device, or several apart by commas. Raises ``UsageError`` for one that is not there."""
    return tuple(device_of(name) for name in names.split(","))


def device_of(name: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:n``. Raises ``UsageError``."""
    import torch

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
    import torch

    return {
        "adapter-registry": VERSION,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
