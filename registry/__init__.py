"""A catalog of LoRA and (IA)³ adapters, and a versioned, reproducible store of their compositions.

>>> from registry import Registry
>>> with Registry.open() as catalog:                                        # doctest: +SKIP
...     detox = catalog.compose("detox", "alpaca@prod - 0.4*toxic")
...     catalog.materialize(detox, into="model", base_path="llama", out="detox-model")
...     catalog.publish(detox, "team/detox")
"""

from registry.api import Registry
from registry.version import VERSION

__all__ = ["Registry"]
__version__ = VERSION
