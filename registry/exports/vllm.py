from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

from registry import peft_format
from registry.deltas import LowRank
from registry.errors import IntegrityFailure, Refused
from registry.exports import Exported, Format, Job, _plain
from registry.kinds import Module

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank takes (vLLM 0.26, config/lora.py: MaxLoRARanks)."""


class Vllm(Format):
    """A PEFT folder with one rank and no scale, for vLLM, LoRAX and TGI.

    vLLM takes ``lora_alpha / r`` for the scale of every module and reads no patterns, so each module gets the same rank
    and its own scale goes into ``lora_B``, rounded once.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"rank"})

    def write(self, job: Job, folder: Path) -> Exported:
        adapter = job.adapter
        _plain.require(adapter, "vLLM", {"linear", "embedding"})
        rank = job.rank or adapter.rank or 1
        if rank > _RANKS[-1]:
            raise Refused(
                f"vLLM loads ranks up to {_RANKS[-1]}, this is {rank}",
                hint=f"cut it to one with --rank {_RANKS[-1]}, or {_plain.MERGE}",
            )
        dtype, modules = _plain.stored_dtype(adapter), adapter.layout.modules
        lost: dict[str, float] = {}
        energies: list[float] = []

        def tensors() -> Iterator[tuple[str, str, tuple[int, ...], memoryview]]:
            for name, module in modules.items():
                fit = _plain.fitted(adapter, module, rank)
                lost[name] = fit.lost
                energies.append(fit.energy)
                for key, tensor in sorted(_plain.folded(name, fit, dtype).items()):
                    yield peft_format.named(key), dtype, tuple(tensor.shape), _plain.raw(tensor)

        names = [tensor for module in modules.values() for tensor in module.tensors.values()]
        peft_format.write_files(folder, tensors(), names, _config(job, rank))
        _check(job, folder, rank, dtype, lost)
        needed = next(each for each in _RANKS if each >= rank)
        return Exported(
            rank, min(energies), (f"serve it with --enable-lora --max-lora-rank {needed} or more",)
        )


def _config(job: Job, rank: int) -> dict[str, object]:
    """What vLLM reads, and what PEFT needs beside it to load the same."""
    stored = job.adapter.config
    return {
        "peft_type": "LORA",
        "task_type": stored.get("task_type"),
        "base_model_name_or_path": job.base_model.repo,
        "revision": job.base_model.revision,
        "target_modules": _plain.targets(job.adapter),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "fan_in_fan_out": stored.get("fan_in_fan_out") is True,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _check(job: Job, folder: Path, rank: int, dtype: str, lost: dict[str, float]) -> None:
    made = peft_format.read(folder)
    plain = all(module.rank == rank and module.scale == 1 for module in made.layout.modules.values())
    if not plain or made.layout.modules.keys() != job.adapter.layout.modules.keys():
        raise IntegrityFailure("the folder for vLLM has not one rank and scale", hint="please report it")

    def read(module: Module) -> LowRank:
        return cast("LowRank", made.delta(module.name))

    _plain.check(job.adapter, "vLLM", lost, dtype, read)
