"""A catalog of LoRA and (IA)³ adapters, and a versioned, reproducible store of their compositions.

>>> from registry import Registry
>>> with Registry.open() as catalog:                                        # doctest: +SKIP
...     detox = catalog.compose("detox", "alpaca@prod - 0.4*toxic")
...     catalog.materialize(detox, into="model", base_path="llama", out="detox-model")
...     catalog.publish(detox, "team/detox")
"""

from typing import TYPE_CHECKING, Any

from registry.version import VERSION

if TYPE_CHECKING:
    from registry.api import Registry

__all__ = ["Registry"]
__version__ = VERSION


def __getattr__(name: str) -> Any:
    """``Registry``, when it is asked for: importing a module of this package costs that module alone."""
    if name == "Registry":
        from registry.api import Registry

        return Registry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
