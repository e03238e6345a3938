"""What formats for LoRA have in common: what is refused, factors of one rank, and the comparison afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from registry import kinds
from registry.errors import IntegrityFailure, Refused
from registry.peft_format import StoredAdapter

if TYPE_CHECKING:
    from torch import Tensor

    from registry.deltas import LowRank
    from registry.kinds import Module

MERGE = "serve the merged model instead: registry materialize REF --as model"
CONVERT = "make a LoRA of it: registry convert REF; or merge it: registry materialize REF --as model"

_DEEDS = {
    "whole": "has a parameter stored whole (modules_to_save or bias)",
    "tokens": "has trained tokens (trainable_token_indices)",
    "offset": "has a bias on lora_B (lora_bias)",
    "copy": "has an embedding that was saved along",
    "conv": "adapts a convolution",
    "embedding": "adapts an embedding",
    "difference": "is a difference of whole parameters",
}
_NOTHING: tuple[object, ...] = (None, [], "")
_ROUNDINGS = 4.0  # of the scale, of each factor, of the product
_CUT = 1e-5  # relative error of the decomposition that cuts a delta


def require(adapter: StoredAdapter, program: str, forms: Collection[str], *, hint: str = MERGE) -> None:
    """Raise ``Refused``, naming the first part of a LoRA that ``program`` does not load.

    ``forms`` are those of the modules that it does load.
    """
    if adapter.kind != "lora":
        raise Refused(f"{program} does not load {adapter.kind}", hint=CONVERT)
    if adapter.layout.blockers:
        raise Refused(f"{program} does not load it: {adapter.layout.blockers[0]}", hint=hint)
    if adapter.layout.initialization is not None:
        raise Refused(
            f"{program} would load it onto the wrong weights: {adapter.layout.initialization}",
            hint="make a plain LoRA of it first: registry convert REF NAME --initial REF",
        )
    for module in adapter.layout.modules.values():
        if module.form not in forms:
            raise Refused(f"{program} does not load it: {module.name} {_DEEDS[module.form]}", hint=hint)
        if "lora_magnitude_vector" in module.tensors:
            raise Refused(f"{program} does not load it: {module.name} has a DoRA magnitude", hint=hint)


def stored_dtype(adapter: StoredAdapter) -> str:
    """The dtype to write: the stored one, or float32 where that is wider than what inference has."""
    return "float32" if adapter.dtype == "float64" else adapter.dtype


def targets(adapter: StoredAdapter) -> list[str]:
    """The modules to name in a config: as they were named where that was a plain list, else every one in full."""
    named = adapter.config.get("target_modules")
    # Layer 0 alone is written as 0.
    narrowed = any(
        adapter.config.get(key) not in _NOTHING for key in ("exclude_modules", "layers_to_transform")
    )
    own = sorted(name for name, module in adapter.layout.modules.items() if module.parameter == "")
    if narrowed or not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        return own
    return sorted(named)


def number(value: float) -> int | float:
    """A number as a config writes it."""
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Fitted:
    """A module at its new rank. ``lost`` is the relative error of that, 0 where it is exact."""

    delta: LowRank
    energy: float = 1.0
    lost: float = 0.0


def fitted(adapter: StoredAdapter, module: Module, rank: int) -> Fitted:
    """A module's delta at exactly this rank: filled up with zeros, or cut to the closest one of that rank."""
    from registry.methods import Site
    from registry.methods.truncate import Truncate

    found = cast("LowRank", adapter.delta(module.name))
    if found.rank <= rank:
        return Fitted(_padded(found, rank))
    cut = Truncate(rank=rank).merge([found], [1.0], Site(module.name, [module.name]))
    low = cast("LowRank", cut.delta)
    return Fitted(_padded(low, rank), cut.report.get("energy", 1.0), cut.report.get("error", 0.0))


def folded(module: str, fit: Fitted, dtype: str) -> dict[str, Tensor]:
    """The tensors to store, the scale multiplied into ``lora_B``, rounded once. Raises ``Refused`` for an overflow."""
    low = fit.delta
    if not low.scale:  # nothing is left of it, but its rank stays that of the others
        low = replace(low, up=low.up.new_zeros(low.up.shape), scale=1.0)
    made = kinds.load("lora").tensors(module, low, dtype)
    for tensor in made.values():
        if not bool(tensor.isfinite().all()):
            raise Refused(
                f"module {module} overflows {dtype} once its scale is in its factors",
                hint="compose it in another type: registry compose NAME 1*REF --dtype float32",
            )
    return made


def check(
    adapter: StoredAdapter,
    program: str,
    fits: Mapping[str, float],
    dtype: str,
    read: Callable[[Module], LowRank],
) -> None:
    """Raise ``IntegrityFailure`` unless each module has the delta that is stored, but for what was cut on purpose.

    ``fits`` has the relative error of that for each module, ``read`` gives the delta as ``program`` would have it from
    what was written in ``dtype``.
    """
    from registry.deltas import LowRank

    for name, lost in fits.items():
        module = adapter.layout.modules[name]
        wanted, found = adapter.delta(name), read(module)
        if not isinstance(wanted, LowRank) or not _close(wanted, found, dtype, lost):
            raise IntegrityFailure(
                f"module {name} is not what was stored, as {program} would read it",
                hint="this is a defect of the export; please report it",
            )


def _padded(low: LowRank, rank: int) -> LowRank:
    missing = rank - low.rank
    if not missing:
        return low
    import torch

    up = torch.cat([low.up, low.up.new_zeros((low.up.shape[0], missing))], dim=1)  # (m, rank)
    down = torch.cat([low.down, low.down.new_zeros((missing, low.down.shape[1]))])  # (rank, n)
    return replace(low, up=up, down=down)


def _close(wanted: LowRank, found: LowRank, dtype: str, lost: float) -> bool:
    """Whether both are the same but for the rounding to ``dtype``, which is relative to the factors, and ``lost``."""
    import torch

    from registry.deltas import doubled, norm, stack

    if wanted.shape != found.shape:
        return False
    a, b = (replace(doubled(each), form="linear", kernel=()) for each in (wanted, found))
    limits = torch.finfo(getattr(torch, dtype))
    widest = max(abs(each.scale) * float(each.up.norm() * each.down.norm()) for each in (a, b))
    faintest = limits.smallest_normal * limits.eps * math.sqrt(b.up.numel()) * float(b.down.norm())
    rounding = _ROUNDINGS * limits.eps / 2 * widest + faintest
    cut = lost * norm(a) + (_CUT * norm(a) if lost else 0.0)
    return norm(stack([(1.0, a), (-1.0, b)])) <= rounding + cut


def raw(tensor: Tensor) -> memoryview:
    """A tensor's bytes, little-endian."""
    import torch

    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
