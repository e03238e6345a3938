"""Good copies of damaged or missing blobs: from another store, the Hub, or their recipe; each checked by its digest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy.orm import Session

from registry.blobs import BlobStore, Room, open_store
from registry.blobs.local import LocalBlobStore
from registry.catalog import artifacts, bundle_check, damaged
from registry.catalog.bundle_lines import BlobLine
from registry.catalog.damaged import Holder
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.errors import HubUnavailable, RegistryError, UsageError
from registry.settings import Settings
from registry.verbs import _backup_file, _container, _content
from registry.verbs._again import computed
from registry.verbs._recipes import job, told_recipe


class Source(Protocol):
    """Where a good copy may be."""

    def copy(self, digest: str, into: Path) -> bool:
        """Write the blob to a new file, as far as it is there; the caller checks what it is."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Store:
    blobs: BlobStore

    def copy(self, digest: str, into: Path) -> bool:
        with suppress(RegistryError):
            _content.copy_files({into.name: self.blobs.path(digest)}, into.parent)
            return True
        return False


@dataclass(frozen=True)
class _Bundle:
    bundle: _container.Bundle
    places: dict[str, tuple[int, int]]

    def copy(self, digest: str, into: Path) -> bool:
        if digest not in self.places:
            return False
        with suppress(RegistryError):
            self.bundle.copy(digest, *self.places[digest], into)
            return True
        return False


@dataclass
class Healer:
    """Puts damaged blobs aside, and good copies in their places.

    ``places`` are searched first, in their order; then the copy of a blob that is kept elsewhere, what was put aside
    before, the Hub, and the recipes.
    """

    database: Database
    blobs: BlobStore
    places: Sequence[tuple[str, Source]]
    base_path: str | Path | None
    actor: str
    tried: dict[str, str] = field(default_factory=dict)
    """By digest: where the good copy came from, '' where there was none."""
    aside: set[str] = field(default_factory=set)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """By digest: what came close."""
    away: bool = False
    """Whether the Hub was out of reach: asking again for each of many files would take half a minute each."""

    def heal(self, digest: str) -> str:
        """Where a good copy came from that is in place now; '' where there is none, and the blob is put aside."""
        if digest not in self.tried:
            if self._put_aside(digest):
                self.aside.add(digest)
            self.tried[digest] = self._replaced(digest)
        return self.tried[digest]

    def _put_aside(self, digest: str) -> bool:
        def move(session: Session) -> bool:
            artifacts.exclude_writers(session)
            moved = self.blobs.quarantine(digest)
            if moved:
                refs = [each.pin.ref for each in damaged.holders(session, digest)]
                record(session, self.actor, "quarantine", digest, versions=refs[:100])
            return moved

        return self.database.transact(move)

    def _replaced(self, digest: str) -> str:
        if self.blobs.intact(digest):  # somebody else put it there meanwhile
            return "another writer"
        with self.blobs.stage() as stage:
            for number, (name, copy) in enumerate(self._copies(digest)):
                file = stage / f"copy{number}"
                try:
                    found = copy(file) and _content.sha256(file) == digest
                except RegistryError as error:
                    self.notes.setdefault(digest, []).append(f"not from {name}: {error.message}")
                    continue
                if not found:
                    continue
                self.blobs.put(file, digest)
                self.database.transact(partial(self._tell, digest=digest, source=name))
                return name
        return ""

    def _tell(self, session: Session, *, digest: str, source: str) -> None:
        record(session, self.actor, "heal", digest, source=source)

    def _copies(self, digest: str) -> Iterator[tuple[str, Callable[[Path], bool]]]:
        for name, source in self.places:
            yield name, partial(source.copy, digest)
        # Of a store that is elsewhere; where it is here, it has just been put aside.
        yield "the copy on this machine", partial(_Store(self.blobs).copy, digest)
        for name, is_of, _ in self.blobs.quarantined():
            if is_of == digest:  # whole after all, where somebody was stopped halfway
                yield "quarantine", partial(self._from_aside, name)
        with self.database.read() as session:
            holders = damaged.holders(session, digest)
        for holder in holders:
            for repo, commit, path in holder.places:
                yield f"hf://{repo}@{commit}", partial(self._from_hub, repo, commit, path)
        for holder in holders:
            if holder.pin.recipe_digest is not None:
                yield f"the recipe of {holder.pin.ref}", partial(self._from_recipe, holder, digest)

    def _from_aside(self, name: str, into: Path) -> bool:
        self.blobs.copy_of_quarantined(name, into)
        return True

    def _from_hub(self, repo: str, commit: str, path: str, into: Path) -> bool:
        if self.away:
            raise HubUnavailable("not asked again, as the Hub is out of reach")
        from registry import hub

        folder = into.parent / f"{into.name}.hub"
        try:
            hub.fetch_file(repo, commit, path, folder).replace(into)
        except HubUnavailable:
            self.away = True
            raise
        return True

    def _from_recipe(self, holder: Holder, digest: str, into: Path) -> bool:
        """Only what has the very same bytes is a copy; what comes close is said, and not kept."""
        pin = holder.pin
        with self.database.read() as session:
            made = job(session, pin, told_recipe(session, pin))
            first = artifacts.first_realisation(session, pin.digest, "adapter")
            names = [
                name for name, file in artifacts.files(session, pin.digest).items() if file.digest == digest
            ]
        for inputs in made.files.values():  # which may be damaged as well
            for file in inputs.values():
                if not whole(self.blobs, file.digest):
                    self.heal(file.digest)
        device = "cpu" if first is not None and first.device == "cpu" else "auto"
        again = computed(
            self.blobs,
            made.recipe,
            made.open(self.blobs),
            made.labels,
            base_model=pin.base_model,
            base_path=self.base_path,
            device=device,
        )
        with again as found:
            for name in names:
                if _content.sha256(found.folder / name) == digest:
                    (found.folder / name).replace(into)
                    return True
            if found.stored.digest != pin.digest:
                said = "gives other bytes here: compare them with registry verify --rebuild"
                self.notes.setdefault(digest, []).append(f"the recipe of {pin.ref} {said}")
        return False


@contextmanager
def healer(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    given: Iterable[str | Path],
    base_path: str | Path | None,
    *,
    repair: bool,
) -> Iterator[Healer | None]:
    """Who heals, for as long as the block runs; nobody without ``repair``. Raises ``UsageError`` for an odd source."""
    given = list(given)
    if not repair:
        if given:
            raise UsageError("there is nothing to take good copies for", hint="say --repair as well")
        yield None
        return
    with ExitStack() as stack:
        places = _sources(stack, given, settings.room)
        yield Healer(database, blobs, places, base_path, settings.actor)


def whole(blobs: BlobStore, digest: str) -> bool:
    """Whether a blob is there, every byte of it read."""
    with suppress(RegistryError):
        blobs.recheck(digest)
        if _content.sha256(blobs.path(digest)) == digest:
            return True
        blobs.forget(digest)  # a copy may be damaged where the blob is whole
        return _content.sha256(blobs.path(digest)) == digest
    return False


def _sources(stack: ExitStack, given: Iterable[str | Path], room: Room | None) -> list[tuple[str, Source]]:
    """What ``given`` names: other stores, homes of catalogs, backups, bundles. Raises ``UsageError`` for anything else."""
    return [(str(each), _source(stack, str(each), room)) for each in given]


def _source(stack: ExitStack, given: str, room: Room | None) -> Source:
    if "://" in given:
        return _Store(open_store(given, room))
    path = Path(given).expanduser().absolute()
    if path.is_file():
        bundle, sizes = _opened(stack, path)
        if not bundle.manifest.blobs:
            raise UsageError(
                f"{os.fspath(path)} was written without bytes",
                hint="give one that has them, or the blob store that was copied beside it",
            )
        places = {blob: (size, start) for blob, size, start in bundle.blobs(sizes)}
        return _Bundle(bundle, places)
    for folder in (path, path / "blobs"):
        if (folder / "sha256").is_dir():
            return _Store(LocalBlobStore(folder))  # not opened: nothing is made in somebody else's folder
    raise UsageError(
        f"{os.fspath(path)} is neither a blob store, nor a catalog's home, nor a backup or bundle",
        hint="give a folder with sha256/ in it, s3://bucket/prefix, or what registry backup or export wrote",
    )


def _opened(stack: ExitStack, path: Path) -> tuple[_container.Bundle, Iterator[tuple[str, int]]]:
    """A backup or a bundle, with digest and size of each of its blobs in their order."""
    if _container.begins_with(path, _backup_file.BACKUP):
        backup, _ = stack.enter_context(_backup_file.open_backup(path))
        return backup, _backup_file.blobs(backup)
    bundle = stack.enter_context(_container.open_bundle(path))
    return bundle, ((line.digest, line.size) for _, line in bundle_check.parse("blobs", BlobLine, bundle))
