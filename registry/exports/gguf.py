from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch

from registry.deltas import LowRank
from registry.errors import IntegrityFailure, Refused, StorageFailure, UsageError
from registry.exports import Exported, Format, Job, _plain
from registry.kinds import DTYPE_BYTES, Module

try:
    import gguf
except ModuleNotFoundError as error:
    raise UsageError(
        f"the format gguf needs {error.name}", hint="pip install 'adapter-registry[gguf]'"
    ) from error

if TYPE_CHECKING:
    from torch import Tensor

FILE = "adapter.gguf"


@dataclass(frozen=True)
class _Architecture:
    """What llama.cpp calls a model, and how it keeps it.

    ``turned``: rows of query and key are reordered (rotary embedding of pairs instead of halves). ``tied``: the head is
    the embedding unless the config says otherwise.
    """

    model: gguf.MODEL_ARCH
    turned: bool = False
    tied: bool = False


_ARCHITECTURES: Mapping[str, _Architecture] = {
    "LlamaForCausalLM": _Architecture(gguf.MODEL_ARCH.LLAMA, turned=True),
    "MistralForCausalLM": _Architecture(gguf.MODEL_ARCH.LLAMA, turned=True),
    "Qwen2ForCausalLM": _Architecture(gguf.MODEL_ARCH.QWEN2),
    "Qwen3ForCausalLM": _Architecture(gguf.MODEL_ARCH.QWEN3),
    "GemmaForCausalLM": _Architecture(gguf.MODEL_ARCH.GEMMA, tied=True),
    "Gemma2ForCausalLM": _Architecture(gguf.MODEL_ARCH.GEMMA2, tied=True),
    "Gemma3ForCausalLM": _Architecture(gguf.MODEL_ARCH.GEMMA3, tied=True),
    "Phi3ForCausalLM": _Architecture(gguf.MODEL_ARCH.PHI3),
    "GPT2LMHeadModel": _Architecture(gguf.MODEL_ARCH.GPT2, tied=True),
}
"""Those whose weights llama.cpp's converter renames and reorders only; it changes those of others, or splits them."""

_BLOCK = re.compile(r"\.(?:layers|h)\.(\d{1,9})\.")
_MOST_BLOCKS = 10_000
_QUERY, _KEY = re.compile(r"\.q_proj$"), re.compile(r"\.k_proj$")
_TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
}


@dataclass(frozen=True)
class _Place:
    """Where a module's factors go: the name of llama.cpp's tensor, and the heads whose rows are reordered."""

    tensor: str
    heads: int | None = None

    @property
    def embedding(self) -> bool:
        return self.tensor == "token_embd.weight"


@dataclass(frozen=True)
class _Plan:
    """All that the file depends on, beside the tensors. ``folds``: scales are multiplied into the factors."""

    model: gguf.MODEL_ARCH
    places: Mapping[str, _Place]
    alpha: float
    dtype: str
    folds: bool


class Gguf(Format):
    """A GGUF file that llama.cpp, and what is built on it, loads with --lora.

    As llama.cpp's convert_lora_to_gguf.py writes it: names and row order are those of the converted base model, the
    scale is ``adapter.lora.alpha`` over each tensor's own rank. Where modules have other scales than that, they are
    multiplied into ``lora_b``, rounded once.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"base_path"})

    def write(self, job: Job, folder: Path) -> Exported:
        adapter = job.adapter
        _plain.require(adapter, "llama.cpp", {"linear", "embedding"})
        name, config, architecture = _base(job)
        places = _places(job, name, config, architecture)
        alpha, folds = _alpha(job)
        plan = _Plan(architecture.model, places, alpha, _plain.stored_dtype(adapter), folds=folds)
        path = folder / FILE
        try:
            _write(job, path, plan)
        except OSError as error:
            raise StorageFailure(f"{path} cannot be written: {error.strerror}") from error
        _check(job, path, plan)
        return Exported(
            adapter.rank, 1.0, (f"load it with --lora {FILE}, beside a GGUF of {job.base_model}",)
        )


def _base(job: Job) -> tuple[str, Mapping[str, Any], _Architecture]:
    """The base model's architecture, and a config of it that says what its layout depends on."""
    seen: str | None = None
    for config in job.base_configs():
        listed = config.get("architectures")
        seen = str(listed[0]) if isinstance(listed, list) and listed else str(config.get("model_type"))
        found = _ARCHITECTURES.get(seen)
        if found is None:
            raise Refused(
                f"the base model is a {seen[:64]}, which this export does not know",
                hint=f"known are: {', '.join(_ARCHITECTURES)}; for others {_plain.MERGE}",
            )
        if not found.turned or _heads(config, "num_attention_heads"):
            return seen, config, found
    wanted = f"{job.base_model} has" if seen is None else f"a {seen} has: the number of its heads,"
    raise Refused(
        f"nothing here says what layout {wanted} in llama.cpp",
        hint="say where its config.json is with --base-path DIR",
    )


def _places(job: Job, name: str, config: Mapping[str, Any], architecture: _Architecture) -> dict[str, _Place]:
    """The place of each module. Raises ``Refused`` for one that llama.cpp has none for."""
    modules = job.adapter.layout.modules
    numbers = (_BLOCK.search(f".{each}.") for each in modules)
    blocks = 1 + max((int(number[1]) for number in numbers if number), default=0)
    if blocks > _MOST_BLOCKS:
        raise Refused(f"it adapts a layer {blocks - 1}", hint="its module names are not those of a model")
    known = gguf.get_tensor_name_map(architecture.model, blocks)
    tied = config.get("tie_word_embeddings", architecture.tied) is not False
    places: dict[str, _Place] = {}
    for each, module in modules.items():
        place = known.get_name(each) or known.get_name(f"model.{each}")
        if place is None:
            raise Refused(f"llama.cpp has no place for {each} of a {name}", hint=_plain.MERGE)
        if place in {"token_embd", "output"} and tied:
            raise Refused(
                f"llama.cpp cannot adapt {each} where embedding and head share a weight", hint=_plain.MERGE
            )
        if (module.form == "embedding") != (place == "token_embd"):
            raise Refused(f"llama.cpp cannot adapt {each} of a {name} like that", hint=_plain.MERGE)
        places[each] = _Place(
            f"{place}.weight", _turned(each, module, config) if architecture.turned else None
        )
    return places


def _turned(name: str, module: Module, config: Mapping[str, Any]) -> int | None:
    if not (_QUERY.search(name) or _KEY.search(name)):
        return None
    heads = _heads(config, "num_attention_heads")
    if _KEY.search(name):
        heads = _heads(config, "num_key_value_heads") or heads
    if not heads or module.shape[0] % (2 * heads):
        raise Refused(
            f"module {name} has {module.shape[0]} rows, which are not those of {heads} heads",
            hint="the base model's config.json belongs to another model",
        )
    return heads


def _heads(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _alpha(job: Job) -> tuple[float, bool]:
    """``adapter.lora.alpha``, and whether the scales must be multiplied into the factors.

    A float32, and not 0: llama.cpp would take that for a scale of 1.
    """
    modules = job.adapter.layout.modules.values()
    found = {module.scale * (module.rank or 1) for module in modules}
    alpha = found.pop()
    if found or not alpha or float(np.float32(alpha)) != alpha:
        return float(job.adapter.rank or 1), True
    return alpha, False


def _factors(job: Job, module: Module, plan: _Plan) -> tuple[Tensor, Tensor]:
    """``lora_a`` and ``lora_b`` as they are stored."""
    low, place = cast("LowRank", job.adapter.delta(module.name)), plan.places[module.name]
    if plan.folds:
        low = replace(low, scale=low.scale * low.rank / plan.alpha)
        made = _plain.folded(module.name, _plain.Fitted(low), plan.dtype)
        down, up = (made[key] for key in sorted(made))  # (r, n), (m, r)
    else:
        down, up = (each.to(getattr(torch, plan.dtype)) for each in (low.down, low.up))
    if place.heads:
        up = _reordered(up, place.heads)
    return (down.T if place.embedding else down).contiguous(), up.contiguous()


def _reordered(up: Tensor, heads: int) -> Tensor:
    """Rows of each head from halves to pairs, as llama.cpp's converter reorders those of the weight."""
    m, r = up.shape
    return up.reshape(heads, 2, m // heads // 2, r).transpose(1, 2).reshape(m, r)


def _restored(up: Tensor, heads: int) -> Tensor:
    m, r = up.shape
    return up.reshape(heads, m // heads // 2, 2, r).transpose(1, 2).reshape(m, r)


def _write(job: Job, path: Path, plan: _Plan) -> None:
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[plan.model])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, plan.alpha)
    modules, width = job.adapter.layout.modules, DTYPE_BYTES[plan.dtype]
    for name, place in plan.places.items():
        (m, n), r = modules[name].shape, modules[name].rank or 1
        shapes = {"lora_a": (n, r) if place.embedding else (r, n), "lora_b": (m, r)}
        for role, shape in shapes.items():
            writer.add_tensor_info(
                f"{place.tensor}.{role}",
                shape,
                np.dtype(np.float32),  # overruled by the type beside it
                math.prod(shape) * width,
                raw_dtype=_TYPES[plan.dtype],
            )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name in plan.places:
            for tensor in _factors(job, modules[name], plan):
                writer.write_tensor_data(tensor.view(torch.uint8).numpy())
    finally:
        writer.close()


def _check(job: Job, path: Path, plan: _Plan) -> None:
    """Read it back as llama.cpp does: ``ΔW = alpha/rank · lora_b · lora_a``, in its order of rows."""
    reader = gguf.GGUFReader(path)
    held = {each.name: each for each in reader.tensors}
    alpha = reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents()
    if len(held) != 2 * len(plan.places):
        raise IntegrityFailure(f"{FILE} has {len(held)} tensors", hint="please report it")

    def read(module: Module) -> LowRank:
        place = plan.places[module.name]
        down, up = (_tensor(held[f"{place.tensor}.{role}"]) for role in ("lora_a", "lora_b"))
        up = _restored(up, place.heads) if place.heads else up
        return LowRank(up, down.T if place.embedding else down, alpha / up.shape[1])

    _plain.check(job.adapter, "llama.cpp", dict.fromkeys(plan.places, 0.0), plan.dtype, read)


def _tensor(held: gguf.ReaderTensor) -> Tensor:
    shape = tuple(int(size) for size in reversed(held.shape))  # the file has the fastest first
    values = torch.from_numpy(np.array(held.data))
    if held.tensor_type == gguf.GGMLQuantizationType.BF16:
        values = values.view(torch.bfloat16)
    return values.reshape(shape)
