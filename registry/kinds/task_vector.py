"""Task vectors: the difference of two whole models, parameter by parameter: ``Δ = θ_finetuned − θ_base``.

Source: Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023, arXiv 2212.04089. PEFT has no such type:
the folder has its form, with each difference under the name of its parameter. No parameter is transposed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from registry.errors import Refused
from registry.kinds import Kind, Layout, Module, TensorInfo, _parts


class TaskVector(Kind):
    """Differences of parameters of any shape; :mod:`registry.kinds._weights` has the rules for each of them."""

    peft_type = "TASK_VECTOR"
    loadable = False

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked = _parts.in_config(config, frozenset(), {})
        if not tensors:
            raise Refused("there are no tensors in it", hint="make one with registry extract")
        _parts.require_floats(tensors, sorted(tensors))
        modules = {name: _module(name, info.shape) for name, info in sorted(tensors.items())}
        return Layout(modules, tuple(blocked.values()), {key: config[key] for key in blocked})

    def config(self, modules: Mapping[str, Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        del modules
        return {"peft_type": self.peft_type, "task_type": _parts.task_type(inputs)}


def _module(name: str, stored: tuple[int, ...]) -> Module:
    shape = (stored[0], math.prod(stored[1:])) if stored else (1, 1)
    return Module(name, {"value": name}, shape, form="difference", kernel=stored, parameter=name)
