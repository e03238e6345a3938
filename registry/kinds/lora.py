"""LoRA: ``ΔW = s·B·A`` with ``s = alpha/r``, or ``alpha/√r`` with rsLoRA.

Sources: Hu et al., ICLR 2022 (arXiv 2106.09685); Kalajdzievski 2023 (arXiv 2312.03732) for rsLoRA; names and
defaults as in PEFT 0.21. Ranks are read off the tensors and checked against the config.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry.errors import Refused
from registry.forms import OF_PARAMETERS
from registry.kinds import Kind, Layout, Module, TensorInfo, _parts, _weights
from registry.kinds._dora import dora_delta
from registry.kinds._grouped import block_diagonal, grouped
from registry.kinds._patterns import exact_keys
from registry.kinds._scaling import Scaling

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, Dense, LowRank

_ROLES = re.compile(
    r"(?P<module>.+)\.(?:(?P<weight>lora_[AB])\.weight|(?P<table>lora_embedding_[AB])|"
    r"(?P<magnitude>lora_magnitude_vector)(?:\.weight)?)"
)
_MAGNITUDE = "lora_magnitude_vector"

_HARMLESS = frozenset(
    {
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "init_lora_weights",
        "lora_dropout",
        "fan_in_fan_out",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "megatron_config",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "qalora_group_size",
        "merge_weights",
        "bias",
        "lora_bias",
        "modules_to_save",
        "trainable_token_indices",
        "use_dora",
    }
)

_PARTS = {
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "ensure_weight_tying": "an adapter tied to the tied embedding",
    "kasa_config": "KaSA",
    "layer_replication": "layer replication",
    "monteclora_config": "MonteCLoRA",
    "target_parameters": "LoRA on bare parameters",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "velora_config": "VeLoRA",
}

_RESHAPING = frozenset({"layer_replication", "target_parameters", "use_bdlora", "use_qalora"})
"""Parts under which shapes and ranks follow other rules than those checked here."""

_KEEPS_BASE = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Initializations that leave the base weight as it was, so that ΔW is B·A alone."""


class Lora(Kind):
    """LoRA on Linear, Conv1D, Embedding and convolutions."""

    peft_type = "LORA"

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked, start = _parts.in_config(config, _HARMLESS, _PARTS), _initialization(config)
        lenient = any(key in _RESHAPING or key not in _PARTS for key in blocked)
        dora = _parts.whole(config, "use_dora", default=False)
        scaling = Scaling(config, alpha="lora_alpha", root=_parts.whole(config, "use_rslora", default=False))
        modules: dict[str, Module] = {}
        blockers = list(blocked.values())
        for name, roles in sorted(_by_module(tensors).items()):
            try:
                found = _module(name, roles, tensors, scaling, dora=dora)
            except Refused:
                if not lenient:
                    raise
                continue
            if isinstance(found, Module):
                modules[name] = found
            else:
                blockers.append(found)
        others = (key for key in tensors if not _ROLES.fullmatch(key))
        parts, unread = _weights.read(config, tensors, others, modules)
        blockers += [*_weights.missing(config, parts), *_parts.in_tensors(unread)]
        if not modules and not blockers:
            raise Refused("there are no LoRA tensors in it", hint="is it a PEFT adapter folder?")
        semantics = {key: config[key] for key in (*blocked, *(["init_lora_weights"] if start else []))}
        return Layout(dict(sorted({**modules, **parts}.items())), tuple(blockers), semantics, start)

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> LowRank | Dense:
        from registry.deltas import LowRank

        prefix = "lora_embedding" if module.form == "embedding" else "lora"
        up = tensors[f"{prefix}_B"].flatten(1)  # (m, k), (m, k / groups)
        down = tensors[f"{prefix}_A"].flatten(1)  # (k, n)
        form: Any = module.form
        if module.groups > 1:
            up = block_diagonal(up, module.groups)  # (m, k)
        low = LowRank(up, down, module.scale, form, module.kernel)
        return dora_delta(low, tensors[_MAGNITUDE], tensors["base"]) if _MAGNITUDE in module.tensors else low

    def combine(self, terms: Sequence[tuple[float, Delta]]) -> LowRank | Dense:
        from registry.deltas import Dense, stack, total

        if any(isinstance(delta, Dense) for _, delta in terms):
            return total([(w, delta if isinstance(delta, Dense) else _low_rank(delta)) for w, delta in terms])
        return stack([(weight, _low_rank(delta)) for weight, delta in terms])

    def tensors(self, module: str, delta: Delta, dtype: str, base: Tensor | None = None) -> dict[str, Tensor]:
        import torch

        from registry.deltas import accumulator

        del base
        low = _folded(delta)
        wide, narrow = accumulator([low]), getattr(torch, dtype)
        up, down = (t.to(wide).to(narrow) for t in grouped(low))  # (m, k / groups), (k, n)
        if low.form == "embedding":
            return {f"{module}.lora_embedding_A": down, f"{module}.lora_embedding_B": up}
        if low.form == "conv":
            channels = low.shape[1] // math.prod(low.kernel)
            down = down.reshape(len(down), channels, *low.kernel)  # (k, in, kh, kw)
            up = up.reshape(*up.shape, *(1 for _ in low.kernel))  # (m, k / groups, 1, 1)
        return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}

    def describe(self, module: str, delta: Delta) -> Module:
        low = _folded(delta)
        tail = "" if low.form == "embedding" else ".weight"
        prefix = "lora_embedding" if low.form == "embedding" else "lora"
        roles = {role: f"{module}.{role}{tail}" for role in (f"{prefix}_A", f"{prefix}_B")}
        rank = len(grouped(low)[1])
        return Module(module, roles, low.shape, rank, form=low.form, kernel=low.kernel, groups=low.groups)

    def config(self, modules: Mapping[str, Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        own = {name: module for name, module in modules.items() if module.form not in OF_PARAMETERS}
        ranks = {name: module.rank or 1 for name, module in own.items()}
        highest = max(ranks.values())
        keys = exact_keys(ranks)
        pattern = {keys[name]: rank for name, rank in sorted(ranks.items()) if rank != highest}
        return {
            "peft_type": self.peft_type,
            "task_type": _parts.task_type(inputs),
            "target_modules": sorted(own),
            "r": highest,
            "lora_alpha": highest,
            "rank_pattern": pattern,
            "alpha_pattern": dict(pattern),
            "use_rslora": False,
            "use_dora": False,
            "bias": "none",
            "lora_dropout": 0.0,
            "init_lora_weights": True,
            "inference_mode": True,
            "fan_in_fan_out": any(config.get("fan_in_fan_out") is True for config in inputs),
            **_weights.config(modules.values(), inputs),
        }

    def patch(self, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        from registry.deltas import Dense

        rows = slice(row, row + block.shape[0])
        if isinstance(delta, Dense):
            across = transposed or delta.form == "embedding"
            change = delta.weight[:, rows].T if across else delta.rows(rows)  # the block's shape
            return block.add_(change.to(block.dtype))
        low = _low_rank(delta)
        up, down = low.up.to(block.dtype), low.down.to(block.dtype)  # (m, k), (k, n)
        if transposed or low.form == "embedding":
            return block.addmm_(down[:, rows].T, up.T, alpha=low.scale)  # (rows, m)
        return block.addmm_(up[rows], down, alpha=low.scale)  # (rows, n)

    def patches_bias(self, delta: Delta) -> bool:
        del delta
        return False


def _by_module(tensors: Mapping[str, TensorInfo]) -> dict[str, dict[str, str]]:
    """Tensor names by module and role."""
    modules: dict[str, dict[str, str]] = {}
    for name in tensors:
        if match := _ROLES.fullmatch(name):
            role = match["weight"] or match["table"] or match["magnitude"]
            modules.setdefault(match["module"], {})[role] = name
    return modules


def _module(
    name: str,
    roles: Mapping[str, str],
    tensors: Mapping[str, TensorInfo],
    scaling: Scaling,
    *,
    dora: bool,
) -> Module | str:
    """The module, or a blocker. Raises ``Refused`` where its tensors or the config disagree."""
    if ".base_layer." in f".{name}.":
        return f"adapters stacked on one module are not implemented: {name}"
    prefix = "lora_embedding" if "lora_embedding_A" in roles or "lora_embedding_B" in roles else "lora"
    if set(roles) - {_MAGNITUDE} != {f"{prefix}_A", f"{prefix}_B"}:
        raise Refused(
            f"module {name} has only {', '.join(sorted(roles))}", hint=f"{prefix}_A and _B belong together"
        )
    if (_MAGNITUDE in roles) != dora:
        return f"DoRA is {'on' if dora else 'off'} in the config, but not in module {name}"
    _parts.require_floats(tensors, sorted(roles.values()))
    down, up = (tensors[roles[f"{prefix}_{role}"]].shape for role in "AB")
    kernel = down[2:]
    if len(down) < 2 or len(down) > 5 or len(up) != len(down) or any(size != 1 for size in up[2:]):
        raise Refused(f"module {name} has factors of shapes {list(down)} and {list(up)}")
    grouped = bool(kernel) and up[1] < down[0] and down[0] % up[1] == 0
    groups = down[0] // up[1] if grouped and up[0] % (down[0] // up[1]) == 0 else 1
    if up[1] * groups != down[0]:
        raise Refused(f"module {name} has rank {down[0]} in {prefix}_A but {up[1]} in {prefix}_B")
    form = "embedding" if prefix == "lora_embedding" else "conv" if kernel else "linear"
    if form == "embedding" and kernel:
        raise Refused(f"module {name} has embedding factors of shapes {list(down)} and {list(up)}")
    shape = (up[0], math.prod(down[1:]))
    scaling.require(name, down[0])
    scale = scaling.scale(name)
    if dora:
        if groups > 1:
            return f"DoRA on a grouped convolution is not implemented: {name}"
        if math.prod(tensors[roles[_MAGNITUDE]].shape) != up[0]:
            raise Refused(f"module {name} has a magnitude of shape {list(tensors[roles[_MAGNITUDE]].shape)}")
    return Module(name, dict(roles), shape, down[0], scale, form, kernel, based=dora, groups=groups)


def _initialization(config: Mapping[str, Any]) -> str | None:
    value = config.get("init_lora_weights")
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value.lower() in _KEEPS_BASE):
        return None
    return f"its initialization changed the base model (init_lora_weights {str(value)[:32]!r})"


def _low_rank(delta: Delta) -> LowRank:
    from registry.deltas import LowRank

    if not isinstance(delta, LowRank):
        raise TypeError(f"not a LoRA delta: {delta!r}")
    return delta


def _folded(delta: Delta) -> LowRank:
    """The same delta with its scale folded in."""
    from registry.deltas import stack

    low = _low_rank(delta)
    return low if low.scale == 1 else stack([(1.0, low)])
