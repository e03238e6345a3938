"""A recipe computed once more: into a staging folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry import evaluate, peft_format
from registry.blobs import BlobStore
from registry.peft_format import StoredAdapter
from registry.recipe import Recipe
from registry.results import BaseModelIdentity
from registry.verbs._grounds import Grounds, check_values, ground


@dataclass(frozen=True)
class Again:
    """What a recipe gave: the adapter, its folder, what it was computed from, and on which device."""

    stored: StoredAdapter
    folder: Path
    grounds: Grounds
    device: str


@contextmanager
def computed(
    blobs: BlobStore,
    recipe: Recipe,
    inputs: Mapping[str, StoredAdapter],
    labels: Mapping[str, str],
    *,
    base_model: BaseModelIdentity,
    base_path: str | Path | None,
    device: str = "auto",
) -> Iterator[Again]:
    """The adapter that a recipe gives, for as long as the block runs."""
    from registry.verbs._devices import device_of

    grounds = ground(inputs, labels, base_path, base_model)
    check_values(recipe.base, grounds)
    chosen = device_of(device)
    computation = evaluate.prepare(recipe, grounds.inputs, device=chosen, labels=labels)
    with blobs.stage() as stage:
        stored = peft_format.write(
            stage,
            kind=recipe.kind,
            modules=computation,
            names=computation.modules,
            dtype=recipe.dtype,
            base_model=base_model,
            inputs_config=[grounds.inputs[digest].config for digest in recipe.inputs],
            base=grounds.values,
        )
        yield Again(stored, stage, grounds, str(chosen))
