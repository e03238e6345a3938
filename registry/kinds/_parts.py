"""What an adapter carries beside the tensors its kind computes with: each such part becomes a blocker."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from registry.errors import Refused
from registry.kinds import TensorInfo
from registry.kinds._opaque import DESCRIPTIVE, neutral

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})

_TENSORS = (
    (re.compile(r"\.lora_magnitude_vector(\.weight)?$"), "DoRA magnitude vectors"),
    (re.compile(r"\.lora_[AB]\.bias$"), "biases of LoRA factors"),
    (re.compile(r"(^|\.)(trainable_tokens_|token_adapter\.)"), "trained token embeddings"),
    (re.compile(r"(^|\.)modules_to_save\."), "full weights (modules_to_save)"),
    (re.compile(r"(^|\.)bias$"), "trained biases"),
    (re.compile(r"\.base_layer\..*(lora_|ia3_)"), "adapters stacked on one module"),
    (
        re.compile(r"\.base_layer\.(weight|bias)$"),
        "copies of base weights (save again with save_pretrained(..., save_embedding_layers=False))",
    ),
    (re.compile(r"^(?!.*(lora_|ia3_)).*(^|\.)weight$"), "full weights"),
)


def in_config(
    config: Mapping[str, Any], harmless: Collection[str], parts: Mapping[str, str]
) -> dict[str, str]:
    """A blocker by config key: the ``parts`` that are switched on, and keys that nobody knows."""
    found = {}
    for key in sorted(config):
        if (
            key in DESCRIPTIVE
            or key in harmless
            or neutral(config[key])
            or (key, config[key]) == ("bias", "none")
        ):
            continue
        found[key] = (
            f"{parts[key]} ({key}) is not implemented"
            if key in parts
            else f"config entry {key[:64]!r} is not understood"
        )
    return found


def in_tensors(names: Iterable[str]) -> list[str]:
    """A blocker per sort of tensor, naming the first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        sort = next((sort for pattern, sort in _TENSORS if pattern.search(name)), "unknown tensors")
        groups.setdefault(sort, []).append(name)
    return [f"{sort} are not implemented: {_some(found)}" for sort, found in sorted(groups.items())]


def require_floats(tensors: Mapping[str, TensorInfo], names: Iterable[str]) -> None:
    """Raise ``Refused`` for a tensor to compute with that is not floating point, or empty."""
    for name in names:
        info = tensors[name]
        if info.dtype not in FLOATS:
            raise Refused(
                f"tensor {name} is {info.dtype}", hint=f"adapters are read in {', '.join(sorted(FLOATS))}"
            )
        if 0 in info.shape:
            raise Refused(
                f"tensor {name} is empty: {list(info.shape)}", hint="was it saved from a sharded model?"
            )


def whole(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """A true-or-false entry; null and absent mean the default."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(f"config entry {key} is {value!r:.100}, not true or false")
    return value


def task_type(inputs: Iterable[Mapping[str, Any]]) -> str | None:
    """The task type that all inputs agree on."""
    found = {value if isinstance(value := config.get("task_type"), str) else None for config in inputs}
    return found.pop() if len(found) == 1 else None


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
