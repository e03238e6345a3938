"""Check out a version as a PEFT folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from registry import peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.results import Checkout
from registry.verbs import _content
from registry.verbs._folders import new_folder


def checkout(database: Database, blobs: BlobStore, ref: str, directory: str | Path) -> Checkout:
    target = Path(directory)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        paths = verified(session, blobs, pin)
    with new_folder(target) as staging:
        files = peft_folder(paths, staging)
    return Checkout(ref=pin.ref, digest=pin.digest, path=str(target), files=files)


def verified(session: Session, blobs: BlobStore, pin: Pin) -> dict[str, Path]:
    """A version's stored files, every byte checked."""
    return _content.verified_paths(artifacts.files(session, pin.digest), blobs, pin.ref)


def peft_folder(paths: dict[str, Path], folder: Path) -> dict[str, int]:
    """Write the two files of an adapter, with the tensor names that today's PEFT expects."""
    stored = peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS])
    if peft_format.is_canonical(stored):
        return _content.copy_files(paths, folder)
    peft_format.rewrite(stored, folder)
    return {name: (folder / name).stat().st_size for name in paths}
