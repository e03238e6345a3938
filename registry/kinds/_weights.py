"""What an adapter holds beside its own modules: parameters stored whole, rows of an embedding, biases of lora_B.

Each is a module of its own, named after its parameter, with a dense delta ``(m, n)`` (a vector is ``(d, 1)``):

- ``whole``: a parameter as it was after training (``modules_to_save``, ``bias``); its delta is the difference from
  the base model's value, and the value itself where the base model has none (a new head);
- ``tokens``: the same for some rows of an embedding (``trainable_token_indices``);
- ``offset``: ``s·b`` with ``b`` the bias of lora_B (``lora_bias``), a difference as it is;
- ``copy``: an embedding that PEFT saved along without training it;
- ``difference``: what a task vector holds, stored as the difference that it is.

Differences are taken in float64, where those of narrower types are nearly always exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from registry.errors import Refused
from registry.forms import OF_PARAMETERS as FORMS
from registry.kinds import Kind, Module, TensorInfo, _parts

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import Delta, Dense, LowRank

_TOKENS = ".token_adapter.trainable_tokens_delta"
_OFFSET = ".lora_B.bias"
_BASE = ".base_layer."
_OWN = ("lora_", "ia3_", "hada_", "lokr_", "vera_")
_MOST_ROWS = 2**20
_MOST_ENTRIES = 1000
_MOST_WORK = 20_000_000
_ORIGINAL = ".original_module."


class Weights(Kind):
    """The rules for one such module of an adapter of any kind."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def delta(self, module: Module, tensors: Mapping[str, Tensor]) -> Dense:
        from registry.deltas import Dense

        value = tensors["value"].double()
        if module.form == "offset":
            value = value * module.scale
        elif (base := tensors.get("base")) is not None:
            value = value - base.double()
        form: Any = module.form
        return Dense(value.reshape(module.shape), min(module.shape), form, module.kernel)  # (m, n)

    def combine(self, terms: Sequence[tuple[float, Delta]]) -> Dense:
        from registry.deltas import Rescaling, total

        matrices: list[tuple[float, LowRank | Dense]] = []
        for weight, delta in terms:
            if isinstance(delta, Rescaling):
                raise TypeError(f"not a delta of a weight: {delta!r}")
            matrices.append((weight, delta))
        return total(matrices)

    def tensors(self, module: str, delta: Delta, dtype: str, base: Tensor | None = None) -> dict[str, Tensor]:
        import torch

        del module
        value = _dense(delta).weight.double().reshape(self._module.kernel)
        if base is not None:
            value = base.double() + value
        return {self._module.tensors["value"]: value.to(getattr(torch, dtype))}

    def describe(self, module: str, delta: Delta) -> Module:
        del module, delta
        return replace(self._module, scale=1.0)

    def patch(self, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        del transposed
        change = _dense(delta).weight  # (m, n)
        if self._module.form != "tokens":
            return block.double() + change[row : row + block.shape[0]].double()
        changed = block.double()  # (rows, n)
        for index, at in enumerate(self._module.rows):
            if row <= at < row + block.shape[0]:
                changed[at - row] += change[index]
        return changed

    def patches_bias(self, delta: Delta) -> bool:
        del delta
        return False


def read(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    names: Iterable[str],
    modules: Mapping[str, Module],
) -> tuple[dict[str, Module], list[str]]:
    """The parts among the tensors ``names``, and the names that are none. ``modules`` are the adapter's own.

    Raises ``Refused`` where a part's shape and the config disagree.
    """
    found: dict[str, Module] = {}
    rest = []
    if len(_listed(config)) > _MOST_ENTRIES:
        raise Refused(f"config entry modules_to_save has more than {_MOST_ENTRIES} names")
    work = 0
    for name in sorted(names):
        if _ORIGINAL in name:  # the base's own, which PEFT saves along with a bias
            continue
        work += (name.count(".") + 1) * len(_listed(config))
        if work > _MOST_WORK:
            raise Refused("config entry modules_to_save has too many names for as many tensors")
        part = _part(config, name, tensors[name], modules)
        if part is None:
            rest.append(name)
            continue
        _parts.require_floats(tensors, [name])
        if part.name in modules:
            raise Refused(f"tensor {name} has the name of a LoRA module")
        if part.name in found:
            rest.append(name)  # stored twice: which of them is meant, nobody can say
            continue
        found[part.name] = part
    return found, rest


def missing(config: Mapping[str, Any], parts: Mapping[str, Module]) -> list[str]:
    """A sentence per part that the config speaks of and no tensor holds."""
    forms = {part.form for part in parts.values()}
    stated = {
        "whole": bool(_listed(config)) and "modules_to_save",
        "tokens": bool(config.get("trainable_token_indices")) and "trainable_token_indices",
        "offset": bool(config.get("lora_bias")) and "lora_bias",
    }
    return [
        f"{key} is in the config, but no such tensor"
        for form, key in stated.items()
        if key and form not in forms
    ]


def align(delta: Dense, rows: Sequence[int], wanted: Sequence[int]) -> Dense:
    """The delta of the rows ``rows``, with zeros for what else is ``wanted``."""
    if tuple(rows) == tuple(wanted):
        return delta
    place = {row: index for index, row in enumerate(wanted)}
    weight = delta.weight.new_zeros((len(wanted), delta.weight.shape[1]))  # (len(wanted), n)
    weight[[place[row] for row in rows]] = delta.weight
    return replace(delta, values=weight, rank=min(weight.shape), kernel=tuple(weight.shape))


def union(parts: Sequence[Module]) -> Module:
    """One module for the same rows-wise part of several adapters: all rows that any of them changes."""
    rows = tuple(sorted({row for part in parts for row in part.rows}))
    shape = (len(rows), parts[0].shape[1])
    return replace(parts[0], rows=rows, shape=shape, kernel=shape)


def config(modules: Iterable[Module], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of a result's config that say which parts it has."""
    parts = [module for module in modules if module.form in FORMS]
    whole = [module.parameter for module in parts if module.form == "whole"]
    saved = {entry for each in inputs for entry in _listed(each)}
    used = sorted(entry for entry in saved if any(_saves(entry, parameter) for parameter in whole))
    entries: dict[str, Any] = {"modules_to_save": used or None}
    if any(not any(_saves(entry, parameter) for entry in used) for parameter in whole):
        entries["bias"] = "all" if any(each.get("bias") == "all" for each in inputs) else "lora_only"
    if tokens := {p.parameter.removesuffix(".weight"): list(p.rows) for p in parts if p.form == "tokens"}:
        entries["trainable_token_indices"] = tokens
    if any(module.form == "offset" for module in parts):
        entries["lora_bias"] = True
    return entries


def stored_at(module: Module, modules: Mapping[str, Module]) -> Module:
    """The part with the name it must be stored under beside ``modules``: PEFT moves what it wraps."""
    owner, _, last = module.parameter.rpartition(".")
    if module.form != "whole" or owner not in modules or modules[owner].form in FORMS:
        return module
    return replace(module, tensors={"value": f"{owner}{_BASE}{last}"})


def _part(
    config: Mapping[str, Any], name: str, info: TensorInfo, modules: Mapping[str, Module]
) -> Module | None:
    if name.endswith(_OFFSET) and config.get("lora_bias") is True:
        return _offset(name, info, modules)
    if name.endswith(_TOKENS):
        return _tokens(config, name, info)
    owner, base, last = name.rpartition(_BASE)
    parameter = name.replace(".modules_to_save.", ".").replace(_BASE, ".")
    if base and last == "weight" and owner in modules:
        return _whole("copy", name, name, parameter, info) if info.shape else None
    by_bias = str(config.get("bias")) in {"all", "lora_only"} and parameter.rpartition(".")[2] == "bias"
    saved = by_bias or any(_saves(entry, parameter) for entry in _listed(config))
    if not saved or not info.shape or any(own in name for own in _OWN):
        return None
    return _whole("whole", parameter, name, parameter, info)


def _whole(form: str, name: str, stored: str, parameter: str, info: TensorInfo) -> Module:
    shape = (info.shape[0], math.prod(info.shape[1:]))
    values = {"value": stored}
    return Module(name, values, shape, form=form, kernel=info.shape, parameter=parameter, based=True)


def _offset(name: str, info: TensorInfo, modules: Mapping[str, Module]) -> Module:
    owner = modules.get(name.removesuffix(_OFFSET))
    if owner is None or owner.form == "embedding" or info.shape != owner.shape[:1]:
        raise Refused(f"tensor {name} of shape {list(info.shape)} is no bias of a LoRA module")
    return Module(
        name, {"value": name}, (info.shape[0], 1), scale=owner.scale, form="offset", kernel=info.shape,
        parameter=f"{owner.name}.bias",
    )  # fmt: skip


def _tokens(config: Mapping[str, Any], name: str, info: TensorInfo) -> Module | None:
    stated = config.get("trainable_token_indices")
    owner = name.removesuffix(_TOKENS)
    if isinstance(stated, dict):
        stated = next((rows for key, rows in stated.items() if f".{owner}".endswith(f".{key}")), None)
    if not isinstance(stated, list) or len(info.shape) != 2 or len(stated) != info.shape[0]:
        raise Refused(f"tensor {name} of shape {list(info.shape)} does not fit trainable_token_indices")
    whole = all(isinstance(row, int) and not isinstance(row, bool) and row >= 0 for row in stated)
    if not whole or len(set(stated)) != len(stated) or len(stated) > _MOST_ROWS:
        raise Refused("config entry trainable_token_indices is no list of different token ids")
    return Module(
        f"{owner}.tokens", {"value": name}, info.shape, form="tokens", kernel=info.shape,
        parameter=f"{owner}.weight", based=True, rows=tuple(stated),
    )  # fmt: skip


def _listed(config: Mapping[str, Any]) -> list[str]:
    stated = config.get("modules_to_save")
    return [entry for entry in stated if isinstance(entry, str) and entry] if isinstance(stated, list) else []


def _saves(entry: str, parameter: str) -> bool:
    """Whether ``modules_to_save`` entry means this parameter: PEFT compares the ends of modules' names."""
    path = parameter.split(".")[:-1]
    return any(".".join(path[:end]).endswith(entry) for end in range(1, len(path) + 1))


def _dense(delta: Delta) -> Dense:
    """What a method made of it, as one matrix."""
    from registry.deltas import Rescaling, total

    if isinstance(delta, Rescaling):
        raise TypeError(f"not a delta of a weight: {delta!r}")
    return total([(1.0, delta)])
