"""Add every adapter below a folder: read side by side, made durable and recorded in batches.

A batch is as safe as a single :func:`add`: the bytes are durable before the rows that name them. Whatever ends it,
what was recorded stays, and doing it again goes on from there.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy.orm import Session

from registry import peft_format, reference
from registry._paths import expanded
from registry.base_layout import BaseLayout
from registry.blobs import BlobStore
from registry.catalog import bases, batches, revocations
from registry.catalog.artifacts import Content, File
from registry.catalog.database import Database
from registry.catalog.versions import Draft
from registry.errors import NotFound, Refused, RegistryError, StorageFailure
from registry.peft_format import CONFIG, TENSORS
from registry.results import AddedAll, BaseModelIdentity, FoundAdapter
from registry.verbs import _content, _naming
from registry.verbs._seen import Seen, Stamps, stamps
from registry.verbs._text import check_tags, check_text
from registry.verbs.add import MAX_BASE, check_targets, identity_of

Progress = Callable[[str, int, int], None]
_BATCH = 256
_READERS = min(4, os.cpu_count() or 1)
_CHUNK = 1 << 20
_SMALL = 64 << 20  # what is not larger is copied before its header is looked at


@dataclass(frozen=True)
class _Found:
    """A folder with an adapter's config, its path below the root, and the name it gets."""

    folder: Path
    path: str
    name: str
    named: bool
    seen: Stamps | None

    def result(self, **fields: Any) -> FoundAdapter:
        shown = self.path.encode("utf-8", "backslashreplace").decode()
        return FoundAdapter(path=shown, name=self.name, named=self.named, **fields)

    def refused(self, error: RegistryError) -> FoundAdapter:
        message = error.message.encode("utf-8", "backslashreplace").decode()
        return self.result(outcome="refused", error=message, hint=error.hint, code=error.code)


@dataclass(frozen=True)
class _Read:
    """What was read of a folder, staged under its files' digests."""

    found: _Found
    began: int
    content: Content
    base_model: BaseModelIdentity
    staged: Mapping[str, Path]


class _Written(NamedTuple):
    """A version that holds what was read, whether it is new, and what of it was revoked."""

    ref: str
    created: bool
    revoked: tuple[str, ...]


class _Layouts:
    """What is known of base models' weights, looked up once for each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[BaseModelIdentity, BaseLayout | None] = {}

    def of(self, identity: BaseModelIdentity) -> BaseLayout | None:
        if identity not in self._found:
            with self._database.read() as session:
                self._found[identity] = bases.layout_of(session, identity)
        return self._found[identity]


@dataclass(frozen=True)
class _Said:
    """What is said of all of them."""

    base: str | None
    known: BaseModelIdentity | None
    layouts: _Layouts
    task: str | None
    tags: Mapping[str, str]
    license: str | None
    note: str | None
    actor: str


@dataclass
class _Report:
    """What became of each folder so far, by path, and what was seen for the next time."""

    progress: Progress | None
    total: int
    memory: Seen
    results: dict[str, FoundAdapter] = field(default_factory=dict)

    def tell(self, found: _Found, result: FoundAdapter) -> None:
        self.results[found.path] = result
        if self.progress is not None:
            self.progress("adding", len(self.results), self.total)


def add_many(
    database: Database,
    blobs: BlobStore,
    root: str | Path,
    *,
    prefix: str | None,
    base: str | None,
    task: str | None,
    tags: Mapping[str, str],
    license: str | None,  # noqa: A002  (the field's own word)
    note: str | None,
    seen: Path | None,
    actor: str,
    progress: Progress | None,
) -> AddedAll:
    check_tags(tags)
    for what, text in (("task", task), ("license", license), ("note", note)):
        if text is not None:
            check_text(what, text)
    if prefix is not None:
        reference.check_name(f"{prefix}/a")
    folder = expanded(root)
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="give the folder below which the adapters are")
    found = _find(folder.absolute(), prefix)
    if not found:
        raise NotFound(f"there is no {CONFIG} in or below {folder}", hint="is this the right folder?")
    if base is not None:
        check_text("base", base, limit=MAX_BASE)
    database.require("versions")
    with database.read() as session:
        known = None if base is None else bases.named(session, base)
    said = _Said(base, known, _Layouts(database), task, tags, license, note, actor)
    report = _Report(progress, len(found), Seen(seen))
    todo = _skip_known(database, found, report)

    def rest() -> None:
        left = [each for each in todo if each.path not in report.results]
        _add(database, blobs, iter(left), said, report)

    _content.again_if_swept(rest)
    results = tuple(report.results[each.path] for each in found)
    outcomes = [result.outcome for result in results]
    return AddedAll(
        root=str(folder),
        added=outcomes.count("added"),
        present=outcomes.count("present"),
        refused=outcomes.count("refused"),
        found=results,
    )


def _find(root: Path, prefix: str | None) -> list[_Found]:
    """Every folder with an adapter's config, by path. Links to folders and hidden folders are not followed."""
    folders: dict[str, Path] = {}
    for here, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if CONFIG in files:
            folders[Path(here).relative_to(root).as_posix()] = Path(here)
    names = _naming.names(folders, prefix=prefix, root=root.name)
    return [
        _Found(
            folders[path],
            path,
            names[path],
            _is_plain(path, names[path], prefix, root),
            stamps(folders[path]),
        )
        for path in sorted(folders)
    ]


def _is_plain(path: str, name: str, prefix: str | None, root: Path) -> bool:
    plain = root.name if path == "." else path
    return name == (f"{prefix}/{plain}" if prefix else plain)


def _skip_known(database: Database, found: Sequence[_Found], report: _Report) -> list[_Found]:
    """Those that have to be read. What was seen before and is in the catalog under its name is told at once."""
    known = {each.path: report.memory.find(each.folder, each.seen) for each in found}
    wanted = [(each.name, content) for each in found if (content := known[each.path]) is not None]
    with database.read() as session:
        there = batches.holding(session, wanted)
        told = revocations.told(session, {there[pair][0]: pair[1] for pair in wanted if pair in there})
    todo = []
    for each in found:
        content = known[each.path]
        if content is not None and (held := there.get((each.name, content))) is not None:
            row_id, ref = held
            result = each.result(outcome="present", ref=ref, digest=content, warnings=told[row_id])
            report.tell(each, result)
        else:
            todo.append(each)
    return todo


def _add(database: Database, blobs: BlobStore, todo: Iterator[_Found], said: _Said, report: _Report) -> None:
    """Read one batch while the one before it is made durable and recorded."""
    with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(1) as ahead:

        def prepare() -> tuple[ExitStack, list[tuple[_Found, _Read | RegistryError]]] | None:
            some = list(islice(todo, _BATCH))
            if not some:
                return None
            with ExitStack() as stack:
                stage = stack.enter_context(blobs.stage())
                places = [stage / str(number) for number in range(len(some))]
                reading = [
                    readers.submit(_outcome, each, place, said)
                    for each, place in zip(some, places, strict=True)
                ]
                try:
                    read = [each.result() for each in reading]
                finally:  # nobody writes any more into what goes now
                    for each in reading:
                        each.cancel()
                    wait(reading)
                return stack.pop_all(), list(zip(some, read, strict=True))
            return None

        try:
            following = ahead.submit(prepare)
            while (batch := following.result()) is not None:
                following = ahead.submit(prepare)
                stack, outcomes = batch
                with stack:
                    _record(database, blobs, outcomes, said, report)
        finally:
            for _ in todo:  # interrupted: nothing more is read
                pass
            if (left := following.result()) is not None:
                left[0].close()


def _outcome(found: _Found, stage: Path, said: _Said) -> _Read | RegistryError:
    try:
        return _read(found, stage, said)
    except StorageFailure:  # a full disk is no fault of this adapter, nor mended by going on
        raise
    except RegistryError as error:
        return error


def _read(found: _Found, stage: Path, said: _Said) -> _Read:
    """Copy an adapter and read the copy, which nobody can change meanwhile."""
    began = time.time_ns()
    peft_format.require(found.folder)
    if found.seen is not None and found.seen[1][2] > _SMALL:
        peft_format.open_files(found.folder / CONFIG, found.folder / TENSORS)
    copies = {name: stage.with_name(f"{stage.name}-{name}") for name in (CONFIG, TENSORS)}
    for name, copy in copies.items():
        _copy(found.folder / name, copy)
    stored = peft_format.open_files(copies[CONFIG], copies[TENSORS])
    files = {name: File(_content.sha256(path), size) for name, (path, size) in stored.files.items()}
    content = _content.described(stored, stored.digest, files)
    staged = {file.digest: copies[name] for name, file in files.items()}
    identity = identity_of(stored, said.base, said.known)
    if (layout := said.layouts.of(identity)) is not None:
        check_targets(stored, layout)
    return _Read(found, began, content, identity, staged)


def _copy(source: Path, target: Path) -> None:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{source} is not a regular file")
        try:
            with target.open("wb") as copy:
                shutil.copyfileobj(file, copy, _CHUNK)
        except OSError as error:
            raise StorageFailure(
                f"cannot write {target}: {error.strerror}",
                hint="make room and run it again: it goes on where it was",
            ) from error


def _record(
    database: Database,
    blobs: BlobStore,
    outcomes: Sequence[tuple[_Found, _Read | RegistryError]],
    said: _Said,
    report: _Report,
) -> None:
    read: list[_Read] = []
    for found, each in outcomes:
        if isinstance(each, RegistryError):
            report.tell(found, found.refused(each))
        else:
            read.append(each)
    kept: dict[Path, tuple[Stamps, int, str]] = {}
    for some, written in _written(database, blobs, read, said):
        if isinstance(written, RegistryError):
            report.tell(some.found, some.found.refused(written))
            continue
        outcome: Literal["added", "present"] = "added" if written.created else "present"
        result = some.found.result(
            outcome=outcome,
            ref=written.ref,
            digest=some.content.digest,
            warnings=(*written.revoked, *some.content.not_composable),
        )
        report.tell(some.found, result)
        if some.found.seen is not None and some.found.seen == stamps(some.found.folder):
            kept[some.found.folder] = some.found.seen, some.began, some.content.digest
    report.memory.keep(kept)


def _written(
    database: Database, blobs: BlobStore, read: Sequence[_Read], said: _Said
) -> Iterator[tuple[_Read, _Written | RegistryError]]:
    """All of them in one transaction; where one cannot be, in two, and so on, until only that one is refused."""
    if not read:
        return
    try:
        together = _store(database, blobs, read, said)
    except StorageFailure:  # the database is gone, or full: so it would be for each
        raise
    except RegistryError as error:
        if len(read) == 1:
            yield read[0], error
            return
    else:
        yield from zip(read, together, strict=True)
        return
    half = len(read) // 2
    for part in (read[:half], read[half:]):
        yield from _written(database, blobs, part, said)


def _store(database: Database, blobs: BlobStore, read: Sequence[_Read], said: _Said) -> list[_Written]:
    # What was taken over by an earlier attempt is no longer staged.
    staged = {blob: path for each in read for blob, path in each.staged.items() if path.exists()}
    blobs.put_many(staged)
    drafts = [_draft(each, said) for each in read]

    def write(session: Session) -> list[_Written]:
        written = batches.write_many(session, drafts)
        for each in read:
            _content.check_present(blobs, each.content.files)
        refs = batches.refs(session, [row_id for row_id, _ in written])
        digests = {row_id: each.content.digest for each, (row_id, _) in zip(read, written, strict=True)}
        told = revocations.told(session, digests)
        return [_Written(refs[row_id], created, told[row_id]) for row_id, created in written]

    return database.transact(write)


def _draft(read: _Read, said: _Said) -> Draft:
    return Draft(
        name=read.found.name,
        content=read.content,
        base_model=read.base_model,
        actor=said.actor,
        task=said.task,
        tags=said.tags,
        license=said.license,
        note=said.note,
        source=str(read.found.folder).encode("utf-8", "backslashreplace").decode(),
    )
