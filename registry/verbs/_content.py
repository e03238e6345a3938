"""Moving an adapter's bytes between folders, the blob store and the catalog's records."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy.orm import Session

from registry import digest, peft_format
from registry.blobs import BlobStore, Missing
from registry.catalog import artifacts, origins
from registry.catalog.artifacts import Content, File
from registry.errors import IntegrityFailure, NotHeld, StorageFailure
from registry.peft_format import StoredAdapter

P = ParamSpec("P")
T = TypeVar("T")
_CHUNK = 1 << 20
_AT_ONCE = 4  # files read at once: those of a store elsewhere are fetched
_MISSES = 2  # lookups in a row that find what is missing then
_ATTEMPTS = 10  # each lost to another collection: more than any sane number of them at once


class Swept(StorageFailure):
    """A garbage collection took a blob between its storing and its recording; doing both again mends it."""


def store(blobs: BlobStore, stored: StoredAdapter, stage: Path) -> Content:
    """Move a staged adapter into the blob store; returns what is to be recorded of it."""
    content = stored.digest  # reads the tensors, so it comes before they move
    seen = {} if stored.written is None else {peft_format.TENSORS: digest.PREFIX + stored.written.sha256}
    files = put(blobs, stage, (peft_format.CONFIG, peft_format.TENSORS), digests=seen)
    return described(stored, content, files)


def described(stored: StoredAdapter, content: str, files: Mapping[str, File]) -> Content:
    """What is recorded of an adapter with this content digest, in these files."""
    return Content(
        digest=content,
        target="adapter",
        kind=stored.kind,
        rank=stored.rank,
        parameters=stored.parameters,
        modules=len(stored.layout.modules),
        dtype=stored.dtype,
        size=sum(file.size for file in files.values()),
        files=files,
        not_composable=stored.layout.blockers,
    )


def put(
    blobs: BlobStore, folder: Path, names: Iterable[str], *, digests: Mapping[str, str] | None = None
) -> dict[str, File]:
    """Move staged files into the blob store; ``digests`` has those that are known already."""
    files: dict[str, File] = {}
    for name in names:
        file = folder / name
        known = None if digests is None else digests.get(name)
        files[name] = File(known or sha256(file), file.stat().st_size)
    blobs.put_many({made.digest: folder / name for name, made in files.items()})
    return files


def files_of(session: Session, content: str, label: str) -> dict[str, File]:
    """The recorded files of the content that ``label`` has, which is needed now.

    Raises ``NotHeld`` where it is only known from somewhere else; empty where its bytes got lost.
    """
    files = artifacts.files(session, content)
    if not files and (known := origins.place_of(session, content)) is not None:
        ref, place = known
        raise NotHeld(
            f"{label} is known only from {place}: its bytes are not here",
            hint=f"get it: registry fetch {ref}",
        )
    return files


def check_present(blobs: BlobStore, files: Mapping[str, File]) -> None:
    """Inside the transaction that records them: the bytes are still there. Raises ``Swept``."""
    for name, file in files.items():
        if not blobs.has(file.digest):
            raise Swept(f"{name} was removed by a garbage collection meanwhile", hint="run the command again")


def again_if_swept(work: Callable[[], T]) -> T:
    """Run ``work``, and again if a garbage collection came in between.

    What is missing may belong to a version that was deleted since it was looked up: then it is not found any more. What
    is lost is missing again.
    """
    missed = 0
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except Swept:
            pass
        except (Missing, StorageFailure) as error:
            missed += 1
            if missed == _MISSES or not (isinstance(error, Missing) or _vanished(error)):
                raise
    return work()


def unless_swept(verb: Callable[P, T]) -> Callable[P, T]:
    """A verb that is done again if a garbage collection comes in between."""

    @wraps(verb)
    def again(*arguments: P.args, **named: P.kwargs) -> T:
        return again_if_swept(partial(verb, *arguments, **named))

    return again


def _vanished(error: StorageFailure) -> bool:
    return isinstance(error.__cause__, FileNotFoundError)


def open_adapter(
    blobs: BlobStore, files: Mapping[str, File], label: str, *, recheck: bool = False
) -> StoredAdapter:
    """An adapter from the blob store, every byte checked against its recorded digest.

    With ``recheck`` also where the store is elsewhere, and a copy at hand. Raises ``IntegrityFailure`` for bytes that
    are missing or damaged.
    """
    for file in files.values() if recheck else ():
        blobs.recheck(file.digest)
    paths = verified_paths(files, blobs, label)
    for name in (peft_format.CONFIG, peft_format.TENSORS):
        if name not in paths:
            raise IntegrityFailure(
                f"{name} of {label} is not recorded any more", hint="see what is damaged: registry verify"
            )
    return replace(
        peft_format.open_files(paths[peft_format.CONFIG], paths[peft_format.TENSORS]), checked=True
    )


def verified_paths(files: Mapping[str, File], blobs: BlobStore, label: str) -> dict[str, Path]:
    """Local paths of recorded files, each checked against its digest."""
    if not files:
        raise IntegrityFailure(
            f"the bytes of {label} are not held", hint="add it again, or restore its blobs"
        )

    def path(name: str) -> Path:
        held = files[name].digest
        found = blobs.path(held)
        if sha256(found) != held:  # the store may have it whole
            blobs.forget(held)
            found = blobs.path(held)
            digest.check(f"{name} of {label}", expected=held, found=sha256(found))
        return found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(files, pool.map(path, files), strict=True))


def usable(blobs: BlobStore, files: Mapping[str, File]) -> bool:
    """Whether all these bytes are held and unchanged: only then may they stand in for a computation."""
    return bool(files) and all(blobs.intact(file.digest) for file in files.values())


def whole(blobs: BlobStore, files: Mapping[str, File]) -> bool:
    """Whether all these bytes are what they were, each of them read."""
    try:
        for file in files.values():
            blobs.recheck(file.digest)
        return bool(verified_paths(files, blobs, "it"))
    except IntegrityFailure:
        return False


def copy_files(paths: Mapping[str, Path], folder: Path) -> dict[str, int]:
    """Copy files into a folder, by relative path; returns their sizes."""
    sizes: dict[str, int] = {}
    for name, path in paths.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        except OSError as error:
            raise StorageFailure(
                f"cannot write {target}: {error.strerror}",
                hint="free some disk space, or choose another folder",
            ) from error
        sizes[name] = target.stat().st_size
    return sizes


def sha256(path: Path) -> str:
    """The digest of a file's bytes, read in pieces."""
    state = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    except OSError as error:
        raise StorageFailure(f"cannot read {path}: {error.strerror}") from error
    return digest.PREFIX + state.hexdigest()
