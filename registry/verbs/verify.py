"""Verify: stored bytes are what was recorded, and recipes still give what they gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import digest, evaluate, peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references
from registry.catalog.artifacts import File, Realisation
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, VersionRow
from registry.errors import IntegrityFailure, RegistryError
from registry.reference import Reference
from registry.results import Verification
from registry.verbs import _content
from registry.verbs._recipes import Job, job_of


@dataclass(frozen=True)
class _Target:
    """A version to check, with everything the catalog says of it."""

    pin: Pin
    files: Mapping[str, File]
    job: Job | None
    made: Realisation | None
    problems: tuple[str, ...]


def verify(
    database: Database, blobs: BlobStore, refs: Sequence[str], *, rebuild: bool
) -> tuple[Verification, ...]:
    """Check the given versions, or all live ones; nothing is raised for damage, it is reported."""
    with database.read() as session:
        wanted = [reference.parse(ref) for ref in refs] or _all_live(session)
        targets = [_target(session, references.resolve(session, ref)) for ref in wanted]
    return tuple(_verify(blobs, target, rebuild=rebuild) for target in targets)


def _target(session: Session, pin: Pin) -> _Target:
    files = artifacts.files(session, pin.digest)
    if pin.recipe_digest is None:
        return _Target(pin, files, None, None, ())
    known = artifacts.realisations(session, pin.recipe_digest, "adapter", "")
    made = next((made for made in known if made.output_digest == pin.digest), None)
    try:
        return _Target(pin, files, job_of(session, pin), made, ())
    except IntegrityFailure as error:
        return _Target(pin, files, None, made, (error.message,))


def _verify(blobs: BlobStore, target: _Target, *, rebuild: bool) -> Verification:
    pin, problems, rebuilt = target.pin, list(target.problems), None
    try:
        stored = _content.open_adapter(blobs, target.files, pin.ref)
        digest.check(f"the content of {pin.ref}", expected=pin.digest, found=stored.digest)
    except RegistryError as error:
        problems.append(error.message)
    if rebuild and target.job is not None:
        try:
            rebuilt = _rebuild(blobs, target.job, target.made)
        except RegistryError as error:
            problems.append(error.message)
    if rebuilt is not None and rebuilt != pin.digest:
        problems.append(_difference(target, rebuilt))
    return Verification(
        ref=pin.ref, digest=pin.digest, ok=not problems, problems=tuple(problems), rebuilt=rebuilt
    )


def _rebuild(blobs: BlobStore, job: Job, made: Realisation | None) -> str:
    """The digest that computing the recipe again gives; nothing is kept."""
    from registry.verbs._devices import device_of

    inputs = job.open(blobs)
    device = device_of("cpu" if made is not None and made.device == "cpu" else "auto")
    with blobs.stage() as stage:
        stored = peft_format.write(
            stage,
            kind=job.recipe.kind,
            modules=evaluate.prepare(job.recipe, inputs, device=device, labels=job.labels),
            dtype=job.recipe.dtype,
            base_model=job.pin.base_model,
            inputs_config=[inputs[digest].config for digest in job.recipe.inputs],
        )
        return stored.digest


def _difference(target: _Target, rebuilt: str) -> str:
    """Say which of the things a result may depend on is not what it was."""
    from registry.verbs._devices import libraries

    then, today = (target.made.libraries if target.made is not None else {}), libraries()
    changed = [
        f"{name} was {then[name]}, is {today[name]}"
        for name in today
        if then.get(name, today[name]) != today[name]
    ]
    why = f" ({'; '.join(changed)})" if changed else " with the same library versions"
    return f"rebuilding {target.pin.ref} gave {rebuilt}, not {target.pin.digest}{why}"


def _all_live(session: Session) -> list[Reference]:
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.id)
    )
    return [Reference(name=name, version=number) for name, number in session.execute(statement)]
