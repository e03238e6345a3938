"""What a base model's weight files hold, without their bytes: enough to tell whether an adapter fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from registry._shards import StoredTensor
from registry._targets import Target, resolve

if TYPE_CHECKING:
    from registry.kinds import Module

FORMAT = 1
_DECISIVE = ("model_type", "architectures", "tie_word_embeddings", "vocab_size", "quantization_config")
"""What of a model's config decides which tensor a module is."""


@dataclass(frozen=True)
class BaseLayout:
    """Tensor names with dtype (as torch names it) and shape, and what matters of the model's ``config.json``."""

    shapes: Mapping[str, tuple[str, tuple[int, ...]]]
    config: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(prod(shape) for _, shape in self.shapes.values())

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(sorted({dtype for dtype, _ in self.shapes.values()}))

    @cached_property
    def _tensors(self) -> dict[str, StoredTensor]:
        return {
            name: StoredTensor(name, "", dtype, shape, 0, 0) for name, (dtype, shape) in self.shapes.items()
        }

    def resolve(
        self, modules: Mapping[str, Module], *, fan_in_fan_out: bool | None = None, new_heads: bool = False
    ) -> dict[str, Target]:
        """As :meth:`registry.checkpoint.BaseCheckpoint.resolve`, and with its errors."""
        return resolve(self._tensors, self.config, modules, fan_in_fan_out, new_heads=new_heads)

    def to_json(self) -> dict[str, Any]:
        tensors = {name: [dtype, *shape] for name, (dtype, shape) in self.shapes.items()}
        return {"format": FORMAT, "config": self.config, "tensors": tensors}


def layout(tensors: Iterable[tuple[str, str, tuple[int, ...]]], config: Mapping[str, Any]) -> BaseLayout:
    """The layout of weight files with these tensors (name, dtype, shape), beside this ``config.json``."""
    kept = {key: config[key] for key in _DECISIVE if key in config}
    if isinstance(text := config.get("text_config"), dict):
        kept["text_config"] = {key: text[key] for key in _DECISIVE if key in text}
    return BaseLayout({name: (dtype, shape) for name, dtype, shape in tensors}, kept)


def from_json(data: Mapping[str, Any]) -> BaseLayout:
    """What :meth:`BaseLayout.to_json` wrote. Raises ``ValueError`` for another format."""
    if data.get("format") != FORMAT:
        raise ValueError(f"base layout format {data.get('format')!r} is not {FORMAT}")
    shapes = {name: (dtype, tuple(shape)) for name, (dtype, *shape) in data["tensors"].items()}
    return BaseLayout(shapes, data["config"])
