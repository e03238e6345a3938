"""The inputs of a recipe: how they are read, the modules they have between them, and whether they fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from registry.errors import Incompatible, Refused
from registry.kinds import _weights

if TYPE_CHECKING:
    from registry.deltas import Delta
    from registry.kinds import Layout, Module


class Reader(Protocol):
    """An input whose modules can be read one by one."""

    @property
    def kind(self) -> str: ...

    @property
    def layout(self) -> Layout: ...

    def delta(self, module: str) -> Delta: ...


def space(readers: Mapping[str, Reader]) -> dict[str, Module]:
    """The union of the inputs' modules, sorted by name, each as the first input that has it describes it."""
    found: dict[str, list[Module]] = {}
    for reader in readers.values():
        for name, module in reader.layout.modules.items():
            found.setdefault(name, []).append(module)
    merged = {name: _merged(each) for name, each in found.items()}
    return {name: _weights.stored_at(module, merged) for name, module in sorted(merged.items())}


def _merged(each: Sequence[Module]) -> Module:
    first = _weights.union(each) if each[0].rows else each[0]
    return replace(first, based=any(module.based for module in each))


def delta_of(reader: Reader, place: Module) -> Delta | None:
    """An input's delta for a module of the common space, None where it has none."""
    from registry.deltas import Dense

    own = reader.layout.modules.get(place.name)
    if own is None:
        return None
    delta = reader.delta(place.name)
    return _weights.align(delta, own.rows, place.rows) if place.rows and isinstance(delta, Dense) else delta


def check_compatible(
    layouts: Mapping[str, tuple[str, Layout]], *, waived: Collection[str] = frozenset()
) -> None:
    """Whether adapters can be combined, from their layouts alone; ``layouts`` maps a label to kind and layout.

    Raises ``Refused`` for one with parts that cannot be composed, ``Incompatible`` for two of different kinds or
    with a module of different shapes, naming both. A changed initialization is no obstacle to those ``waived``.
    """
    for label, (_, layout) in layouts.items():
        if layout.blockers:
            raise Refused(f"{label} cannot be composed: {layout.blockers[0]}")
        if layout.initialization and label not in waived:
            raise Refused(
                f"{label} cannot be composed: {layout.initialization}",
                hint="with the adapter as it was before training: subtract_init(trained, initial)",
            )
    first: tuple[str, str] | None = None
    seen: dict[str, tuple[str, Module]] = {}
    for label, (kind, layout) in layouts.items():
        first = first or (label, kind)
        if kind != first[1]:
            raise Incompatible(f"{first[0]} is of kind {first[1]} and {label} of kind {kind}")
        for name, module in layout.modules.items():
            other, known = seen.setdefault(name, (label, module))
            if _space(module) != _space(known):
                raise Incompatible(
                    f"module {name} is {_space(known)} in {other} but {_space(module)} in {label}",
                    hint="were they trained on the same base model?",
                )


def labelled(names: Mapping[str, str], inputs: Mapping[str, Reader]) -> dict[str, tuple[str, Layout]]:
    """Layouts by label; two inputs that share a label are told apart by their digests."""
    shared = Counter(names.values())
    return {
        names[digest] if shared[names[digest]] == 1 else f"{names[digest]} ({digest})": (
            reader.kind,
            reader.layout,
        )
        for digest, reader in inputs.items()
    }


def _space(module: Module) -> str:
    """The space a module's delta lives in, for comparison and for messages."""
    if module.rows:
        return f"rows of {module.shape[1]} in {module.target}"
    if len(module.shape) == 1:
        return f"{'input' if module.feedforward else 'output'} rescaling of {module.shape[0]}"
    kernel = f" kernel {'x'.join(map(str, module.kernel))}" if module.kernel else ""
    return f"{module.form} {'x'.join(map(str, module.shape))}{kernel}"
