"""What is published about a version, from the catalog: its parents and where they are, its lineage, its build."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from registry import digest, hub, peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, lineage, references, views
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.publishers import Build, Origin, PlannedFile, Release
from registry.results import BaseModelIdentity, Parent, Target
from registry.verbs import _content
from registry.verbs._ancestry import upstream

HUB = "hf://"


@contextmanager
def adapter_files(database: Database, blobs: BlobStore, pin: Pin) -> Iterator[dict[str, Path]]:
    """The two files of an adapter as they are published: every byte checked, and loadable by today's PEFT.

    They are the stored files, unless those name tensors as PEFT no longer does, or another base model than the
    catalog, or one by a path.
    """
    with database.read() as session:
        held = _content.files_of(session, pin.digest, pin.ref)
    paths = _content.verified_paths(held, blobs, pin.ref)
    stored = peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS])
    base = pin.base_model
    if not (base.repo and hub.is_repo_id(base.repo)):
        base = BaseModelIdentity(repo=None)  # a path says nothing to others, and may say too much
    if peft_format.is_canonical(stored) and peft_format.is_for(stored, base):
        yield {name: paths[name] for name in (peft_format.CONFIG, peft_format.TENSORS)}
        return
    with blobs.stage() as stage:
        peft_format.rewrite(stored, stage, base)
        yield {name: stage / name for name in (peft_format.CONFIG, peft_format.TENSORS)}


def task_type(database: Database, blobs: BlobStore, pin: Pin) -> str | None:
    """PEFT's name of the adapter's task, which says what class loads it; None where it is not known."""
    with database.read() as session:
        config = artifacts.files(session, pin.digest).get(peft_format.CONFIG)
    if config is None or config.size > peft_format.CONFIG_LIMIT or not blobs.has(config.digest):
        return None
    try:
        found = json.loads(blobs.path(config.digest).read_bytes()).get("task_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def collect(
    session: Session, pin: Pin, target: Target, files: Mapping[str, PlannedFile], task: str | None
) -> Release:
    """Everything that is published about a version whose published files are ``files``."""
    version = views.version(session, pin.id)
    recipe: Mapping[str, Any] | None = None
    if pin.recipe_digest is not None:
        recipe = artifacts.load_recipe(session, pin.recipe_digest).canonical()
    output = pin.digest if target == "adapter" else model_digest(files)
    return Release(
        version=version,
        target=target,
        origins=tuple(_origin(session, parent) for parent in version.parents),
        lineage=lineage.lineage(session, pin, direction="up", depth=None),
        recipe=recipe,
        build=_build(session, target, output),
        task_type=task,
        upstream=upstream(session, pin, target),
    )


def model_digest(files: Mapping[str, PlannedFile]) -> str:
    """The digest of a merged model: over the digests of its files."""
    return digest.of_json({path: file.sha256 for path, file in files.items()})


def _origin(session: Session, parent: Parent) -> Origin:
    """A parent, and where it was published last, or else where it was fetched from."""
    pin = references.resolve(session, reference.parse(parent.ref), deleted=True)
    version = views.version(session, pin.id)
    for each in reversed(version.publications):
        if each.state == "done" and each.target == "adapter":
            return Origin(parent, each.repo, each.commit, each.url)
    repo, _, commit = (version.source or "").removeprefix(HUB).partition("@")
    if (version.source or "").startswith(HUB) and commit:
        return Origin(parent, repo, commit)
    return Origin(parent)


def _build(session: Session, target: Target, output: str) -> Build | None:
    """How this very output was computed, the first time it was."""
    made = artifacts.first_realisation(session, output, target)
    if made is None or made.created_at is None:
        return None
    return Build(made.device, made.dtype, made.seed, made.libraries, made.created_at)
