"""Materialize: a version's bytes as a PEFT adapter, or merged into its base model's checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from registry import reference
from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, revocations
from registry.catalog.database import Database
from registry.errors import UsageError
from registry.results import Materialized, MaterializePlan, Target
from registry.verbs import _content
from registry.verbs._devices import check_devices
from registry.verbs._folders import new_folder, refuse_existing
from registry.verbs._model import Merge, Options
from registry.verbs._pinning import DTYPES
from registry.verbs._recipes import recipe_of, reports
from registry.verbs.checkout import peft_folder

Progress = Callable[[str, int, int], None]


@_content.unless_swept
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
    remembered: Path | None = None,
    actor: str,
    progress: Progress | None,
) -> Materialized:
    options = Options(device, dtype, max_shard_size, remembered, progress)
    _check(into, options)
    target = None if out is None else Path(out)
    if target is not None:
        refuse_existing(expanded(target).absolute())
    if into == "adapter":
        return _adapter(database, blobs, ref, target)
    return Merge(database, blobs, options, actor).run(ref, base_path, target)


@_content.unless_swept
def explain(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    into: Target,
    base_path: str | Path | None,
    device: str,
    dtype: str | None,
    max_shard_size: int | None,
    remembered: Path | None = None,
    actor: str,
) -> MaterializePlan:
    """What :func:`materialize` would do."""
    options = Options(device, dtype, max_shard_size, remembered)
    _check(into, options)
    if into == "model":
        return Merge(database, blobs, options, actor).explain(ref, base_path)
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        held = _content.files_of(session, pin.digest, pin.ref)
        wanted = recipe_of(session, pin)
        warnings = revocations.warnings(session, pin.id)
    adapter = _content.open_adapter(blobs, held, pin.ref)
    files = {name: file.size for name, file in held.items()}
    return MaterializePlan(
        ref=pin.ref,
        target="adapter",
        recipe_digest=wanted.digest,
        base_model=pin.base_model,
        base_path=None,
        dtype=pin.dtype,
        device="none",
        files=files,
        tensors=len(adapter.entries),
        patched=0,
        patched_bytes=0,
        identify=0,
        read=sum(files.values()),
        written=sum(files.values()),
        operations=0,
        bound="bytes",
        warnings=warnings,
    )


def _check(into: Target, options: Options) -> None:
    """Refuse, before anything is read, what makes no sense."""
    if into not in get_args(Target):
        raise UsageError(f"unknown target {into!r}", hint=f"one of: {', '.join(get_args(Target))}")
    if into not in {"adapter", "model"}:
        raise UsageError(f"cannot materialize as {into!r}", hint="as one of: adapter, model")
    check_devices(options.device)
    if into == "adapter":
        if options.dtype is not None or options.max_shard_size is not None:
            raise UsageError(
                "--dtype and --max-shard-size are for models",
                hint="an adapter's dtype is chosen when composing",
            )
        return
    if options.dtype is not None and options.dtype not in DTYPES:
        raise UsageError(f"unknown dtype {options.dtype!r}", hint=f"one of: {', '.join(DTYPES)}")
    if options.max_shard_size is not None and options.max_shard_size < 1:
        raise UsageError(
            f"a shard cannot have {options.max_shard_size} bytes", hint="--max-shard-size is at least 1"
        )


@contextmanager
def model_files(
    database: Database,
    blobs: BlobStore,
    ref: str,
    *,
    base_path: str | Path | None,
    remembered: Path | None,
    actor: str,
    progress: Progress | None,
) -> Iterator[dict[str, Path]]:
    """The files of the merged model, by relative path, for as long as the block runs."""
    merge = Merge(database, blobs, Options(remembered=remembered, progress=progress), actor)

    @_content.unless_swept
    def once() -> dict[str, Path]:
        made = merge.run(ref, base_path, None)
        with database.read() as session:
            files = artifacts.files(session, made.digest)
        return _content.verified_paths(files, blobs, ref)

    yield once()


def _adapter(database: Database, blobs: BlobStore, ref: str, out: Path | None) -> Materialized:
    """An adapter's bytes were computed when it was composed: they are checked, and written where asked."""
    started = time.perf_counter()
    with database.read() as session:
        pin = references.resolve(session, reference.parse(ref))
        held = _content.files_of(session, pin.digest, pin.ref)
        wanted = recipe_of(session, pin)
        known = artifacts.realisations(session, wanted.digest, "adapter", "")
        warnings = revocations.warnings(session, pin.id)
    paths = _content.verified_paths(held, blobs, pin.ref)
    if out is not None:
        with new_folder(out) as staging:
            peft_folder(paths, staging, pin.base_model)
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
        report=reports(mine.report if mine else ()),
        differs=()
        if pin.recipe_digest is None
        else tuple(sorted({m.output_digest for m in known} - {pin.digest})),
        warnings=warnings,
    )
