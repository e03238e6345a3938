"""The base model under adapters that hold differences from it: parameters stored whole, DoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry import checkpoint
from registry._paths import expanded
from registry._values import BaseValues
from registry.checkpoint import BaseCheckpoint
from registry.errors import Incompatible, Refused
from registry.inputs import space as shared
from registry.peft_format import StoredAdapter
from registry.results import BaseModelIdentity


@dataclass(frozen=True)
class Grounds:
    """Inputs by digest, ready to be computed with, the base model's values where they need them, and those' digest."""

    inputs: Mapping[str, StoredAdapter]
    values: BaseValues | None = None
    digest: str | None = None
    base: BaseCheckpoint | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        absent = self.values.absent if self.values is not None else []
        if not absent:
            return ()
        return (f"not in the base model, taken as differences from zero: {', '.join(absent)}",)


def ground(
    inputs: Mapping[str, StoredAdapter],
    labels: Mapping[str, str],
    base_path: str | Path | None,
    identity: BaseModelIdentity,
) -> Grounds:
    """The inputs with the base model at hand, where one of them needs it; otherwise as they are.

    Raises ``Refused``, naming the input and the part, where the base model is needed and not given, and
    ``Incompatible`` where it is another one than the one recorded.
    """
    if not needing(inputs):
        if base_path is not None:
            checkpoint.open_base(expanded(base_path))  # what is given is looked at
        return Grounds(inputs)
    if base_path is None:
        digest, part = min(needing(inputs).items(), key=lambda found: labels.get(found[0], found[0]))
        raise Refused(
            f"{labels.get(digest, digest)} composes only with its base model at hand: {part}",
            hint="say where the base model is with --base-path DIR",
        )
    base = checkpoint.open_base(expanded(base_path))
    if identity.fingerprint is not None:
        check_fingerprint(identity, base.fingerprint())
    return on_base(inputs, base)


def on_base(inputs: Mapping[str, StoredAdapter], base: BaseCheckpoint) -> Grounds:
    """The inputs on an opened base model."""
    if not needing(inputs):
        return Grounds(inputs)
    space = shared(inputs)
    values = BaseValues(base, space, fan_in_fan_out(inputs))
    grounded = {digest: adapter.on(values) for digest, adapter in inputs.items()}
    used = [module for module in shared(grounded).values() if module.based]
    return Grounds(grounded, values, values.digest(used), base)


def needing(inputs: Mapping[str, StoredAdapter]) -> dict[str, str]:
    """The inputs that hold differences from the base model, each with the first such part."""
    found = {}
    for digest, adapter in inputs.items():
        for module in adapter.layout.modules.values():
            if module.based:
                how = "DoRA scales" if module.rank is not None else "it holds"
                found[digest] = f"{how} {module.target}{'' if module.rank is not None else ' whole'}"
                break
    return found


def fan_in_fan_out(inputs: Mapping[str, StoredAdapter]) -> bool | None:
    """The flag all inputs agree on, None where they do not say or disagree."""
    configs = [adapter.config for adapter in inputs.values()]
    said = {bool(config["fan_in_fan_out"]) for config in configs if "fan_in_fan_out" in config}
    return said.pop() if len(said) == 1 else None


def check_values(pinned: str | None, grounds: Grounds) -> None:
    """Raise ``Incompatible`` where the base's values are not those that a recipe pinned."""
    if pinned is not None and pinned != grounds.digest:
        raise Incompatible(
            "the base model's values are not those that the recipe's inputs were differences from",
            hint="give the base model the adapters were trained on",
        )


def check_fingerprint(identity: BaseModelIdentity, fingerprint: str) -> None:
    """Raise ``Incompatible`` where the weights are not those recorded for this base model."""
    recorded = identity.fingerprint
    if recorded is not None and recorded != fingerprint:
        raise Incompatible(
            f"these are other weights than those recorded for {identity}: {fingerprint}, not {recorded}",
            hint="give the base model the adapters were trained on",
        )
