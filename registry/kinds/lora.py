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
from registry.kinds import Kind, Layout, Module, TensorInfo, _parts
from registry.kinds._patterns import Patterns, exact_keys

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, Dense, LowRank

_ROLES = re.compile(r"(?P<module>.+)\.(?:(?P<weight>lora_[AB])\.weight|(?P<table>lora_embedding_[AB]))")

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
    }
)

_PARTS = {
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "bias": "a trained bias",
    "ensure_weight_tying": "an adapter tied to the tied embedding",
    "kasa_config": "KaSA",
    "layer_replication": "layer replication",
    "lora_bias": "a bias of lora_B",
    "modules_to_save": "training whole modules",
    "monteclora_config": "MonteCLoRA",
    "target_parameters": "LoRA on bare parameters",
    "trainable_token_indices": "training single tokens",
    "use_bdlora": "block-diagonal LoRA",
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "velora_config": "VeLoRA",
}

_RESHAPING = frozenset({"layer_replication", "target_parameters", "use_bdlora", "use_qalora"})
"""Parts under which shapes and ranks follow other rules than those checked here."""

_KEEPS_BASE = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Initializations that leave the base weight as it was, so that ΔW is B·A alone."""

_HIGHEST = 2**31


class Lora(Kind):
    """LoRA on Linear, Conv1D, Embedding and convolutions."""

    peft_type = "LORA"

    def layout(self, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Layout:
        blocked = {**_parts.in_config(config, _HARMLESS, _PARTS), **_initialization(config)}
        lenient = any(key in _RESHAPING or key not in {*_PARTS, "init_lora_weights"} for key in blocked)
        scaling = _Scaling(config)
        modules: dict[str, Module] = {}
        blockers = list(blocked.values())
        for name, roles in sorted(_by_module(tensors).items()):
            try:
                found = _module(name, roles, tensors, scaling)
            except Refused:
                if not lenient:
                    raise
                continue
            if isinstance(found, Module):
                modules[name] = found
            else:
                blockers.append(found)
        blockers += _parts.in_tensors(key for key in tensors if not _ROLES.fullmatch(key))
        if not modules and not blockers:
            raise Refused("there are no LoRA tensors in it", hint="is it a PEFT adapter folder?")
        return Layout(modules, tuple(blockers), {key: config[key] for key in blocked})

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> LowRank:
        from registry.deltas import LowRank

        prefix = "lora_embedding" if module.form == "embedding" else "lora"
        up = tensors[f"{prefix}_B"].flatten(1)  # (m, k)
        down = tensors[f"{prefix}_A"].flatten(1)  # (k, n)
        form: Any = module.form
        return LowRank(up, down, module.scale, form, module.kernel)

    def combine(self, terms: Sequence[tuple[float, Delta]]) -> LowRank | Dense:
        from registry.deltas import Dense, stack, total

        if any(isinstance(delta, Dense) for _, delta in terms):
            return total([(w, delta if isinstance(delta, Dense) else _low_rank(delta)) for w, delta in terms])
        return stack([(weight, _low_rank(delta)) for weight, delta in terms])

    def tensors(self, module: str, delta: Delta, dtype: str) -> dict[str, Tensor]:
        import torch

        from registry.deltas import accumulator

        low = _folded(delta)
        wide, narrow = accumulator([low]), getattr(torch, dtype)
        up, down = (t.to(wide).to(narrow) for t in (low.up, low.down))  # (m, k), (k, n)
        if low.form == "embedding":
            return {f"{module}.lora_embedding_A": down, f"{module}.lora_embedding_B": up}
        if low.form == "conv":
            channels = low.shape[1] // math.prod(low.kernel)
            down = down.reshape(low.rank, channels, *low.kernel)  # (k, in, kh, kw)
            up = up.reshape(*up.shape, *(1 for _ in low.kernel))  # (m, k, 1, 1)
        return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}

    def describe(self, module: str, delta: Delta) -> Module:
        low = _folded(delta)
        tail = "" if low.form == "embedding" else ".weight"
        prefix = "lora_embedding" if low.form == "embedding" else "lora"
        roles = {role: f"{module}.{role}{tail}" for role in (f"{prefix}_A", f"{prefix}_B")}
        return Module(module, roles, low.shape, rank=low.rank, form=low.form, kernel=low.kernel)

    def config(self, modules: Mapping[str, Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        ranks = {name: module.rank or 1 for name, module in modules.items()}
        highest = max(ranks.values())
        keys = exact_keys(ranks)
        pattern = {keys[name]: rank for name, rank in sorted(ranks.items()) if rank != highest}
        return {
            "peft_type": self.peft_type,
            "task_type": _parts.task_type(inputs),
            "target_modules": sorted(modules),
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
            "modules_to_save": None,
            "fan_in_fan_out": any(config.get("fan_in_fan_out") is True for config in inputs),
        }

    def patch(self, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        import torch

        from registry.deltas import Dense

        rows = slice(row, row + block.shape[0])
        if isinstance(delta, Dense):
            across = transposed or delta.form == "embedding"
            change = delta.weight[:, rows].T if across else delta.weight[rows]  # the block's shape
            return block + change.to(block.dtype)
        low = _low_rank(delta)
        up, down = low.up.to(block.dtype), low.down.to(block.dtype)  # (m, k), (k, n)
        if transposed or low.form == "embedding":
            return torch.addmm(block, down[:, rows].T, up.T, alpha=low.scale)  # (rows, m)
        return torch.addmm(block, up[rows], down, alpha=low.scale)  # (rows, n)

    def patches_bias(self, delta: Delta) -> bool:
        del delta
        return False


class _Scaling:
    """Ranks and scales as the config states them, with PEFT's defaults for what it leaves out."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._rank = _number(config, "r", 8)
        self._alpha = _number(config, "lora_alpha", 8)
        self._ranks = Patterns("rank_pattern", _numbers(config, "rank_pattern"))
        self._alphas = Patterns("alpha_pattern", _numbers(config, "alpha_pattern"))
        self._root = _parts.whole(config, "use_rslora", default=False)

    def scale(self, module: str, rank: int) -> float:
        """``alpha/r`` or ``alpha/√r``. Raises ``Refused`` unless the config gives the module this rank."""
        stated = self._ranks.value(module, self._rank)
        if stated != rank:
            raise Refused(
                f"module {module} has rank {rank} in its tensors but {stated:g} in the config",
                hint="the config belongs to other weights, or rank_pattern is incomplete",
            )
        return self._alphas.value(module, self._alpha) / (math.sqrt(rank) if self._root else rank)


def _by_module(tensors: Mapping[str, TensorInfo]) -> dict[str, dict[str, str]]:
    """Tensor names by module and role."""
    modules: dict[str, dict[str, str]] = {}
    for name in tensors:
        if match := _ROLES.fullmatch(name):
            modules.setdefault(match["module"], {})[match["weight"] or match["table"]] = name
    return modules


def _module(
    name: str, roles: Mapping[str, str], tensors: Mapping[str, TensorInfo], scaling: _Scaling
) -> Module | str:
    """The module, or a blocker. Raises ``Refused`` where its tensors or the config disagree."""
    if ".base_layer." in f".{name}.":
        return f"adapters stacked on one module are not implemented: {name}"
    prefix = "lora_embedding" if "lora_embedding_A" in roles or "lora_embedding_B" in roles else "lora"
    if set(roles) != {f"{prefix}_A", f"{prefix}_B"}:
        raise Refused(
            f"module {name} has only {', '.join(sorted(roles))}", hint=f"{prefix}_A and _B belong together"
        )
    _parts.require_floats(tensors, sorted(roles.values()))
    down, up = (tensors[roles[f"{prefix}_{role}"]].shape for role in "AB")
    kernel = down[2:]
    if len(down) < 2 or len(down) > 5 or len(up) != len(down) or any(size != 1 for size in up[2:]):
        raise Refused(f"module {name} has factors of shapes {list(down)} and {list(up)}")
    if kernel and up[1] < down[0] and down[0] % up[1] == 0:
        return f"LoRA on a grouped convolution is not implemented: {name}"
    if up[1] != down[0]:
        raise Refused(f"module {name} has rank {down[0]} in {prefix}_A but {up[1]} in {prefix}_B")
    form = "embedding" if prefix == "lora_embedding" else "conv" if kernel else "linear"
    if form == "embedding" and kernel:
        raise Refused(f"module {name} has embedding factors of shapes {list(down)} and {list(up)}")
    shape = (up[0], math.prod(down[1:]))
    return Module(name, dict(roles), shape, down[0], scaling.scale(name, down[0]), form, kernel)


def _initialization(config: Mapping[str, Any]) -> dict[str, str]:
    value = config.get("init_lora_weights")
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value.lower() in _KEEPS_BASE):
        return {}
    sentence = f"its initialization changed the base model (init_lora_weights {str(value)[:32]!r})"
    return {"init_lora_weights": sentence}


def _number(config: Mapping[str, Any], key: str, default: int) -> float:
    value = config.get(key)
    return default if value is None else _checked(key, value)


def _numbers(config: Mapping[str, Any], key: str) -> dict[str, float]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"config entry {key} is no object")
    return {module: _checked(f"{key} of {module[:64]!r}", number) for module, number in value.items()}


def _checked(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HIGHEST < value < _HIGHEST:
        raise Refused(f"config entry {what} is {str(value)[:32]!r}, not a usable number")
    return value


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
