"""Adapter types that are cataloged but not composed: one blocker, no modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.kinds import Kind, Layout, TensorInfo

KNOWN = frozenset(
    {
        "adalora",
        "adamss",
        "adaption_prompt",
        "beft",
        "boft",
        "bone",
        "c3a",
        "cartridge",
        "cpt",
        "deft",
        "delora",
        "fourierft",
        "frod",
        "glora",
        "gralora",
        "hira",
        "hra",
        "lily",
        "ln_tuning",
        "miss",
        "multitask_prompt_tuning",
        "oft",
        "osf",
        "p_tuning",
        "peanut",
        "poly",
        "prefix_tuning",
        "prompt_tuning",
        "psoft",
        "pvera",
        "randlora",
        "road",
        "shadow",
        "shira",
        "supertuning",
        "tinylora",
        "trainable_tokens",
        "unilora",
        "vblora",
        "waveft",
        "xlora",
    }
)
"""PEFT's types (0.21) in lower case, less those with a file of their own."""

DESCRIPTIVE = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "peft_type",
        "peft_version",
        "revision",
        "runtime_config",
        "task_type",
    }
)
"""Config entries that never change what an adapter computes."""


class Opaque(Kind):
    """A known type whose maths is not implemented."""

    def __init__(self, name: str) -> None:
        self.peft_type = name.upper()

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        del tensors
        semantics = {
            key: value for key, value in config.items() if key not in DESCRIPTIVE and not neutral(value)
        }
        return Layout({}, (f"{self.peft_type} adapters cannot be composed yet",), semantics)


def neutral(value: Any) -> bool:
    """Whether a config value switches nothing on: null, false, or an empty string, list or object."""
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)
