"""Bring in a bundle: look at all of it, store its bytes, then write its rows in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from sqlalchemy.orm import Session

from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import artifacts, bundle_check, bundle_import, events
from registry.catalog.bundle_check import Checked
from registry.catalog.bundle_import import Comparison, Written
from registry.catalog.bundle_lines import BlobLine
from registry.catalog.database import HEAD, Database
from registry.errors import SchemaOutdated, StorageFailure
from registry.results import Imported
from registry.verbs import _container, _content
from registry.verbs._container import Bundle
from registry.verbs.gc import GRACE

Progress = Callable[[str, int, int], None]
_MANY = 256  # blobs that are made durable together
_MUCH = 64 << 20


def import_bundle(
    database: Database, blobs: BlobStore, file: str | Path, *, actor: str, progress: Progress | None
) -> Imported:
    database.require("revocations")
    with _reading(file), _container.open_bundle(expanded(file)) as bundle:
        if bundle.manifest.schema_ > HEAD:
            raise SchemaOutdated(
                f"{bundle.path} was exported from schema revision {bundle.manifest.schema_}, this release has {HEAD}",
                hint="upgrade adapter-registry",
            )
        return _content.again_if_swept(lambda: _import(database, blobs, bundle, actor, progress))


@contextmanager
def _reading(file: str | Path) -> Iterator[None]:
    """What the catalog's own disk and database fail at is told by them."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(
            f"cannot read {file}: {error.strerror}", hint="check the disk that it is on, or copy it again"
        ) from error


def _import(
    database: Database, blobs: BlobStore, bundle: Bundle, actor: str, progress: Progress | None
) -> Imported:
    began = time.monotonic()
    checked = bundle_check.check(_Watched(bundle, progress))
    for _ in bundle.blobs(_sizes(bundle)):  # that they are where they should be, before any is taken
        pass
    with database.read() as session:
        found = bundle_import.compare(session, bundle, checked, blobs=bundle.manifest.blobs)
        collected = events.last(session, "gc")
    stored = _store(blobs, bundle, found, progress) if bundle.manifest.blobs else 0

    def write(session: Session) -> tuple[Comparison, Written]:
        bundle_import.lock(session)
        again = bundle_import.compare(session, bundle, checked, blobs=bundle.manifest.blobs)
        swept = again.new_blobs != found.new_blobs or events.last(session, "gc") != collected
        if bundle.manifest.blobs and (swept or _old(began)):
            _require(blobs, checked, again)
        advance = _Steps(progress, sum(checked.rows.values()))
        written = bundle_import.write(
            session, bundle, checked, again, bundle=bundle.manifest.digest, actor=actor, advance=advance
        )
        return again, written

    again, written = database.transact(write)
    return Imported(
        path=str(bundle.path),
        digest=bundle.manifest.digest,
        complete=again.empty,
        changed=bool(written.rows or written.told),
        added=written.rows,
        extended=written.extended,
        stored=stored,
        missing=_missing(database, blobs, checked, again),
        kept=tuple(written.kept),
    )


class _Watched:
    """A bundle whose reading is reported."""

    def __init__(self, bundle: Bundle, progress: Progress | None) -> None:
        self._bundle = bundle
        total = sum(member.rows for member in bundle.manifest.tables.values())
        self._advance = _Steps(progress, total, "checking")

    def lines(self, table: str) -> Iterator[bytes]:
        since = 0
        for since, line in enumerate(self._bundle.lines(table), 1):
            yield line
            if since % 1000 == 0:
                self._advance(1000)
        self._advance(since % 1000)


class _Steps:
    """Adds up what was done, and says so."""

    def __init__(self, progress: Progress | None, total: int, what: str = "writing") -> None:
        self._progress, self._total, self._what, self._done = progress, total, what, 0

    def __call__(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count:
            self._progress(self._what, self._done, max(self._total, self._done))


def _sizes(bundle: Bundle) -> Iterator[tuple[str, int]]:
    for _, line in bundle_check.parse("blobs", BlobLine, bundle):
        yield line.digest, line.size


def _store(blobs: BlobStore, bundle: Bundle, found: Comparison, progress: Progress | None) -> int:
    """Take over the bytes that are needed: of what is new, and those that are recorded here but lost."""
    wanted = (
        each
        for place, each in enumerate(bundle.blobs(_sizes(bundle)))
        if found.new_blobs[place] or (found.known_blobs[place] and not blobs.has(each[0]))
    )
    stored = 0
    steps = _Steps(progress, sum(found.new_blobs), "storing blobs")
    while some := list(islice(wanted, _MANY)):
        stored += len(some)
        while some:
            taken, size = 0, 0
            with ExitStack() as stack:
                stage = stack.enter_context(blobs.stage())
                staged: dict[str, Path] = {}
                for blob, length, start in some:
                    if staged and size + length > _MUCH:
                        break
                    staged[blob] = stage / str(taken)
                    bundle.copy(blob, length, start, staged[blob])
                    taken, size = taken + 1, size + length
                blobs.put_many(staged)
            steps(taken)
            some = some[taken:]
    return stored


def _old(began: float) -> bool:
    """Whether so much time went by that a collection could have taken what was stored first."""
    return time.monotonic() - began > GRACE.total_seconds() / 2


def _require(blobs: BlobStore, checked: Checked, found: Comparison) -> None:
    left = found.new_blobs[:]
    for blob, _ in blobs.digests():
        if (place := checked.blobs.find(blob)) is not None:
            left[place] = False
    if any(left):
        raise _content.Swept(
            "blobs were removed by a garbage collection meanwhile", hint="run the command again"
        )


def _missing(database: Database, blobs: BlobStore, checked: Checked, found: Comparison) -> int:
    """How many of the bundle's blobs that are recorded here are not in the store."""
    wanted = bytearray(new or known for new, known in zip(found.new_blobs, found.known_blobs, strict=True))
    if any(wanted):
        for blob, _ in blobs.digests():
            if (place := checked.blobs.find(blob)) is not None:
                wanted[place] = False
    left = [each for place, each in enumerate(checked.blobs) if wanted[place]] if any(wanted) else []
    with database.read() as session:  # what was collected since then is not missed
        return len(left) - len(artifacts.unrecorded(session, left))
