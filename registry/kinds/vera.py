"""VeRA: ``ΔW = diag(λ_b)·B·diag(λ_d)·A``, read as LoRA with ``up = diag(λ_b)·B·diag(λ_d)`` and ``down = A``, exactly.

``A`` and ``B`` are random, frozen, and shared by all modules: each takes the first columns of ``vera_A (r, N)`` and the
first rows of ``vera_B (M, r)``, where N and M are the largest input and output sizes of all. ``λ_b (m,)`` and
``λ_d (r,)`` are trained. A module's own input size is not in the file: it is known to be N only where all modules read
the same activations.

Sources: Kopiczko, Blankevoort & Asano, ICLR 2024 (arXiv 2310.11454); names and slices as in PEFT 0.21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from registry.errors import Refused
from registry.kinds import Layout, Module, TensorInfo, _parts, _weights
from registry.kinds._lycoris import by_role, widened
from registry.kinds._scaling import number
from registry.kinds.lora import Lora

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import LowRank

_ROLES = re.compile(r"(?P<module>.+)\.(?P<role>vera_lambda_[bd])")
_SHARED = {"vera_A": "base_model.vera_A", "vera_B": "base_model.vera_B"}
_DEFAULT_RANK = 256

_HARMLESS = frozenset(
    {
        "r",
        "projection_prng_key",
        "save_projection",
        "d_initial",
        "vera_dropout",
        "init_weights",
        "fan_in_fan_out",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
    }
)

_PARTS = {"bias": "a trained bias"}

_NOT_SAVED = (
    "its random projections are not in the file (save_projection), and are drawn in a size that only the base model "
    "tells: convert it with PEFT's save_as_lora"
)
_UNCLEAR = (
    "its modules may differ in input size, which the file does not tell (such as {}): convert it with PEFT's "
    "save_as_lora"
)

_READ_ALIKE = frozenset(
    {
        *("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj"),
        *("query", "key", "value", "query_key_value", "q_lin", "k_lin", "v_lin", "q", "k", "v"),
    }
)
"""Layers of transformers that read the hidden state, all of one size."""


class Vera(Lora):
    """VeRA on Linear and Conv1D; results are stored as LoRA."""

    peft_type = "VERA"
    writes_as: ClassVar[str | None] = "lora"

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked = _parts.in_config(config, _HARMLESS, _PARTS)
        by_module, rest = by_role(_ROLES, tensors)
        modules: dict[str, Module] = {}
        blockers = list(blocked.values())
        semantics = {key: config[key] for key in blocked}
        if not _parts.whole(config, "save_projection", default=True):
            blockers.append(_NOT_SAVED)
            semantics |= {"projection_prng_key": config.get("projection_prng_key") or 0}
        elif by_module and blocked.keys() <= _PARTS.keys():
            modules, unclear = _modules(by_module, tensors, number(config, "r", _DEFAULT_RANK))
            blockers += unclear
        others = (name for name in rest if name not in _SHARED.values())
        parts, unread = _weights.read(config, tensors, others, modules)
        blockers += [*_weights.missing(config, parts), *_parts.in_tensors(unread)]
        if not by_module and not blockers:
            raise Refused("there are no VeRA tensors in it", hint="is it a PEFT adapter folder?")
        return Layout(dict(sorted({**modules, **parts}.items())), tuple(blockers), semantics)

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> LowRank:
        from registry.deltas import LowRank

        rows = tensors["vera_B"][: module.shape[0]]  # (m, r)
        wide = widened({**tensors, "vera_A": tensors["vera_A"][:0], "vera_B": rows})
        up = wide["vera_lambda_b"][:, None] * wide["vera_B"] * wide["vera_lambda_d"]  # (m, r)
        return LowRank(up, tensors["vera_A"])


def _modules(
    by_module: Mapping[str, Mapping[str, str]], tensors: Mapping[str, TensorInfo], stated: float
) -> tuple[dict[str, Module], list[str]]:
    """The modules, or blockers. Raises ``Refused`` where shapes or ranks disagree."""
    if missing := [name for name in _SHARED.values() if name not in tensors]:
        raise Refused(f"tensor {missing[0]} is missing, which the config says was saved (save_projection)")
    _parts.require_floats(tensors, _SHARED.values())
    down, up = (tensors[name].shape for name in _SHARED.values())
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise Refused(f"vera_A has shape {list(down)} and vera_B {list(up)}: not (r, N) and (M, r)")
    if down[0] != stated:
        raise Refused(
            f"vera_A has rank {down[0]}, but the config {stated:g}",
            hint="the config belongs to other weights",
        )
    modules: dict[str, Module] = {}
    for name, roles in by_module.items():
        if ".base_layer." in f".{name}.":
            return {}, [f"adapters stacked on one module are not implemented: {name}"]
        if len(roles) != 2:
            raise Refused(
                f"module {name} has only {', '.join(roles)}", hint="its two vectors belong together"
            )
        _parts.require_floats(tensors, roles.values())
        b, d = (tensors[roles[f"vera_lambda_{role}"]].shape for role in "bd")
        if len(b) != 1 or d != (down[0],) or b[0] > up[0]:
            vectors = f"vera_lambda_b {list(b)} and vera_lambda_d {list(d)}"
            raise Refused(f"module {name} has {vectors}, which do not fit vera_B {list(up)}")
        modules[name] = Module(name, {**roles, **_SHARED}, (b[0], down[1]), down[0])
    unknown = _of_unknown_size(modules, up[0])
    return (modules, []) if unknown is None else ({}, [_UNCLEAR.format(unknown)])


def _of_unknown_size(modules: Mapping[str, Module], largest: int) -> str | None:
    """A module of which it is not known that it reads as many features as the widest one; None where all do.

    They are taken to where they are one layer repeated, with one output size, or all read the hidden state.
    """
    sizes: dict[tuple[str, str], int] = {}
    for name, module in modules.items():
        path, _, last = name.rpartition(".")
        layer = (re.sub(r"\d+", "#", path), last)
        if sizes.setdefault(layer, module.shape[0]) != module.shape[0]:
            return name
    if max(sizes.values()) == largest and (len(sizes) == 1 or {last for _, last in sizes} <= _READ_ALIKE):
        return None
    return next(iter(modules))
