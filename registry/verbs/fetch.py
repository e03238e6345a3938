"""Fetch: the bytes of versions that are only known, from where they were published or by their recipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from registry import hub, peft_format, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, views
from registry.catalog.artifacts import Content, Realisation
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.catalog.references import Pin
from registry.errors import HubFailure, IntegrityFailure, NotFound, NotHeld
from registry.peft_format import CONFIG, TENSORS, StoredAdapter
from registry.results import Fetched, Version
from registry.verbs import _content
from registry.verbs._again import computed
from registry.verbs._once import alone
from registry.verbs._recipes import Job, job, told_recipe
from registry.verbs._text import check_device

RECIPE = "its recipe"


@dataclass(frozen=True)
class _Wanted:
    """A version, how it is shown, its bytes if they are here, and what it takes to compute it, where all that is here."""

    pin: Pin
    version: Version
    size: int | None
    job: Job | None


def fetch(
    database: Database,
    blobs: BlobStore,
    refs: Sequence[str],
    *,
    device: str,
    base_path: str | Path | None,
    actor: str,
) -> tuple[Fetched, ...]:
    check_device(device)
    with database.read() as session:
        pins = [references.resolve(session, reference.parse(ref)) for ref in refs]
    database.require("artifact_files")
    one = _One(database, blobs, device, base_path, actor)
    return tuple(
        _content.again_if_swept(partial(one.fetch, pin)) for pin in {pin.id: pin for pin in pins}.values()
    )


@dataclass(frozen=True)
class _One:
    database: Database
    blobs: BlobStore
    device: str
    base_path: str | Path | None
    actor: str

    def fetch(self, pin: Pin) -> Fetched:
        with self.database.read() as session:
            wanted = _look(session, pin)
        source = wanted.version.source or ""
        if wanted.size is not None:
            return self._there(pin, wanted.size, source)
        if source.startswith(hub.SCHEME):
            try:
                return self._from_hub(pin, source)
            except (NotFound, HubFailure):
                if wanted.job is None:
                    raise
        if wanted.job is None:
            raise self._nowhere(wanted)
        with alone(self.database, f"the recipe {wanted.job.recipe.digest}"):
            with self.database.read() as session:
                again = _look(session, pin)
            return self._from_recipe(pin, wanted.job) if again.size is None else self._there(pin, again.size)

    def _there(self, pin: Pin, size: int, source: str = "") -> Fetched:
        said = source if source.startswith(hub.SCHEME) else "this catalog"
        return Fetched(ref=pin.ref, digest=pin.digest, source=said, size=size, changed=False)

    def _from_hub(self, pin: Pin, source: str) -> Fetched:
        fetched = hub.fetch_adapter(*hub.parse(source))
        with self.blobs.stage() as stage:
            _content.copy_files({name: fetched.folder / name for name in (CONFIG, TENSORS)}, stage)
            stored = peft_format.open_files(stage / CONFIG, stage / TENSORS)
            if stored.digest != pin.digest:
                raise IntegrityFailure(
                    f"{source} holds the content {stored.digest}, not {pin.digest}, which {pin.ref} is told to be",
                    hint=f"what was told of {pin.ref} is wrong; see: registry show {pin.ref}",
                )
            return self._keep(pin, _content.store(self.blobs, stored, stage), source)

    def _from_recipe(self, pin: Pin, made: Job) -> Fetched:
        started = time.perf_counter()
        again = computed(
            self.blobs,
            made.recipe,
            made.open(self.blobs),
            made.labels,
            base_model=pin.base_model,
            base_path=self.base_path,
            device=self.device,
        )
        with again as found:
            stored: StoredAdapter = found.stored
            if stored.digest != pin.digest:
                raise IntegrityFailure(
                    f"the recipe of {pin.ref} gives {stored.digest} here, not {pin.digest}, which it is told to be",
                    hint="another device or another library version gives other bytes; compose it under another name",
                )
            content = _content.store(self.blobs, stored, found.folder)
        from registry.verbs._devices import libraries

        realisation = Realisation(
            recipe_digest=made.recipe.digest,
            target="adapter",
            variant="",
            output_digest=content.digest,
            device=found.device,
            dtype=made.recipe.dtype,
            seed=made.recipe.seed,
            seconds=time.perf_counter() - started,
            libraries=libraries(),
        )
        return self._keep(pin, content, RECIPE, realisation)

    def _keep(self, pin: Pin, content: Content, source: str, made: Realisation | None = None) -> Fetched:
        def write(session: Session) -> bool:
            references.locked(session, pin)
            changed = artifacts.hold(session, content)
            if made is not None:
                artifacts.save_realisation(session, made)
            _content.check_present(self.blobs, content.files)
            if changed:
                record(session, self.actor, "fetch", pin.ref, digest=pin.digest, source=source)
            return changed

        changed = self.database.transact(write)
        return Fetched(ref=pin.ref, digest=pin.digest, source=source, size=content.size, changed=changed)

    def _nowhere(self, wanted: _Wanted) -> NotFound:
        pin = wanted.pin
        if pin.recipe_digest is None:
            return NotFound(
                f"it is not known where the bytes of {pin.ref} can be had",
                hint=f"add them: registry add DIR {pin.name}",
            )
        with self.database.read() as session:
            inputs = views.version(session, pin.id).parents
            missing = [
                each.ref
                for each in inputs
                if each.relation == "input" and not artifacts.files(session, each.digest)
            ]
        return NotFound(
            f"{pin.ref} is published nowhere, and its recipe needs {', '.join(missing)}, which is not held",
            hint=f"get that first: registry fetch {' '.join(missing)}",
        )


def _look(session: Session, pin: Pin) -> _Wanted:
    version = views.version(session, pin.id)
    files = artifacts.files(session, pin.digest)
    size = sum(file.size for file in files.values()) if files else None
    made = None
    if not files and pin.recipe_digest is not None:
        with suppress(NotHeld):
            made = job(session, pin, told_recipe(session, pin))
            made = made if all(made.files.values()) else None
    return _Wanted(pin, version, size, made)
