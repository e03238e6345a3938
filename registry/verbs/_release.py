"""What is published about a version, from the catalog: its parents and where they are, its lineage, its build."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from registry import _safetensors, digest, hub, peft_format, reference
from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import artifacts, lineage, publications, references, sweeps, views
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import Refused
from registry.publishers import Build, Chosen, Origin, PlannedFile, Release, Serving, Terms
from registry.results import BaseModelIdentity, Parent, Target
from registry.verbs import _content, lookup
from registry.verbs._ancestry import upstream
from registry.verbs.sweeps import judged

HUB = "hf://"
TEMPLATE, KEY = "REGISTRY_CARD_TEMPLATE", "REGISTRY_SIGNING_KEY"

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank (its ``LoRAConfig``), from the smallest that saves anything."""
_LINEAR = re.compile(r".*\.lora_[AB]\.weight")


@dataclass(frozen=True)
class Presentation:
    """How a release is presented: its license, why it is published in spite of those of its inputs, the private key
    that signs it, and the template of its card.
    """

    license: str | None = None
    despite_license: str | None = None
    sign_key: Path | None = None
    card_template: Path | None = None


PLAIN = Presentation()


def presentation(
    license: str | None = None,  # noqa: A002  (the field's own word)
    despite_license: str | None = None,
    sign_key: str | Path | None = None,
    card_template: str | Path | None = None,
) -> Presentation:
    """Arguments first, then ``REGISTRY_SIGNING_KEY`` and ``REGISTRY_CARD_TEMPLATE``."""
    key, template = sign_key or os.environ.get(KEY), card_template or os.environ.get(TEMPLATE)
    return Presentation(
        license,
        despite_license,
        expanded(key) if key else None,
        expanded(template) if template else None,
    )


@dataclass(frozen=True)
class Traits:
    """What the stored files say of an adapter beside its content: PEFT's name of its task, and how vLLM serves it."""

    task_type: str | None
    serving: Serving | None


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


def traits(database: Database, blobs: BlobStore, pin: Pin) -> Traits:
    """Read from the config and the header of the tensors, as far as they are at hand."""
    with database.read() as session:
        held = artifacts.files(session, pin.digest)
    config, tensors = held.get(peft_format.CONFIG), held.get(peft_format.TENSORS)
    if config is None or config.size > peft_format.CONFIG_LIMIT or not blobs.has(config.digest):
        return Traits(None, None)
    try:
        found = json.loads(blobs.path(config.digest).read_bytes())
        stored: Mapping[str, _safetensors.Entry] = {}
        if tensors is not None and blobs.has(tensors.digest):
            path = blobs.path(tensors.digest)
            limit = peft_format.HEADER_LIMIT
            stored = _safetensors.read_header(path, name=peft_format.TENSORS, limit=limit, hint="")
        task = found.get("task_type")
    except (OSError, ValueError, AttributeError, RecursionError, Refused):
        return Traits(None, None)
    return Traits(task if isinstance(task, str) else None, _serving(pin, found, stored) if stored else None)


def _serving(pin: Pin, config: Mapping[str, Any], tensors: Mapping[str, _safetensors.Entry]) -> Serving:
    """VLLM reads one rank and one scale for all modules, of LoRA on linear layers and nothing else."""
    if pin.kind != "lora":
        return Serving(None, f"it serves LoRA, and this is {pin.kind}")
    for key, what in (
        ("use_dora", "DoRA"),
        ("modules_to_save", "modules that are saved whole"),
        ("rank_pattern", "modules of different ranks"),
        ("alpha_pattern", "modules of different scales"),
        ("trainable_token_indices", "trained tokens"),
        ("layer_replication", "replicated layers"),
    ):
        if config.get(key):
            return Serving(None, f"it does not read {what}")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return Serving(None, "it does not read trained biases")
    if not all(_LINEAR.fullmatch(name) and len(each.shape) == 2 for name, each in tensors.items()):
        return Serving(None, "it reads LoRA on linear layers only")
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= _VLLM_RANKS[-1]:
        return Serving(None, f"it reads ranks up to {_VLLM_RANKS[-1]}")
    return Serving(next(each for each in _VLLM_RANKS if rank <= each))


def collect(
    session: Session,
    pin: Pin,
    target: Target,
    files: Mapping[str, PlannedFile],
    *,
    seen: Traits,
    terms: Terms | None,
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
        task_type=seen.task_type,
        serving=seen.serving,
        comparison=lookup.compared(session, pin, depth=1),
        terms=terms,
        upstream=upstream(session, pin, target),
        chosen=None if version.sweep is None else _chosen(session, version.sweep, pin.recipe_digest),
    )


def _chosen(session: Session, number: int, recipe: str | None) -> Chosen | None:
    """How the sweep came to this recipe: it may have come to another one since."""
    found = judged(sweeps.one(session, number), sweeps.points(session, number))
    points = {each.position: each for each in found.points if each.recipe == recipe}
    if not points:
        return None
    best = points.get(found.chosen or 0) or next(iter(points.values()))
    return Chosen(found.expression, best.values, found.metrics, found.constraints, len(found.points))


def model_digest(files: Mapping[str, PlannedFile]) -> str:
    """The digest of a merged model: over the digests of its files."""
    return digest.of_json({path: file.sha256 for path, file in files.items()})


def _origin(session: Session, parent: Parent) -> Origin:
    """A parent, and where it was published last, or else where it was fetched from."""
    pin = references.resolve(session, reference.parse(parent.ref), deleted=True)
    version = views.version(session, pin.id)
    for each in publications.places(session, [pin.id]).get(version.ref, [])[-1:]:
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
