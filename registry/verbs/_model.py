"""The model target: a version merged into its base model's checkpoint, streamed tensor by tensor."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from registry import checkpoint, digest, evaluate, kinds, reference
from registry._companions import companions_digest
from registry._layout import lay_out
from registry._paths import expanded
from registry._remembered import Remembered, Stamp
from registry.blobs import BlobStore
from registry.catalog import artifacts, bases, references, versions
from registry.catalog.artifacts import Content, File, Realisation
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.references import Pin
from registry.checkpoint import BaseCheckpoint
from registry.errors import Conflict, NotFound, UsageError
from registry.evaluate import Computation
from registry.inputs import space
from registry.peft_format import StoredAdapter
from registry.recipe import Recipe
from registry.results import BaseModelIdentity, Materialized, MaterializePlan
from registry.verbs import _content
from registry.verbs._devices import devices_of, libraries
from registry.verbs._estimate import estimate
from registry.verbs._folders import new_folder
from registry.verbs._grounds import check_fingerprint, check_values, fan_in_fan_out, on_base
from registry.verbs._once import alone
from registry.verbs._recipes import job_of, reports

if TYPE_CHECKING:
    from registry.deltas import Delta
    from registry.merge import MergedModel

VARIANT_FORMAT = 1

_BYTES_A_SECOND = 1.5e9  # read, hashed and written
_OPERATIONS_A_SECOND = 5e10


@dataclass(frozen=True)
class Options:
    """How to merge: the device or devices, the output's dtype (None keeps each tensor's), the shard size in bytes.

    ``remembered`` is the file that says what weight files were seen to hold.
    """

    device: str = "auto"
    dtype: str | None = None
    max_shard_size: int | None = None
    remembered: Path | None = None
    progress: Callable[[str, int, int], None] | None = None

    def tell(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    def variant(self, fingerprint: str, companions: str) -> str:
        """What tells this output apart from other outputs of the same recipe."""
        return digest.of_json(
            {
                "format": VARIANT_FORMAT,
                "base": fingerprint,
                "companions": companions,
                "dtype": self.dtype,
                "max_shard_size": self.max_shard_size,
            }
        )


@dataclass(frozen=True)
class _Ready:
    """A version about to be merged: its recipe, and the adapters and the base that it needs, opened and fitting."""

    pin: Pin
    recipe: Recipe
    inputs: Mapping[str, StoredAdapter]
    labels: Mapping[str, str]
    base: BaseCheckpoint
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Merge:
    """One merge of a version into its base model."""

    database: Database
    blobs: BlobStore
    options: Options
    actor: str
    started: float = field(default_factory=time.perf_counter)

    def run(self, ref: str, base_path: str | Path | None, out: Path | None) -> Materialized:
        """Merge into ``out``, or into the blob store; what is held there already is not computed again."""
        job = self._ready(ref, base_path)
        base = job.base
        if out is not None and expanded(out).resolve().is_relative_to(base.folder.resolve()):
            raise UsageError(f"{out} lies inside the base model's folder", hint="write it somewhere else")
        before = base.stamps()
        fingerprint = base.fingerprint(
            self.options.tell("reading the base"),
            remembered=Remembered(self.options.remembered),
            meanwhile=lambda: importlib.import_module("torch"),  # which takes a second by itself
        )
        check_fingerprint(job.pin.base_model, fingerprint)
        variant = self.options.variant(fingerprint, companions_digest(base.folder))
        held = self._held(job, variant)
        if held is None and out is not None:
            return self._compute(job, variant, fingerprint, before, out)
        if held is None:
            self.database.require("realisations")
            with alone(self.database, f"the model {job.recipe.digest} {variant}", self.options.progress):
                held = self._held(job, variant)
                if held is None:
                    return self._compute(job, variant, fingerprint, before, out)
        realisation, content = held
        if out is not None:
            with new_folder(out) as staging:
                paths = _content.verified_paths(content.files, self.blobs, job.pin.ref)
                _content.copy_files(paths, staging)
        return self._result(job, realisation, out, cached=True)

    def explain(self, ref: str, base_path: str | Path | None) -> MaterializePlan:
        """What :meth:`run` would do. Nothing is written, and of the base only the headers are read."""
        job = self._ready(ref, base_path)
        targets = job.base.resolve(space(job.inputs), fan_in_fan_out=fan_in_fan_out(job.inputs))
        layout = lay_out(job.base, targets, self.options.dtype, self.options.max_shard_size)
        pieces = [piece for pieces in layout.files.values() for piece in pieces]
        changed = [piece for piece in pieces if piece.module is not None and not piece.is_bias]
        operations = 0
        for each in estimate(job.recipe, job.inputs, stored=False).values():
            elements = math.prod(each.module.shape)
            own = elements if each.dense or each.rank is None else 2 * each.rank * elements
            operations += each.operations + own
        files = {name: len(layout.header(name)) for name in layout.files}
        for name, found in layout.files.items():
            files[name] += sum(piece.nbytes for piece in found)
        read, written = sum(piece.source.nbytes for piece in pieces), sum(files.values())
        unknown = job.base.unknown(Remembered(self.options.remembered))
        slow = operations / _OPERATIONS_A_SECOND > (read + written) / 2 / _BYTES_A_SECOND
        return MaterializePlan(
            ref=job.pin.ref,
            target="model",
            recipe_digest=job.recipe.digest,
            base_model=job.pin.base_model,
            base_path=str(job.base.folder),
            dtype=self.options.dtype or "as the base",
            device=self.options.device,
            files=files,
            tensors=len(pieces),
            patched=len(changed),
            patched_bytes=sum(piece.nbytes for piece in changed),
            identify=unknown,
            read=read + sum(adapter.size for adapter in job.inputs.values()),
            written=written,
            operations=operations,
            bound="arithmetic" if slow else "bytes",
            warnings=(*job.warnings, *_untied(untied=layout.untied)),
        )

    def _ready(self, ref: str, base_path: str | Path | None) -> _Ready:
        """Everything opened, and refused that can be refused without reading the base."""
        with self.database.read() as session:
            found = job_of(session, references.resolve(session, reference.parse(ref)))
        base = checkpoint.open_base(_base_folder(found.pin, base_path))
        grounds = on_base(found.open(self.blobs), base)
        check_values(found.recipe.base, grounds)
        base.resolve(space(grounds.inputs), fan_in_fan_out=fan_in_fan_out(grounds.inputs))
        return _Ready(found.pin, found.recipe, grounds.inputs, found.labels, base, found.warnings)

    def _held(self, job: _Ready, variant: str) -> tuple[Realisation, Content] | None:
        with self.database.read() as session:
            known = _known(session, job.recipe, variant)
        return next(((made, c) for made, c in known if _content.usable(self.blobs, c.files)), None)

    def _compute(
        self, job: _Ready, variant: str, fingerprint: str, before: Sequence[Stamp], out: Path | None
    ) -> Materialized:
        from registry import merge

        devices, base = devices_of(self.options.device), job.base
        computation = evaluate.prepare(job.recipe, job.inputs, device=devices[0], labels=job.labels)
        report: list[dict[str, Any]] = []

        def merged(folder: Path) -> MergedModel:
            made = merge.merge_into_base(
                base,
                kind=kinds.load(job.recipe.kind),
                modules=computation.modules,
                deltas=_reporting(computation, report),
                out=folder,
                device=devices,
                dtype=self.options.dtype,
                max_shard_size=self.options.max_shard_size,
                fan_in_fan_out=fan_in_fan_out(job.inputs),
                progress=self.options.tell("merging"),
            )
            if base.stamps() != before:
                raise Conflict(
                    f"{base.folder} was changed while it was read",
                    hint="merge again once nobody writes there",
                )
            return made

        def told(made: MergedModel, content: Content | None) -> tuple[Realisation, tuple[str, ...]]:
            realisation = Realisation(
                recipe_digest=job.recipe.digest,
                target="model",
                variant=variant,
                output_digest=made.digest,
                device=",".join(map(str, devices)),
                dtype=self.options.dtype or "as the base",
                seed=job.recipe.seed,
                seconds=time.perf_counter() - self.started,
                libraries=libraries(),
                report=tuple(report),
                files={path: {"size": file.size, "sha256": file.sha256} for path, file in made.files.items()},
            )
            kept = self.database.allows("realisations")
            return realisation, self._record(job, realisation, content, fingerprint) if kept else ()

        if out is not None:
            with new_folder(out) as staging:
                made = merged(staging)
                # A folder that has its name cannot be made again: by then it is recorded what it holds.
                realisation, differs = told(made, None)
        else:
            with self.blobs.stage() as stage:
                made = merged(stage)
                digests = {name: file.sha256 for name, file in made.files.items()}
                files = _content.put(self.blobs, stage, made.files, digests=digests)
                content = self._content(base, made, files)
            realisation, differs = told(made, content)
        said = _said(job.pin, made, kept=self.database.allows("realisations"))
        return self._result(job, realisation, out, cached=False, differs=differs, warnings=said)

    def _content(self, base: BaseCheckpoint, made: MergedModel, files: Mapping[str, File]) -> Content:
        dtypes = sorted({tensor.dtype for tensor in base.tensors.values()})
        return Content(
            digest=made.digest,
            target="model",
            kind="model",
            rank=None,
            parameters=sum(math.prod(tensor.shape) for tensor in base.tensors.values()),
            modules=len(base.tensors),
            dtype=self.options.dtype or ", ".join(dtypes),
            size=sum(file.size for file in files.values()),
            files=files,
        )

    def _record(
        self, job: _Ready, made: Realisation, content: Content | None, fingerprint: str
    ) -> tuple[str, ...]:
        """Record the model, and its files where they are kept; returns what the recipe gave otherwise.

        What the base's weights are is recorded with the first model that came out well.
        """

        def write(session: Session) -> list[Realisation]:
            learned = job.pin.base_model.fingerprint is None
            if learned:
                seen = job.pin.base_model.model_copy(update={"fingerprint": fingerprint})
                versions.set_fingerprint(session, job.pin.base_model_id, seen)
                bases.save_layout(session, fingerprint, job.base.layout)
            # In the order in which an import takes the tables.
            if content is not None:
                artifacts.save(session, content)
                _content.check_present(self.blobs, content.files)
            artifacts.save_recipe(session, job.recipe)
            artifacts.save_realisation(session, made)
            if learned:
                record(session, self.actor, "fingerprint", str(job.pin.base_model), fingerprint=fingerprint)
            record(session, self.actor, "materialize", job.pin.ref, target="model", digest=made.output_digest)
            return artifacts.realisations(session, made.recipe_digest, "model", made.variant)

        others = self.database.transact(write)
        return tuple(sorted({other.output_digest for other in others} - {made.output_digest}))

    def _result(
        self,
        job: _Ready,
        made: Realisation,
        out: Path | None,
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
            seconds=time.perf_counter() - self.started,
            cached=cached,
            report=reports(made.report),
            differs=differs,
            warnings=(*job.warnings, *warnings),
        )


def merged_again(
    wanted: Recipe,
    inputs: Mapping[str, StoredAdapter],
    labels: Mapping[str, str],
    *,
    identity: BaseModelIdentity,
    base_folder: Path,
    out: Path,
) -> dict[str, str]:
    """The files of a recipe merged into its base model, as it is published, by path: their digests."""
    from registry import merge

    base = checkpoint.open_base(base_folder)
    check_fingerprint(identity, base.fingerprint())
    grounds = on_base(inputs, base)
    check_values(wanted.base, grounds)
    devices = devices_of("auto")
    computation = evaluate.prepare(wanted, grounds.inputs, device=devices[0], labels=labels)
    made = merge.merge_into_base(
        base,
        kind=kinds.load(wanted.kind),
        modules=computation.modules,
        deltas=_reporting(computation, []),
        out=out,
        device=devices,
        fan_in_fan_out=fan_in_fan_out(grounds.inputs),
    )
    return {path: file.sha256 for path, file in made.files.items()}


def _base_folder(pin: Pin, base_path: str | Path | None) -> Path:
    if base_path is not None:
        return expanded(base_path)
    from registry import hub

    if not hub.is_repo_id(str(pin.base_model.repo)):
        raise UsageError(
            f"{pin.base_model} is no repo on the Hub", hint="say where the base model is with --base-path DIR"
        )
    try:
        folder, _ = hub.fetch_model(str(pin.base_model.repo), pin.base_model.revision)
    except NotFound as error:
        raise NotFound(
            error.message,
            hint="say where the base model is with --base-path DIR, or use a token that may read it",
        ) from None
    return folder


def _known(session: Session, wanted: Recipe, variant: str) -> list[tuple[Realisation, Content]]:
    """What the recipe gave before on this very base, where its files were kept."""
    made = artifacts.realisations(session, wanted.digest, "model", variant)
    loaded = [(each, artifacts.load(session, each.output_digest)) for each in made]
    return [(each, content) for each, content in loaded if content is not None and content.files]


def _reporting(computation: Computation, report: list[dict[str, Any]]) -> Callable[[str], Delta]:
    def delta(module: str) -> Delta:
        item = computation.module(module)
        if item.report:
            report.append({"module": module, "values": dict(item.report)})
        return item.delta

    return delta


def _untied(*, untied: bool) -> tuple[str, ...]:
    if not untied:
        return ()
    return ("the embeddings were tied and are two tensors now: tie_word_embeddings is false",)


def _said(pin: Pin, made: MergedModel, *, kept: bool) -> tuple[str, ...]:
    said = []
    if not kept:
        said.append("that it was made is not recorded, as you may only read this catalog")
    elif pin.base_model.fingerprint is None:
        said.append(f"these weights are what {pin.base_model} means from now on; others will be refused")
    said += _untied(untied=made.untied)
    if made.left_out:
        said.append(f"not copied from the base: {', '.join(made.left_out)}")
    return tuple(said)
