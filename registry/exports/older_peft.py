from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from registry import peft_format
from registry.deltas import LowRank
from registry.errors import IntegrityFailure, Refused
from registry.exports import Exported, Format, Job, _plain
from registry.forms import OF_PARAMETERS
from registry.kinds import Module

OLDEST = "0.4.0"

_COMMON = frozenset(
    {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "revision", "task_type"}
)
FIELDS: Mapping[str, frozenset[str]] = {
    "lora": _COMMON
    | {
        "bias", "fan_in_fan_out", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
        "lora_dropout", "modules_to_save", "r", "target_modules",
    },
    "ia3": _COMMON
    | {"fan_in_fan_out", "feedforward_modules", "init_ia3_weights", "modules_to_save", "target_modules"},
}  # fmt: skip
"""The fields of PEFT 0.4.0's LoraConfig and IA3Config, the first release with (IA)³ and with safetensors.

Until 0.14 an unknown field is a TypeError.
"""

_LATER = {
    "offset": "0.14 (lora_bias)",
    "tokens": "0.15 (trainable_token_indices)",
}
_ADVICE = "use that PEFT, or serve the merged model: registry materialize REF --as model"


class OlderPeft(Format):
    """A PEFT folder whose config every PEFT from 0.4.0 on reads, without a field that came later.

    Patterns (0.6) and rsLoRA (0.8) become one rank and a scale that is in the factors; where there are none, the
    tensors stay as they are, bit by bit.
    """

    def write(self, job: Job, folder: Path) -> Exported:
        adapter = job.adapter
        _require(job)
        rank, fits = adapter.rank, dict[str, float]()
        kept = _one_scale(job)
        own = {} if kept is not None or adapter.kind != "lora" else _lora_modules(job)
        config = _config(job, kept)

        def tensors() -> Iterator[tuple[str, str, tuple[int, ...], bytes | memoryview]]:
            changed = {name for module in own.values() for name in module.tensors.values()}
            with adapter.bytes() as view:
                for name, entry in sorted(adapter.entries.items()):
                    if name not in changed:
                        content = bytes(view[entry.begin : entry.end])
                        yield peft_format.named(name), entry.dtype, entry.shape, content
            dtype = _plain.stored_dtype(adapter)
            for name, module in own.items():
                fit = _plain.fitted(adapter, module, rank or 1)
                fits[name] = fit.lost
                for key, tensor in sorted(_plain.folded(name, fit, dtype).items()):
                    yield peft_format.named(key), dtype, tuple(tensor.shape), _plain.raw(tensor)

        peft_format.write_files(folder, tensors(), adapter.entries, config)
        _check(job, folder, fits)
        return Exported(rank, 1.0, (f"every PEFT from {OLDEST} on loads it",))


def _require(job: Job) -> None:
    adapter = job.adapter
    if adapter.kind not in FIELDS:
        raise Refused(f"PEFT {OLDEST} has no {adapter.kind}", hint=_plain.CONVERT)
    if adapter.layout.blockers:
        raise Refused(f"older PEFT does not load it: {adapter.layout.blockers[0]}", hint=_ADVICE)
    for module in adapter.layout.modules.values():
        if module.form in _LATER:
            raise Refused(f"{module.name} needs PEFT {_LATER[module.form]}", hint=_ADVICE)
        if module.form == "conv" and (len(module.kernel) != 2 or adapter.kind == "ia3" or module.groups > 1):
            raise Refused(f"{module.name} is a convolution that needs a later PEFT", hint=_ADVICE)
    if adapter.kind == "lora":
        if adapter.config.get("use_dora"):
            raise Refused("DoRA needs PEFT 0.9 (use_dora)", hint=_ADVICE)
        _plain.require(adapter, "older PEFT", {"linear", "embedding", "conv", "whole"}, hint=_ADVICE)


def _lora_modules(job: Job) -> dict[str, Module]:
    modules = job.adapter.layout.modules
    return {name: module for name, module in modules.items() if module.form not in OF_PARAMETERS}


def _one_scale(job: Job) -> float | None:
    """``lora_alpha`` where that and one rank say all there is to say, so that no tensor has to change."""
    found = {(module.rank or 1, module.scale) for module in _lora_modules(job).values()}
    if job.adapter.kind != "lora" or len(found) != 1 or job.adapter.config.get("use_rslora"):
        return None
    rank, scale = found.pop()
    alpha = scale * rank
    return alpha if alpha / rank == scale else None


def _config(job: Job, alpha: float | None) -> dict[str, Any]:
    stored, kind = job.adapter.config, job.adapter.kind
    rank = job.adapter.rank or 1
    common = {
        "peft_type": kind.upper(),
        "task_type": stored.get("task_type"),
        "base_model_name_or_path": job.base_model.repo,
        "revision": job.base_model.revision,
        "inference_mode": True,
        "target_modules": _plain.targets(job.adapter),
        "modules_to_save": stored.get("modules_to_save"),
        "fan_in_fan_out": stored.get("fan_in_fan_out") is True,
    }
    if kind == "ia3":
        inputs = sorted(name for name, module in job.adapter.layout.modules.items() if module.feedforward)
        named = stored.get("feedforward_modules")
        feedforward = sorted(named) if isinstance(named, list) else inputs
        return {**common, "feedforward_modules": feedforward, "init_ia3_weights": True}
    return {
        **common,
        "r": rank,
        "lora_alpha": _plain.number(rank if alpha is None else alpha),
        "lora_dropout": 0.0,
        "bias": stored.get("bias") or "none",
        "init_lora_weights": True,
    }


def _check(job: Job, folder: Path, fits: Mapping[str, float]) -> None:
    made, adapter = peft_format.read(folder), job.adapter
    unknown = sorted(made.config.keys() - FIELDS[adapter.kind])
    if unknown or made.layout.modules.keys() != adapter.layout.modules.keys():
        raise IntegrityFailure(
            f"what was written for older PEFT differs: {unknown or 'its modules'}", hint="please report it"
        )

    def read(module: Module) -> LowRank:
        return cast("LowRank", made.delta(module.name))

    if not fits and made.digest != adapter.digest:
        raise IntegrityFailure(
            "what was written for older PEFT is not what was stored", hint="please report it"
        )
    _plain.check(adapter, "older PEFT", fits, _plain.stored_dtype(adapter), read)
