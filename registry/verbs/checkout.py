"""Check out a version as a PEFT folder, or in the format of another program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry import exports, peft_format, reference
from registry._paths import expanded
from registry._safetensors import read_object
from registry.base_layout import BaseLayout
from registry.blobs import BlobStore
from registry.catalog import bases, references, revocations
from registry.catalog.database import Database
from registry.errors import NotFound, UsageError
from registry.results import BaseModelIdentity, Checkout
from registry.verbs import _content
from registry.verbs._folders import new_folder, refuse_existing

_CONFIG = "config.json"
_CONFIG_LIMIT = 2**20
_AGAIN = "give a folder with the base model's config.json"


@_content.unless_swept
def checkout(
    database: Database,
    blobs: BlobStore,
    ref: str,
    directory: str | Path,
    *,
    for_: str | None = None,
    rank: int | None = None,
    base_path: str | Path | None = None,
) -> Checkout:
    target = Path(directory)
    options = {"rank": rank, "base_path": base_path}
    if for_ is None and (given := [name for name, value in options.items() if value is not None]):
        raise UsageError(
            f"a plain checkout takes no {given[0].replace('_', ' ')}", hint="say for what: --for vllm"
        )
    if rank is not None and rank < 1:
        raise UsageError(f"a rank of {rank} is none", hint="--rank takes a number from 1")
    chosen = None if for_ is None else exports.load(for_, options)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        held = _content.files_of(session, pin.digest, pin.ref)
        warnings = revocations.warnings(session, pin.id)
        layout = None if chosen is None else bases.layout_of(session, pin.base_model)
    made: dict[str, Any] = {}
    if chosen is None:
        paths = _content.verified_paths(held, blobs, pin.ref)
        with new_folder(target) as staging:
            files = peft_folder(paths, staging, pin.base_model)
    else:
        refuse_existing(expanded(target).absolute())
        adapter = _content.open_adapter(blobs, held, pin.ref)
        job = exports.Job(adapter, pin.base_model, lambda: _configs(pin.base_model, base_path, layout), rank)
        with new_folder(target) as staging:
            done = chosen.write(job, staging)
            files = {path.name: path.stat().st_size for path in sorted(staging.iterdir())}
        made = {"format": for_, "rank": done.rank, "energy": done.energy, "notes": done.notes}
    return Checkout(ref=pin.ref, digest=pin.digest, path=str(target), files=files, warnings=warnings, **made)


def _configs(
    base_model: BaseModelIdentity, base_path: str | Path | None, layout: BaseLayout | None
) -> Iterator[Mapping[str, Any]]:
    """The base model's config: from the folder that was given and no other place, or from the catalog, then the Hub."""
    if base_path is not None:
        file = expanded(base_path) / _CONFIG
        if not file.is_file():
            raise NotFound(f"there is no {file}", hint=_AGAIN)
        yield read_object(file, name=str(file), limit=_CONFIG_LIMIT, hint=_AGAIN, constants=True)
        return
    if layout is not None:
        yield layout.config
    from registry import hub

    if base_model.repo is not None and hub.is_repo_id(base_model.repo):
        yield hub.model_config(base_model.repo, base_model.revision)


def peft_folder(paths: Mapping[str, Path], folder: Path, base_model: BaseModelIdentity) -> dict[str, int]:
    """Write the two files of an adapter, naming its base model as the catalog does and tensors as PEFT does.

    One content may be cataloged on several base models, so the stored config alone cannot say which.
    """
    stored = peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS])
    if peft_format.is_canonical(stored) and peft_format.is_for(stored, base_model):
        return _content.copy_files(paths, folder)
    peft_format.rewrite(stored, folder, base_model)
    return {name: (folder / name).stat().st_size for name in paths}
