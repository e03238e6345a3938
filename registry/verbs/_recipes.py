"""A version's recipe and what it takes to compute it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from registry import kinds, recipe
from registry.blobs import BlobStore
from registry.catalog import artifacts, revocations, views
from registry.catalog.artifacts import File
from registry.catalog.references import Pin
from registry.peft_format import StoredAdapter
from registry.recipe import Recipe
from registry.results import ModuleReport
from registry.verbs import _content
from registry.verbs._pinning import DTYPES


def recipe_of(session: Session, pin: Pin) -> Recipe:
    """A version's recipe; an imported adapter's is itself, taken once."""
    if pin.recipe_digest is not None:
        return artifacts.load_recipe(session, pin.recipe_digest)
    dtype = pin.dtype if pin.dtype in DTYPES else "float32"
    return recipe.identity(pin.digest, kind=pin.kind, algorithm=kinds.load(pin.kind).algorithm, dtype=dtype)


@dataclass(frozen=True)
class Job:
    """A version, its recipe, and where the bytes of the recipe's inputs are. Made inside a transaction, used
    outside: no transaction is open while tensors are read or computed.
    """

    pin: Pin
    recipe: Recipe
    files: Mapping[str, Mapping[str, File]]
    labels: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def open(self, blobs: BlobStore) -> dict[str, StoredAdapter]:
        """The inputs by digest, every byte checked."""
        return {
            digest: _content.open_adapter(blobs, files, self.labels.get(digest, digest))
            for digest, files in self.files.items()
        }


def job_of(session: Session, pin: Pin) -> Job:
    """What it takes to compute a version again."""
    wanted = recipe_of(session, pin)
    parents = views.version(session, pin.id).parents
    labels = {pin.digest: pin.ref} | {parent.digest: parent.ref for parent in parents}
    files = {digest: artifacts.files(session, digest) for digest in wanted.inputs}
    return Job(pin, wanted, files, labels, revocations.warnings(session, pin.id))


def reports(items: Iterable[Mapping[str, Any]]) -> tuple[ModuleReport, ...]:
    """Recorded reports as results."""
    return tuple(ModuleReport(module=item["module"], values=item["values"]) for item in items)
