"""Compose: pin an expression as a recipe, compute its adapter unless that is known, record the version."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from registry import evaluate, peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, revocations, versions, views
from registry.catalog.artifacts import Content, File, Realisation
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.catalog.versions import Draft
from registry.errors import UsageError
from registry.peft_format import StoredAdapter
from registry.recipe import Recipe
from registry.results import Composed, ModuleReport, Version
from registry.verbs import _content
from registry.verbs._grounds import Grounds, ground
from registry.verbs._once import alone
from registry.verbs._pinning import Plan, plan
from registry.verbs._text import check_device, check_tags, check_text

Progress = Callable[[str, int, int], None]
_SEED_BITS = 63
_HASHING = 4  # files at once
_COMMON_START = 0.9  # A's of one initialization stay this similar after training with a moderate step size


def compose(
    database: Database,
    blobs: BlobStore,
    name: str,
    text: str,
    *,
    rank: int | None,
    energy: str | float | None,
    dtype: str | None,
    seed: int,
    device: str,
    base_path: str | Path | None,
    task: str | None,
    tags: Mapping[str, str],
    note: str | None,
    actor: str,
    progress: Progress | None,
    license: str | None = None,  # noqa: A002  (the field's own word)
    rebuilt: Pin | None = None,
) -> Composed:
    reference.check_name(name)
    if seed.bit_length() > _SEED_BITS:
        raise UsageError(f"the seed {seed} is too large", hint="a seed is a signed 64-bit number")
    check_device(device)
    check_tags(tags)
    for what, value in (("task", task), ("note", note)):
        if value is not None:
            check_text(what, value)
    database.require("versions")

    def once() -> Composed:
        with database.read() as session:
            made = plan(session, text, rank=rank, energy=energy, dtype=dtype, seed=seed)
            versions.refuse_early(session, name, kind=made.stored_as, base=made.base_model)
            held = recorded(session, made)
        grounds: Grounds | None = None
        if base_path is not None:
            inputs = opened(blobs, made, held, computing=True)
            grounds = ground(inputs, made.labels, base_path, made.base_model)
            made = made.on(grounds)

        def record(realisation: Realisation, content: Content, *, cached: bool) -> Composed:
            draft = Draft(
                name=name,
                content=content,
                base_model=made.base_model,
                actor=actor,
                recipe=made.recipe,
                expression=made.expression,
                resolved=made.resolved,
                parents=made.edges(),
                followed=made.followed,
                task=made.task if task is None else task,
                tags=tags,
                license=license,
                note=note,
                rebuilt=rebuilt,
            )
            return write_version(database, blobs, draft, realisation, made, cached=cached)

        if (cached := _held(database, blobs, made.recipe)) is not None:
            return record(*cached, cached=True)
        with alone(database, f"the recipe {made.recipe.digest}", progress):
            if (cached := _held(database, blobs, made.recipe)) is not None:
                return record(*cached, cached=True)
            if grounds is None:
                inputs = opened(blobs, made, held, computing=True)
                grounds = ground(inputs, made.labels, None, made.base_model)
            computed = compute(blobs, made, grounds, device=device, progress=progress)
            return record(computed.realisation, computed.content, cached=False)

    return _content.again_if_swept(once)


def _held(database: Database, blobs: BlobStore, wanted: Recipe) -> tuple[Realisation, Content] | None:
    with database.read() as session:
        before = known(session, wanted)
    return usable(blobs, before)


def known(session: Session, wanted: Recipe) -> list[tuple[Realisation, Content]]:
    """What the recipe gave before, where its bytes are recorded. No tensor is read."""
    made = artifacts.realisations(session, wanted.digest, "adapter", "")
    loaded = [(each, artifacts.load(session, each.output_digest)) for each in made]
    return [(each, content) for each, content in loaded if content is not None and content.files]


def usable(blobs: BlobStore, found: list[tuple[Realisation, Content]]) -> tuple[Realisation, Content] | None:
    """The first output whose bytes are all intact; damaged ones are computed again, which mends them."""
    return next(((made, content) for made, content in found if _content.usable(blobs, content.files)), None)


class Computed(NamedTuple):
    """What a recipe gave, as it is to be recorded, and as it was written."""

    realisation: Realisation
    content: Content
    stored: StoredAdapter


def compute(
    blobs: BlobStore,
    made: Plan,
    grounds: Grounds,
    *,
    device: str,
    progress: Progress | None = None,
    like: StoredAdapter | None = None,
) -> Computed:
    """Evaluate the recipe and put its adapter into the blob store; nothing is recorded yet.

    ``like`` is what was computed before of a recipe that differs in numbers only, which saves time.
    """
    from registry.verbs._devices import device_of, libraries

    chosen, inputs = device_of(device), grounds.inputs
    started = time.perf_counter()
    computation = evaluate.prepare(made.recipe, inputs, device=chosen, labels=made.labels)
    report: list[dict[str, Any]] = []
    with blobs.stage() as stage:
        stored = peft_format.write(
            stage,
            kind=made.recipe.kind,
            modules=_watched(computation, report, progress),
            names=computation.modules,
            dtype=made.recipe.dtype,
            base_model=made.base_model,
            inputs_config=[inputs[digest].config for digest in made.recipe.inputs],
            base=grounds.values,
            like=like,
        )
        content = _content.store(blobs, stored, stage)
    realisation = Realisation(
        recipe_digest=made.recipe.digest,
        target="adapter",
        variant="",
        output_digest=content.digest,
        device=str(chosen),
        dtype=made.recipe.dtype,
        seed=made.recipe.seed,
        seconds=time.perf_counter() - started,
        libraries=libraries(),
        report=tuple(report),
    )
    return Computed(realisation, content, stored)


def recorded(session: Session, made: Plan) -> dict[str, dict[str, File]]:
    """The recorded files of the inputs, by digest."""
    return {digest: _content.files_of(session, digest, made.labels[digest]) for digest in made.recipe.inputs}


def opened(
    blobs: BlobStore, made: Plan, held: Mapping[str, Mapping[str, File]], *, computing: bool = False
) -> dict[str, StoredAdapter]:
    """The inputs by digest, every byte checked; where they are for ``computing``, torch is imported meanwhile."""
    with ThreadPoolExecutor(_HASHING) as pool:
        found = {
            digest: pool.submit(_content.open_adapter, blobs, files, made.labels[digest])
            for digest, files in held.items()
        }
        if computing:
            importlib.import_module("torch")
        return {digest: adapter.result() for digest, adapter in found.items()}


def write_version(
    database: Database, blobs: BlobStore, draft: Draft, realisation: Realisation, made: Plan, *, cached: bool
) -> Composed:
    def write(session: Session) -> tuple[Version, bool, list[Realisation], tuple[str, ...]]:
        row_id, created = versions.write(session, draft)
        artifacts.save_realisation(session, realisation)
        others = artifacts.realisations(session, made.recipe.digest, "adapter", "")
        _content.check_present(blobs, draft.content.files)
        session.flush()
        # An input may have been revoked while this was computed.
        return views.version(session, row_id), created, others, revocations.warnings(session, row_id)

    version, created, others, revoked = database.transact(write)
    report = tuple(ModuleReport(module=item["module"], values=item["values"]) for item in realisation.report)
    differing = sorted({other.output_digest for other in others} - {realisation.output_digest})
    warnings = [*made.warnings, *factor_warnings(report), *revoked]
    if created and any(pin.name == version.name for pin in made.pins):
        warnings.append(f"{version.name} is its own input, and from now on means {version.ref}")
    if differing:
        warnings.append(f"this recipe gave other outputs before: {', '.join(differing)}")
    return Composed(**dict(version), created=created, cached=cached, warnings=tuple(warnings), report=report)


def factor_warnings(report: tuple[ModuleReport, ...]) -> list[str]:
    cosines = [
        value for item in report for key, value in item.values.items() if key.split(".")[-1] == "init_cosine"
    ]
    if not cosines or min(cosines) >= _COMMON_START:
        return []
    start = f"the inputs' A factors do not look like one initialization (smallest cosine {min(cosines):.2f})"
    return [f"{start}: cross terms distort factors(...); the exact sum does not have them"]


def _watched(
    computation: evaluate.Computation, report: list[dict[str, Any]], progress: Progress | None
) -> Any:
    total = len(computation.modules)
    for done, item in enumerate(computation, start=1):
        if item.report:
            report.append({"module": item.module, "values": dict(item.report)})
        yield item
        if progress is not None:
            progress("composing", done, total)
