"""Verify: stored bytes are what was recorded, and recipes still give what they gave."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import digest, evaluate, peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, VersionRow
from registry.errors import RegistryError
from registry.reference import Reference
from registry.results import Verification
from registry.verbs import _content
from registry.verbs.materialize import inputs_of, recipe_of


def verify(
    database: Database, blobs: BlobStore, refs: Sequence[str], *, rebuild: bool
) -> tuple[Verification, ...]:
    """Check the given versions, or all live ones; nothing is raised for damage, it is reported."""
    with database.read() as session:
        wanted = [reference.parse(ref) for ref in refs] or _all_live(session)
        return tuple(_verify(session, blobs, references.resolve(session, ref), rebuild=rebuild) for ref in wanted)


def _verify(session: Session, blobs: BlobStore, pin: Pin, *, rebuild: bool) -> Verification:
    problems: list[str] = []
    rebuilt = None
    try:
        stored = _content.open_adapter(session, blobs, pin.digest, pin.ref)
        digest.check(f"the content of {pin.ref}", expected=pin.digest, found=stored.digest)
    except RegistryError as error:
        problems.append(error.message)
    if pin.recipe_digest is not None:
        try:
            recipe_of(session, pin)
            if rebuild:
                rebuilt = _rebuild(session, blobs, pin)
        except RegistryError as error:
            problems.append(error.message)
    if rebuilt is not None and rebuilt != pin.digest:
        problems.append(_difference(session, pin, rebuilt))
    return Verification(ref=pin.ref, digest=pin.digest, ok=not problems, problems=tuple(problems), rebuilt=rebuilt)


def _rebuild(session: Session, blobs: BlobStore, pin: Pin) -> str:
    """The digest that computing the recipe again gives; nothing is kept."""
    from registry.verbs._devices import device_of

    wanted = recipe_of(session, pin)
    inputs, labels = inputs_of(session, blobs, pin, wanted)
    made = _made_by(session, pin)
    device = device_of(made.device if made is not None and made.device == "cpu" else "auto")
    with blobs.stage() as stage:
        stored = peft_format.write(
            stage,
            kind=wanted.kind,
            modules=evaluate.prepare(wanted, inputs, device=device, labels=labels),
            dtype=wanted.dtype,
            base_model=pin.base_model,
            inputs_config=[inputs[digest].config for digest in wanted.inputs],
        )
        return stored.digest


def _difference(session: Session, pin: Pin, rebuilt: str) -> str:
    """Say which of the things a result may depend on is not what it was."""
    from registry.verbs._devices import libraries

    made = _made_by(session, pin)
    then, today = (made.libraries if made is not None else {}), libraries()
    changed = [f"{name} was {then[name]}, is {today[name]}" for name in today if name in then and then[name] != today[name]]
    why = f" ({'; '.join(changed)})" if changed else " with the same library versions"
    return f"rebuilding {pin.ref} gave {rebuilt}, not {pin.digest}{why}"


def _made_by(session: Session, pin: Pin) -> artifacts.Realisation | None:
    known = artifacts.realisations(session, pin.recipe_digest or "", "adapter", "")
    return next((made for made in known if made.output_digest == pin.digest), None)


def _all_live(session: Session) -> list[Reference]:
    statement = (
        select(AdapterRow.name, VersionRow.number)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.id)
    )
    return [Reference(name=name, version=number) for name, number in session.execute(statement).tuples()]
