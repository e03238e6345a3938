"""The forms of a module's delta: how it meets the base model's parameter."""

from __future__ import annotations

from typing import Literal

Form = Literal["linear", "embedding", "conv", "whole", "tokens", "offset", "copy", "difference"]

OF_PARAMETERS = frozenset({"whole", "tokens", "offset", "copy", "difference"})
"""Those of parameters rather than of LoRA's modules; :mod:`registry.kinds._weights` says what they are."""
EXACT = OF_PARAMETERS - {"difference"}
"""Those that an adapter holds beside its own modules: cutting them to a rank would save nothing."""
