"""Check out a version as a PEFT folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from registry import peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import references, revocations
from registry.catalog.database import Database
from registry.results import BaseModelIdentity, Checkout
from registry.verbs import _content
from registry.verbs._folders import new_folder


def checkout(database: Database, blobs: BlobStore, ref: str, directory: str | Path) -> Checkout:
    target = Path(directory)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        held = _content.files_of(session, pin.digest, pin.ref)
        warnings = revocations.warnings(session, pin.id)
    paths = _content.verified_paths(held, blobs, pin.ref)
    with new_folder(target) as staging:
        files = peft_folder(paths, staging, pin.base_model)
    return Checkout(ref=pin.ref, digest=pin.digest, path=str(target), files=files, warnings=warnings)


def peft_folder(paths: Mapping[str, Path], folder: Path, base_model: BaseModelIdentity) -> dict[str, int]:
    """Write the two files of an adapter, naming its base model as the catalog does and tensors as PEFT does.

    One content may be cataloged on several base models, so the stored config alone cannot say which.
    """
    stored = peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS])
    if peft_format.is_canonical(stored) and peft_format.is_for(stored, base_model):
        return _content.copy_files(paths, folder)
    peft_format.rewrite(stored, folder, base_model)
    return {name: (folder / name).stat().st_size for name in paths}
