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
    """A version's recipe; an imported adapter's is itself, taken once.

    So is one whose recipe somebody else tells, until it gave that very content here: ``told_recipe`` is that one.
    """
    if pin.recipe_digest is not None and (pin.origin is None or _proven(session, pin, pin.recipe_digest)):
        return artifacts.load_recipe(session, pin.recipe_digest)
    dtype = pin.dtype if pin.dtype in DTYPES else "float32"
    return recipe.identity(pin.digest, kind=pin.kind, algorithm=kinds.load(pin.kind).algorithm, dtype=dtype)


def told_recipe(session: Session, pin: Pin) -> Recipe:
    """A version's recipe, whoever tells of it; an imported adapter's is itself."""
    own = pin.recipe_digest is not None
    return artifacts.load_recipe(session, pin.recipe_digest or "") if own else recipe_of(session, pin)


def _proven(session: Session, pin: Pin, recipe_digest: str) -> bool:
    known = artifacts.realisations(session, recipe_digest, "adapter", "")
    return any(each.output_digest == pin.digest for each in known)


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
    """What it takes to compute a version again. Raises ``NotHeld`` where it, or an input, is only known."""
    _content.files_of(session, pin.digest, pin.ref)
    return job(session, pin, recipe_of(session, pin))


def job(session: Session, pin: Pin, wanted: Recipe) -> Job:
    """What it takes to compute a recipe of a version. Raises ``NotHeld`` where an input is only known."""
    parents = views.version(session, pin.id).parents
    labels = {pin.digest: pin.ref} | {parent.digest: parent.ref for parent in parents}
    files = {
        digest: _content.files_of(session, digest, labels.get(digest, digest)) for digest in wanted.inputs
    }
    return Job(pin, wanted, files, labels, revocations.warnings(session, pin.id))


def reports(items: Iterable[Mapping[str, Any]]) -> tuple[ModuleReport, ...]:
    """Recorded reports as results."""
    return tuple(ModuleReport(module=item["module"], values=item["values"]) for item in items)
