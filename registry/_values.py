"""Values of a base model's parameters, for deltas that are differences from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from registry import digest
from registry.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor

    from registry.checkpoint import BaseCheckpoint
    from registry.kinds import Module


class BaseValues:
    """The parameters of ``base`` that ``modules`` change. ``absent`` are those that it does not have: new heads.

    Raises ``Incompatible`` and ``Refused`` as :meth:`BaseCheckpoint.resolve` does.
    """

    def __init__(
        self, base: BaseCheckpoint, modules: Mapping[str, Module], fan_in_fan_out: bool | None
    ) -> None:
        self._base = base
        self._targets = base.resolve(modules, fan_in_fan_out=fan_in_fan_out, new_heads=True)
        self.absent = sorted(modules[name].target for name in modules if name not in self._targets)

    def value(self, module: Module) -> Tensor | None:
        """What a module's delta is a difference from, in the delta's orientation and the stored dtype.

        ``(m, n)`` for LoRA modules, the rows of token embeddings, otherwise the tensor as it is stored; None for a
        new head.
        """
        target = self._targets.get(module.name)
        if target is None:
            return None
        found = tensor_of(self._base, target.source)
        if module.form == "tokens":
            return found[list(module.rows)]  # (rows, n)
        if module.form == "conv":
            return found.flatten(1)
        return found.T if module.form == "embedding" or target.transposed else found

    def digest(self, modules: Iterable[Module]) -> str:
        """What identifies the values for these modules, wherever they are stored."""
        import torch

        content: dict[str, Any] = {}
        for module in sorted(modules, key=lambda module: module.name):
            value = self.value(module)
            if value is None:
                content[module.name] = None
                continue
            data = value.contiguous().view(-1).view(torch.uint8).numpy().data
            content[module.name] = {
                "dtype": str(value.dtype).removeprefix("torch."),
                "shape": list(value.shape),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        return digest.of_json(content)


def tensor_of(base: BaseCheckpoint, name: str) -> Tensor:
    """A checkpoint's tensor, mapped from its file."""
    from safetensors import SafetensorError, safe_open

    path = base.folder / base.tensors[name].shard
    try:
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise Refused(f"{path} cannot be read: {error}", hint="download the base model again") from None
    return tensor
