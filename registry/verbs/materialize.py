"""Materialize: a version's bytes as a PEFT adapter, or merged into its base model's checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from registry import checkpoint, digest, evaluate, kinds, merge, recipe, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, versions, views
from registry.catalog.artifacts import Content, Realisation
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.references import Pin
from registry.checkpoint import BaseCheckpoint
from registry.errors import UsageError
from registry.evaluate import Computation
from registry.merge import MergedModel
from registry.peft_format import StoredAdapter
from registry.recipe import Recipe
from registry.results import Materialized, ModuleReport, Target
from registry.verbs import _content
from registry.verbs._devices import device_of, libraries
from registry.verbs._folders import new_folder, refuse_existing
from registry.verbs._pinning import DTYPES
from registry.verbs.checkout import peft_folder, verified

Progress = Callable[[str, int, int], None]
_MANIFEST = "model"


@dataclass(frozen=True)
class _Job:
    """A version to merge: its recipe, and the adapters that the recipe needs."""

    pin: Pin
    recipe: Recipe
    inputs: Mapping[str, StoredAdapter]
    labels: Mapping[str, str]

    @property
    def fan_in_fan_out(self) -> bool | None:
        said = {bool(adapter.config["fan_in_fan_out"]) for adapter in self.inputs.values() if "fan_in_fan_out" in adapter.config}
        return said.pop() if len(said) == 1 else None


def materialize(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    into: Target,
    base_path: str | Path | None,
    out: str | Path | None,
    device: str,
    dtype: str | None,
    max_shard_size: int | None,
    actor: str,
    progress: Progress | None,
) -> Materialized:
    target = None if out is None else Path(out)
    if target is not None:
        refuse_existing(target.expanduser().absolute())
    if into == "adapter":
        if dtype is not None or max_shard_size is not None:
            raise UsageError(
                "--dtype and --max-shard-size are for models", hint="an adapter's dtype is chosen when composing"
            )
        return _adapter(database, blobs, ref, target)
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}", hint=f"one of: {', '.join(DTYPES)}")
    merging = _Merging(device, dtype, max_shard_size, progress)
    return _model(database, blobs, ref, base_path, target, merging, actor)


@contextmanager
def model_files(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    base_path: str | Path | None,
    actor: str,
    progress: Progress | None,
) -> Iterator[dict[str, Path]]:
    """The files of the merged model, by relative path, for as long as the block runs."""
    merging = _Merging("auto", None, None, progress)
    made = _model(database, blobs, ref, base_path, None, merging, actor)
    with database.read() as session:
        files = artifacts.files(session, made.digest)
    yield _content.verified_paths(files, blobs, ref)


@dataclass(frozen=True)
class _Merging:
    """How to merge: everything but what."""

    device: str
    dtype: str | None
    max_shard_size: int | None
    progress: Progress | None

    def tell(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    def variant(self, fingerprint: str) -> str:
        """What tells this output apart from other outputs of the same recipe."""
        return digest.of_json(
            {"base": fingerprint, "dtype": self.dtype, "max_shard_size": self.max_shard_size, "format": 1}
        )


def _adapter(database: Database, blobs: BlobStore, ref: str, out: Path | None) -> Materialized:
    """An adapter's bytes were computed when it was composed: they are checked, and written where asked."""
    started = time.perf_counter()
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        paths = verified(session, blobs, pin)
        wanted = recipe_of(session, pin)
        known = artifacts.realisations(session, wanted.digest, "adapter", "")
    if out is not None:
        with new_folder(out) as staging:
            peft_folder(paths, staging)
    mine = next((made for made in known if made.output_digest == pin.digest), None)
    return Materialized(
        ref=pin.ref,
        target="adapter",
        digest=pin.digest,
        recipe_digest=wanted.digest,
        path=None if out is None else str(out),
        files={name: path.stat().st_size for name, path in paths.items()},
        size=pin.size,
        device=mine.device if mine else "none",
        dtype=pin.dtype,
        seconds=time.perf_counter() - started,
        cached=True,
        report=_reports(mine.report if mine else ()),
        differs=tuple(sorted({made.output_digest for made in known} - {pin.digest})),
    )


def _model(
    database: Database,
    blobs: BlobStore,
    ref: str,
    base_path: str | Path | None,
    out: Path | None,
    merging: _Merging,
    actor: str,
) -> Materialized:
    started = time.perf_counter()
    with database.read() as session:
        job = _job(session, blobs, references.resolve(session, reference.parse(ref)))
    base = checkpoint.open_base(_base_folder(job.pin, base_path))
    modules = evaluate.space(job.inputs)
    base.resolve(modules, fan_in_fan_out=job.fan_in_fan_out)
    fingerprint = base.fingerprint(merging.tell("reading the base"))
    with database.write() as session:
        seen = job.pin.base_model.model_copy(update={"fingerprint": fingerprint})
        versions.set_fingerprint(session, job.pin.base_model_id, seen)
    variant = merging.variant(fingerprint)
    with database.read() as session:
        held = _held(session, blobs, job.recipe, variant)
    if held is not None:
        realisation, content = held
        if out is not None:
            with new_folder(out) as staging:
                _content.copy_files(_content.verified_paths(content.files, blobs, job.pin.ref), staging)
        return _result(job, realisation, out, started, cached=True)
    return _merge(database, blobs, job, base, variant, out, merging, actor, started)


def _merge(
    database: Database,
    blobs: BlobStore,
    job: _Job,
    base: BaseCheckpoint,
    variant: str,
    out: Path | None,
    merging: _Merging,
    actor: str,
    started: float,
) -> Materialized:
    device = device_of(merging.device)
    computation = evaluate.prepare(job.recipe, job.inputs, device=device, labels=job.labels)
    reports: list[dict[str, Any]] = []

    def merge_into(folder: Path) -> MergedModel:
        return merge.merge_into_base(
            base,
            kind=kinds.load(job.recipe.kind),
            modules=computation.modules,
            deltas=_reporting(computation, reports),
            out=folder,
            device=device,
            dtype=merging.dtype,
            max_shard_size=merging.max_shard_size,
            fan_in_fan_out=job.fan_in_fan_out,
            progress=merging.tell("merging"),
        )

    content = None
    if out is not None:
        with new_folder(out) as staging:
            made = merge_into(staging)
    else:
        with blobs.stage() as stage:
            made = merge_into(stage)
            files = _content.put(blobs, stage, made.files)
        content = _model_content(job, base, made, files, merging.dtype)
    realisation = Realisation(
        recipe_digest=job.recipe.digest,
        target="model",
        variant=variant,
        output_digest=made.digest,
        device=str(device),
        dtype=merging.dtype or "as the base",
        seed=job.recipe.seed,
        seconds=time.perf_counter() - started,
        libraries=libraries(),
        report=tuple(reports),
        files={path: {"size": file.size, "sha256": file.sha256} for path, file in made.files.items()},
    )
    differs = _record(database, blobs, job, realisation, content, actor)
    return _result(job, realisation, out, started, cached=False, differs=differs, warnings=_said(made))


def _record(
    database: Database, blobs: BlobStore, job: _Job, made: Realisation, content: Content | None, actor: str
) -> tuple[str, ...]:
    """Record a merged model, and its files where they are kept; returns what the recipe gave otherwise."""
    with database.write() as session:
        artifacts.save_recipe(session, job.recipe)
        artifacts.save_realisation(session, made)
        if content is not None:
            artifacts.save(session, content)
            _content.check_present(blobs, content.files)
        record(session, actor, "materialize", job.pin.ref, target="model", digest=made.output_digest)
        others = artifacts.realisations(session, made.recipe_digest, "model", made.variant)
    return tuple(sorted({other.output_digest for other in others} - {made.output_digest}))


def recipe_of(session: Session, pin: Pin) -> Recipe:
    """A version's recipe; an imported adapter's is itself, taken once."""
    if pin.recipe_digest is not None:
        return artifacts.load_recipe(session, pin.recipe_digest)
    dtype = pin.dtype if pin.dtype in DTYPES else "float32"
    return recipe.identity(pin.digest, kind=pin.kind, algorithm=kinds.load(pin.kind).algorithm, dtype=dtype)


def inputs_of(
    session: Session, blobs: BlobStore, pin: Pin, wanted: Recipe
) -> tuple[dict[str, StoredAdapter], dict[str, str]]:
    """The adapters that a version's recipe needs, every byte checked, and their names by digest."""
    labels = {pin.digest: pin.ref} | {
        parent.digest: parent.ref for parent in views.version(session, pin.id).parents
    }
    inputs = {
        digest: _content.open_adapter(session, blobs, digest, labels.get(digest, digest)) for digest in wanted.inputs
    }
    return inputs, labels


def _job(session: Session, blobs: BlobStore, pin: Pin) -> _Job:
    wanted = recipe_of(session, pin)
    inputs, labels = inputs_of(session, blobs, pin, wanted)
    return _Job(pin, wanted, inputs, labels)


def _base_folder(pin: Pin, base_path: str | Path | None) -> Path:
    if base_path is not None:
        return Path(base_path).expanduser()
    from registry import hub

    folder, _ = hub.fetch_model(str(pin.base_model.repo), pin.base_model.revision)
    return folder


def _held(
    session: Session, blobs: BlobStore, wanted: Recipe, variant: str
) -> tuple[Realisation, Content] | None:
    for made in artifacts.realisations(session, wanted.digest, "model", variant):
        content = artifacts.load(session, made.output_digest)
        if content is not None and content.files and all(blobs.has(f.digest) for f in content.files.values()):
            return made, content
    return None


def _model_content(
    job: _Job, base: BaseCheckpoint, made: MergedModel, files: Mapping[str, artifacts.File], dtype: str | None
) -> Content:
    found = sorted({tensor.dtype for tensor in base.tensors.values()})
    return Content(
        digest=made.digest,
        target="model",
        kind=_MANIFEST,
        rank=None,
        parameters=sum(_count(tensor.shape) for tensor in base.tensors.values()),
        modules=len(job.inputs),
        dtype=dtype or ", ".join(found),
        size=sum(file.size for file in files.values()),
        files=files,
    )


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _reporting(computation: Computation, reports: list[dict[str, Any]]) -> Callable[[str], Any]:
    def delta(module: str) -> Any:
        item = computation.module(module)
        if item.report:
            reports.append({"module": module, "values": dict(item.report)})
        return item.delta

    return delta


def _reports(items: Any) -> tuple[ModuleReport, ...]:
    return tuple(ModuleReport(module=item["module"], values=item["values"]) for item in items)


def _said(made: MergedModel) -> tuple[str, ...]:
    said = []
    if made.untied:
        said.append("the embeddings were tied and are now two tensors: tie_word_embeddings is false")
    if made.left_out:
        said.append(f"not copied from the base: {', '.join(made.left_out)}")
    return tuple(said)


def _result(
    job: _Job,
    made: Realisation,
    out: Path | None,
    started: float,
    *,
    cached: bool,
    differs: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Materialized:
    files = {path: int(file["size"]) for path, file in made.files.items()}
    return Materialized(
        ref=job.pin.ref,
        target="model",
        digest=made.output_digest,
        recipe_digest=made.recipe_digest,
        path=None if out is None else str(out),
        files=files,
        size=sum(files.values()),
        device=made.device,
        dtype=made.dtype,
        seconds=time.perf_counter() - started,
        cached=cached,
        report=_reports(made.report),
        differs=differs,
        warnings=warnings,
    )
