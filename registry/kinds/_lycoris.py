"""What LoHa and LoKr share: how a file is understood, and how large the factors of a ΔW may grow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Refused
from registry.kinds import Layout, Module, TensorInfo, _parts, _weights
from registry.kinds._scaling import Scaling
from registry.kinds.lora import Lora

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST = 2**30
"""The most elements in the two factors of one module: a small file can stand for a huge ΔW."""

_HARMLESS = frozenset(
    {
        "r",
        "alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_effective_conv2d",
        "decompose_both",
        "decompose_factor",
        "rank_dropout",
        "rank_dropout_scale",
        "module_dropout",
        "init_weights",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
    }
)


class Lycoris(Lora):
    """An adapter kind of LyCORIS; results are stored as LoRA.

    A convolution whose factors are flat, ``(m, in·kernel)``, is not told from a Linear in the file, and read as one.
    """

    writes_as: ClassVar[str | None] = "lora"
    roles: ClassVar[re.Pattern[str]]
    """Full names of tensors, with the groups ``module`` and ``role``."""

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked = _parts.in_config(config, _HARMLESS, {})
        scaling = Scaling(config, alpha="alpha")
        modules: dict[str, Module] = {}
        blockers = list(blocked.values())
        by_module, rest = by_role(self.roles, tensors)
        for name, roles in by_module.items():
            try:
                module = self._checked(name, roles, tensors, scaling, config)
            except Refused:
                if not blocked:
                    raise
                continue  # an entry that is not understood may mean other shapes
            if isinstance(module, Module):
                modules[name] = module
            else:
                blockers.append(module)
        parts, unread = _weights.read(config, tensors, rest, modules)
        blockers += [*_weights.missing(config, parts), *_parts.in_tensors(unread)]
        if not modules and not blockers:
            raise Refused(f"there are no {self.peft_type} tensors in it", hint="is it a PEFT adapter folder?")
        found = dict(sorted({**modules, **parts}.items()))
        return Layout(found, tuple(blockers), {key: config[key] for key in blocked})

    def module(
        self,
        name: str,
        roles: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        scaling: Scaling,
        config: Mapping[str, Any],
    ) -> Module:
        """One module from its tensors' names and shapes by role. Raises ``Refused`` where they disagree."""
        raise NotImplementedError

    def _checked(
        self,
        name: str,
        roles: Mapping[str, str],
        tensors: Mapping[str, TensorInfo],
        scaling: Scaling,
        config: Mapping[str, Any],
    ) -> Module | str:
        if ".base_layer." in f".{name}.":
            return f"adapters stacked on one module are not implemented: {name}"
        _parts.require_floats(tensors, sorted(roles.values()))
        shapes = {role: tensors[key].shape for role, key in roles.items()}
        found = self.module(name, dict(roles), shapes, scaling, config)
        inner = [shape[0] for role, shape in shapes.items() if "_t" in role]
        elements = sum(found.shape) * max(found.rank or 1, *inner, 1)
        if elements > LARGEST:
            return f"module {name} would have {elements} elements as LoRA, at most {LARGEST} are computed"
        return found


def by_role(pattern: re.Pattern[str], names: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module, in sorted order, and role; and the names that do not match."""
    found: dict[str, dict[str, str]] = {}
    rest = []
    for name in sorted(names):
        if match := pattern.fullmatch(name):
            found.setdefault(match["module"], {})[match["role"]] = name
        else:
            rest.append(name)
    return dict(sorted(found.items())), rest


def mismatch(name: str, shapes: Mapping[str, tuple[int, ...]], roles: Iterable[str]) -> Refused:
    """What is raised for tensors of one module that do not fit each other."""
    found = ", ".join(f"{role} {list(shapes[role])}" for role in roles)
    return Refused(f"module {name} has tensors that do not fit: {found}")


def kernel_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The kernel of a Tucker core ``(r, r, k, l)``: PEFT stores that of a Conv1d as ``(r, r, k, 1)``."""
    return shape[2:3] if shape[3] == 1 else shape[2:]


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the dtype they are computed with: float64 where one of them has it, else float32."""
    import torch

    dtype: torch.dtype = torch.float32
    for tensor in tensors.values():
        dtype = torch.promote_types(dtype, tensor.dtype)
    return {role: tensor.to(dtype) for role, tensor in tensors.items()}


def tucker(core: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Factors ``(m, r)`` and ``(r, n·kernel)`` of ``W[p, q, k, l] = Σᵢⱼ core[i, j, k, l]·rows[i, p]·columns[j, q]``."""
    import torch

    return rows.T, torch.einsum("ijkl,jq->iqkl", core, columns).flatten(1)


def whole(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix ``(m, n)`` as factors of rank ``min(m, n)``: the identity of the shorter side, and itself."""
    import torch

    m, n = weight.shape
    eye = torch.eye(min(m, n), dtype=weight.dtype)
    return (eye, weight) if m <= n else (weight, eye)
