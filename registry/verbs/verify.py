"""Verify: stored bytes are what was recorded, and recipes still give what they gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from registry import digest, reference
from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, search, views
from registry.catalog.artifacts import Content, File, Realisation
from registry.catalog.database import Database, chunked
from registry.catalog.references import Pin
from registry.checkpoint import BaseCheckpoint
from registry.errors import IntegrityFailure, NotFound, NotHeld, RegistryError, UsageError
from registry.peft_format import StoredAdapter
from registry.reference import Reference
from registry.results import Verification
from registry.verbs import _content, _recipes, _rot
from registry.verbs._again import Again, computed
from registry.verbs._grounds import on_base
from registry.verbs._healing import Healer, whole
from registry.verbs._recipes import Job, recipe_of, told_recipe

_HUB = "hf://"

TOLERANCE = 1e-5
"""Largest relative change of a module's delta, in the Frobenius norm, that another device or library may make."""


@dataclass(frozen=True)
class _Target:
    """A version to check, with everything the catalog says of it."""

    pin: Pin
    files: Mapping[str, File]
    job: Job | None
    made: Realisation | None
    models: Sequence[Content]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


_Told = _Target | Verification | None
"""What the catalog says of a version: also that its rows are damaged, or that it is not there any more."""


@dataclass(frozen=True)
class _How:
    """Whether recipes are computed again, and with which base model."""

    rebuild: bool
    base_path: str | Path | None


@dataclass(frozen=True)
class _Rebuilt:
    """What computing a recipe again gave: its digest, and how far it is from the stored adapter if not equal."""

    digest: str
    error: float | None
    mended: bool


def verify(
    database: Database,
    blobs: BlobStore,
    refs: Sequence[str],
    *,
    rebuild: bool,
    base_path: str | Path | None = None,
    key: str | Path | None = None,
    healer: Healer | None = None,
) -> tuple[Verification, ...]:
    """Check the given versions, or all live ones; nothing is raised for damage, it is reported.

    What begins with ``hf://`` is a repo on the Hub, whose signature is verified with ``key``. A ``healer`` replaces bytes
    that are damaged or missing.
    """
    if key is not None and not any(ref.startswith(_HUB) for ref in refs):
        raise UsageError(
            "a key verifies the signature of a repo", hint="name one: hf://OWNER/REPO[@REVISION]"
        )
    how = _How(rebuild, base_path)
    if not refs:
        return tuple(_all(database, blobs, how, healer))
    with database.read() as session:
        named = [reference.parse(ref) for ref in refs if not ref.startswith(_HUB)]
        targets = [_target(session, references.resolve(session, ref), rows=True) for ref in named]

    def again(ref: Reference) -> _Target:
        with database.read() as session:
            return _target(session, references.resolve(session, ref), rows=True)

    own = filter(
        None,
        (
            _checked(blobs, how, healer, target, partial(again, ref))
            for ref, target in zip(named, targets, strict=True)
        ),
    )
    from registry.verbs import _verify_hub

    ways = _verify_hub.Ways(rebuild, base_path, None if key is None else expanded(key))
    return tuple(
        _verify_hub.verify(database, blobs, ref, ways) if ref.startswith(_HUB) else next(own) for ref in refs
    )


def _all(database: Database, blobs: BlobStore, how: _How, healer: Healer | None) -> Iterator[Verification]:
    """Every live version, some at a time; one whose rows are damaged keeps no other from being checked."""

    def told(session: Session, ref: Reference) -> _Told:
        try:
            return _target(session, references.resolve(session, ref), rows=False)
        except (RegistryError, ValueError, LookupError, TypeError) as error:
            if isinstance(error, NotFound) and not search.is_live(session, ref):
                return None  # deleted, and perhaps collected, meanwhile
            problem = f"its rows cannot be read: {' '.join(str(error).split())[:200]}"
            return Verification(ref=str(ref), digest="", ok=False, problems=(problem,))

    def again(ref: Reference) -> _Told:
        with database.read() as session:
            return told(session, ref)

    with database.read() as session:
        live = search.live(session)
    for some in chunked(live):
        with database.read() as session:
            targets = [(ref, told(session, ref)) for ref in some]
        for ref, target in targets:
            found = _checked(blobs, how, healer, target, partial(again, ref))
            if found is not None:
                yield found


def _checked(
    blobs: BlobStore, how: _How, healer: Healer | None, told: _Told, again: Callable[[], _Told]
) -> Verification | None:
    """What was found of a version as the catalog tells of it, which may have changed meanwhile."""
    while isinstance(told, _Target):
        target, found = told, _verify(blobs, told, how)
        if found.ok or (told := again()) == target:
            return found if healer is None else _healed(blobs, target, how, healer, found)
    return told


def _healed(
    blobs: BlobStore, target: _Target, how: _How, healer: Healer, found: Verification
) -> Verification:
    """What was found of a version, and found once more where some of it could be healed."""
    owned = (target.files, *(model.files for model in target.models))
    digests = list({file.digest: None for files in owned for file in files.values()})
    bad = [] if found.ok else [digest for digest in digests if not whole(blobs, digest)]
    for each in bad:
        healer.heal(each)
    again = _verify(blobs, target, how) if bad else found
    # What was healed for another version that shares it is told here as well.
    return again.model_copy(
        update={
            "quarantined": tuple(digest for digest in digests if digest in healer.aside),
            "healed": {digest: source for digest in digests if (source := healer.tried.get(digest))},
            "notes": (*again.notes, *(note for digest in bad for note in healer.notes.get(digest, ()))),
        }
    )


def _target(session: Session, pin: Pin, *, rows: bool) -> _Target:
    damage = _rot.problems_of(session, pin.id) if rows else ()
    found = _found(session, pin)
    return replace(found, problems=(*damage, *found.problems)) if damage else found


def _found(session: Session, pin: Pin) -> _Target:
    files = artifacts.files(session, pin.digest)
    if not files and pin.origin is not None:
        place = views.version(session, pin.id).source or pin.origin
        return _Target(pin, files, None, None, (), (), (f"not held: it is known only from {place}",))
    try:
        models = artifacts.models(session, recipe_of(session, pin).digest)
        if pin.recipe_digest is None:
            return _Target(pin, files, None, None, models, ())
        job, notes = _job(session, pin)
    except IntegrityFailure as error:
        return _Target(pin, files, None, None, (), (error.message,))
    known = artifacts.realisations(session, pin.recipe_digest, "adapter", "")
    made = next((made for made in known if made.output_digest == pin.digest), None)
    return _Target(pin, files, job, made, models, (), notes)


def _job(session: Session, pin: Pin) -> tuple[Job | None, tuple[str, ...]]:
    """What it takes to compute a version's recipe, whoever tells of it, where all of its inputs are here."""
    try:
        return _recipes.job(session, pin, told_recipe(session, pin)), ()
    except NotHeld as error:
        return None, (f"not rebuilt: {error.message}",)


def _verify(blobs: BlobStore, target: _Target, how: _How) -> Verification:
    pin, problems, rebuilt = target.pin, list(target.problems), None
    stored: StoredAdapter | None = None
    if not target.files and target.notes:
        return Verification(ref=pin.ref, digest=pin.digest, ok=True, notes=target.notes)
    try:
        stored = _content.open_adapter(blobs, target.files, pin.ref, recheck=True)
        digest.check(f"the content of {pin.ref}", expected=pin.digest, found=stored.digest)
    except RegistryError as error:
        problems.append(error.message)
        stored = None
    if how.rebuild and target.job is not None:
        try:
            rebuilt = _rebuild(blobs, target.job, target, stored, how.base_path)
            problems = [] if rebuilt.mended else problems
            problems += _objections(target, rebuilt)
        except RegistryError as error:
            problems.append(error.message)
    problems += [
        f"the merged model {model.digest} of {pin.ref} is damaged; materialize it again to replace it"
        for model in target.models
        if not _content.whole(blobs, model.files)
    ]
    return Verification(
        ref=pin.ref,
        digest=pin.digest,
        ok=not problems,
        problems=tuple(problems),
        rebuilt=None if rebuilt is None else rebuilt.digest,
        error=None if rebuilt is None else rebuilt.error,
        mended=rebuilt is not None and rebuilt.mended,
        notes=target.notes if how.rebuild else (),
    )


def _rebuild(
    blobs: BlobStore,
    job: Job,
    target: _Target,
    stored: StoredAdapter | None,
    base_path: str | Path | None,
) -> _Rebuilt:
    """Compute a recipe again; what it gives replaces stored bytes that are damaged, and else is not kept."""
    inputs = job.open(blobs)
    device = "cpu" if target.made is not None and target.made.device == "cpu" else "auto"
    again = computed(
        blobs,
        job.recipe,
        inputs,
        job.labels,
        base_model=job.pin.base_model,
        base_path=base_path,
        device=device,
    )
    with again as made:
        found = made.stored.digest
        if found == job.pin.digest:
            same = {name: _content.sha256(made.folder / name) for name in target.files}
            mend = stored is None and all(same[name] == file.digest for name, file in target.files.items())
            if mend:
                _content.put(blobs, made.folder, target.files)
            return _Rebuilt(found, None, mend)
        error = None if stored is None else distance(stored, made)
        return _Rebuilt(found, error, mended=False)


def distance(stored: StoredAdapter, made: Again) -> float:
    """How far an adapter is from what its recipe gave: the largest relative change of a module's delta."""
    if made.grounds.base is None:
        return _distance(stored, made.stored)
    return _distance(*_both_on(made.grounds.base, stored, made.stored).values())


def _both_on(
    base: BaseCheckpoint, stored: StoredAdapter, again: StoredAdapter
) -> Mapping[str, StoredAdapter]:
    return on_base({"stored": stored, "again": again}, base).inputs


def _distance(stored: StoredAdapter, again: StoredAdapter) -> float:
    """The largest relative change over all modules; infinite where they do not have the same modules."""
    from registry import deltas

    if stored.layout.modules.keys() != again.layout.modules.keys():
        return math.inf
    changes = [
        deltas.compare(stored.delta(name), again.delta(name)).relative for name in stored.layout.modules
    ]
    return max((change for change in changes if change is not None), default=0.0)


def _objections(target: _Target, rebuilt: _Rebuilt) -> list[str]:
    """What is wrong with a rebuild: other bytes, unless device or libraries differ and the change is small."""
    if rebuilt.digest == target.pin.digest:
        return []
    changed = _changed(target)
    if changed and rebuilt.error is not None and rebuilt.error <= TOLERANCE:
        return []
    why = f" ({'; '.join(changed)})" if changed else " on the same device with the same library versions"
    far = (
        ""
        if rebuilt.error is None
        else f", a relative change of {rebuilt.error:.1e} where {TOLERANCE:.0e} is allowed"
    )
    return [f"rebuilding {target.pin.ref} gave {rebuilt.digest}, not {target.pin.digest}{why}{far}"]


def _changed(target: _Target) -> list[str]:
    """Which of the things a result may depend on are not what they were."""
    from registry.verbs._devices import device_of, libraries

    if target.made is None:
        return [] if target.pin.origin is None else ["it was computed elsewhere"]
    then, today = target.made.libraries, libraries()
    changed = [
        f"{name} was {then[name]}, is {today[name]}"
        for name in today
        if then.get(name, today[name]) != today[name]
    ]
    device = str(device_of("cpu" if target.made.device == "cpu" else "auto"))
    if device != target.made.device:
        changed.insert(0, f"it was computed on {target.made.device}, this is {device}")
    return changed
