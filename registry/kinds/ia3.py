"""(IA)³: activations are multiplied by ``ℓ``; the delta is ``ℓ − 1``, so that ⊖ℓ is ``2 − ℓ``.

Sources: Liu et al., NeurIPS 2022 (arXiv 2205.05638); the arithmetic is that of Zhang et al., NeurIPS 2023
(arXiv 2306.14870): ``ℓ = 1 + Σ wᵢ(ℓᵢ − 1)``. Offsets are held in float64: the vectors are small, and ``ℓ − 1`` is
exact there for every ``ℓ`` stored in a narrower type, down to 2⁻²⁹ in size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry.errors import Refused
from registry.forms import OF_PARAMETERS
from registry.kinds import Kind, Layout, Module, TensorInfo, _parts, _weights
from registry.kinds._patterns import Patterns

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, Rescaling

_ROLE = re.compile(r"(?P<module>.+)\.ia3_l")

_HARMLESS = frozenset(
    {
        "target_modules",
        "exclude_modules",
        "feedforward_modules",
        "fan_in_fan_out",
        "init_ia3_weights",
        "modules_to_save",
    }
)


class Ia3(Kind):
    """(IA)³ on Linear, Conv1D and convolutions, feedforward modules included."""

    peft_type = "IA3"

    def __init__(self, module: Module | None = None) -> None:
        self._module = module

    def at(self, module: Module) -> Ia3:
        """The rules for one module: the vector of a convolution is stored with more dimensions."""
        return Ia3(module)

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked = _parts.in_config(config, _HARMLESS, {})
        modules: dict[str, Module] = {}
        blockers = list(blocked.values())
        for key in sorted(tensors):
            if match := _ROLE.fullmatch(key):
                found = _module(match["module"], key, tensors, config)
                if isinstance(found, Module):
                    modules[found.name] = found
                else:
                    blockers.append(found)
        others = (key for key in tensors if not _ROLE.fullmatch(key))
        parts, unread = _weights.read(config, tensors, others, modules)
        blockers += [*_weights.missing(config, parts), *_parts.in_tensors(unread)]
        if not modules and not blockers:
            raise Refused("there are no (IA)³ tensors in it", hint="is it a PEFT adapter folder?")
        ordered = dict(sorted({**modules, **parts}.items()))
        return Layout(ordered, tuple(blockers), {key: config[key] for key in blocked})

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> Rescaling:
        from registry.deltas import Rescaling

        return Rescaling(tensors["ia3_l"].double().flatten() - 1, module.feedforward)  # (d,)

    def combine(self, terms: Sequence[tuple[float, Delta]]) -> Rescaling:
        import torch

        from registry.deltas import Rescaling, require_same

        require_same([delta for _, delta in terms])
        first = _rescaling(terms[0][1])
        total = torch.zeros_like(first.offset, dtype=torch.float64)  # (d,)
        for weight, delta in terms:
            if weight != 0:
                total = total + weight * _rescaling(delta).offset
        return Rescaling(total, first.feedforward)

    def tensors(self, module: str, delta: Delta, dtype: str, base: Tensor | None = None) -> dict[str, Tensor]:
        import torch

        del base
        scale = _rescaling(delta)
        ell = (1 + scale.offset.double()).to(getattr(torch, dtype))
        if self._module is not None and self._module.form == "conv":
            ell = ell.reshape(1, -1, *self._module.kernel)  # (1, d, 1, 1)
        else:
            ell = ell[None, :] if scale.feedforward else ell[:, None]  # (1, d) or (d, 1)
        return {f"{module}.ia3_l": ell}

    def describe(self, module: str, delta: Delta) -> Module:
        scale, at = _rescaling(delta), self._module
        form, kernel = ("linear", ()) if at is None else (at.form, at.kernel)
        roles = {"ia3_l": f"{module}.ia3_l"}
        return Module(module, roles, scale.shape, None, 1.0, form, kernel, scale.feedforward)

    def config(self, modules: Mapping[str, Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        own = {name: module for name, module in modules.items() if module.form not in OF_PARAMETERS}
        saved = _weights.config(modules.values(), inputs)
        return {
            "peft_type": self.peft_type,
            "task_type": _parts.task_type(inputs),
            "target_modules": sorted(own),
            "feedforward_modules": _feedforward(own),
            "fan_in_fan_out": any(config.get("fan_in_fan_out") is True for config in inputs),
            "inference_mode": True,
            "init_ia3_weights": True,
            "modules_to_save": saved["modules_to_save"],
        }

    def patch(self, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        scale = _rescaling(delta)
        ell = (1 + scale.offset.double()).to(block.dtype)  # (d,)
        if scale.feedforward == transposed:  # the scaled features run along the stored rows
            return block * ell[row : row + block.shape[0], None]
        return block * ell.repeat_interleave(block.shape[1] // len(ell))  # a column per entry of a kernel

    def patches_bias(self, delta: Delta) -> bool:
        return not _rescaling(delta).feedforward


def _module(
    name: str, key: str, tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]
) -> Module | str:
    """The module, or a blocker. Raises ``Refused`` where its shape and the config disagree."""
    _parts.require_floats(tensors, [key])
    shape = tensors[key].shape
    if len(shape) in (4, 5) and shape[0] == 1 and all(size == 1 for size in shape[2:]):
        return _convolution(name, key, shape, config)
    if len(shape) != 2 or 1 not in shape:
        raise Refused(
            f"module {name} has an ia3_l of shape {list(shape)}", hint="expected (out, 1) or (1, in)"
        )
    stated = config.get("feedforward_modules")
    listed = None
    if isinstance(stated, list):  # PEFT compares the ends of names, without a dot
        listed = any(isinstance(end, str) and name.endswith(end) for end in stated)
    feedforward = shape[0] == 1 if shape != (1, 1) else bool(listed)
    if listed is not None and listed != feedforward:
        sides = ("output", "input")
        raise Refused(
            f"module {name} scales its {sides[feedforward]} by its shape {list(shape)}, but its {sides[listed]} by "
            "the config's feedforward_modules",
            hint="the config belongs to other weights",
        )
    return Module(name, {"ia3_l": key}, (max(shape),), feedforward=feedforward)


def _convolution(name: str, key: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> Module | str:
    """A convolution's module; ``shape`` is (1, out, 1, 1) or (1, in, 1, 1), so that only the config tells the side."""
    stated = config.get("feedforward_modules")
    if isinstance(stated, str):
        expression = Patterns("feedforward_modules", {f"^(?:{stated})": 1.0})
        feedforward = expression.value(name, 0.0) == 1
    elif isinstance(stated, list):
        feedforward = any(isinstance(end, str) and name.endswith(end) for end in stated)
    else:
        return f"its config does not say whether the convolution {name} is scaled at its input or its output"
    return Module(name, {"ia3_l": key}, shape[1:2], None, 1.0, "conv", shape[2:], feedforward)


def _feedforward(modules: Mapping[str, Module]) -> list[str] | str:
    """PEFT's ``feedforward_modules``: full names, or an expression where the ends of names would mislead it."""
    inside = sorted(name for name, module in modules.items() if module.feedforward)
    outside = [name for name, module in modules.items() if not module.feedforward]
    if any(name.endswith(tuple(inside)) for name in outside):
        return "|".join(re.escape(name) for name in inside)
    return inside


def _rescaling(delta: Delta) -> Rescaling:
    from registry.deltas import Rescaling

    if not isinstance(delta, Rescaling):
        raise TypeError(f"not an (IA)³ delta: {delta!r}")
    return delta
