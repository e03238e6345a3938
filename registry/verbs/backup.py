"""Back up a whole catalog into one file, exactly as it is; look at such a file; and make a catalog of it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine

from registry.blobs import BlobStore, open_store
from registry.catalog import migrate, rows
from registry.catalog.database import HEAD, Database, make_engine, make_private, outdated, shown, translated
from registry.catalog.events import now
from registry.catalog.turns import turn
from registry.errors import Conflict, NotFound, Refused, SchemaOutdated
from registry.results import Backup, Restored
from registry.settings import Settings
from registry.verbs import _backup_file, _container
from registry.verbs._backup_file import BACKUP, BackupManifest
from registry.verbs._container import Bundle
from registry.verbs.gc import TURN

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
_MANY = 256  # blobs that are made durable together
_MUCH = 64 << 20
_FORCE = "give a path that does not exist yet, or replace the file that is there with --force"


def backup(
    config: Settings, file: str | Path, *, with_blobs: bool, replace: bool, progress: Progress | None
) -> Backup:
    """The rows come from one transaction; the bytes after it, and gc waits for them."""
    target = Path(file)
    status = migrate.status(config.database_url)
    if status.current is None:
        raise NotFound(
            f"there is no catalog at {status.url}", hint="set REGISTRY_HOME or REGISTRY_DATABASE_URL"
        )
    database = Database(config.database_url)
    try:
        if status.current > HEAD:
            raise outdated(database.url, status.current)
        with (
            translated(database.url),
            _container.new_file(target, private=True, replace=replace, hint=_FORCE) as opened,
            ExitStack() as held,
        ):
            if with_blobs:
                held.enter_context(turn(database, TURN))
            writer = _container.Writer(opened, BACKUP)
            taken = now()
            revision, recorded = _write_rows(database, writer, progress)
            if with_blobs:
                _copy(config, writer, recorded, progress)
            manifest = BackupManifest(
                format=_backup_file.FORMAT,
                schema=revision,
                blobs=with_blobs,
                tables=writer.tables,
                taken=taken,
            )
            writer.finish(manifest)
            size = opened.tell()
    finally:
        database.close()
    return _result(target, size, manifest)


def _copy(
    config: Settings, writer: _container.Writer, recorded: list[tuple[str, int]], progress: Progress | None
) -> None:
    """All blobs, some at a time: what a store in use has fetched from elsewhere stays on this machine until then."""
    total, done = sum(size for _, size in recorded), 0
    every = iter(recorded)
    while some := list(_some(every, itemgetter(1))):
        store = open_store(config.blobs, config.room)
        for blob, size in some:
            writer.blob(blob, size, store.path(blob))
            done += size
            _tell(progress, "copying blobs", done, total)


def _write_rows(
    database: Database, writer: _container.Writer, progress: Progress | None
) -> tuple[str, list[tuple[str, int]]]:
    """All tables, from one transaction that no upgrade comes between; returns the revision, and every blob's digest and size."""
    engine = make_engine(database.url)
    try:
        with migrate.exclusive(engine), rows.snapshot(engine).connect() as connection:
            revision, found = database.revision() or "", rows.tables(connection)
            for name, table in found.items():
                writer.table(name, _told(progress, name, rows.lines(connection, table)))
            blobs = found["blobs"].c
            recorded = connection.execute(found["blobs"].select().order_by(blobs.digest))
            return revision, [(row.digest, row.size) for row in recorded]
    finally:
        engine.dispose()


def check(file: str | Path, *, progress: Progress | None) -> Backup:
    """Read all of a backup. Raises ``IntegrityFailure`` or ``Refused`` unless it is whole and sound."""
    with _backup_file.open_backup(Path(file).expanduser()) as (bundle, manifest):
        _check(bundle, manifest, progress)
        return _result(bundle.path, bundle.path.stat().st_size, manifest)


def _check(bundle: Bundle, manifest: BackupManifest, progress: Progress | None) -> None:
    for name in manifest.tables:
        for _ in _told(progress, name, _backup_file.lines(bundle, name), "checking"):
            pass
    for _ in bundle.blobs(
        _backup_file.blobs(bundle)
    ):  # that they are where they should be, to the end of the file
        pass
    done = 0
    for blob, size, start in bundle.blobs(_backup_file.blobs(bundle)):
        bundle.check(blob, size, start)
        done += size
        _tell(progress, "checking blobs", done, done)


def restore(config: Settings, file: str | Path, *, progress: Progress | None) -> Restored:
    """Everything is checked before anything is written; the bytes come before the rows, which are one transaction."""
    with _backup_file.open_backup(Path(file).expanduser()) as (bundle, manifest):
        if manifest.schema_ > HEAD:
            raise SchemaOutdated(
                f"{bundle.path} was made from schema revision {manifest.schema_}, this release has {HEAD}",
                hint="upgrade adapter-registry",
            )
        _check(bundle, manifest, progress)
        database = Database(config.database_url)
        engine = make_engine(database.url)
        try:
            make_private(database.url)
            with translated(database.url), turn(database, TURN), migrate.exclusive(engine):
                _prepare(database, engine, manifest.schema_)
                store = open_store(config.blobs, config.room)
                stored = _store(store, bundle, progress) if manifest.blobs else 0
                _fill(engine, bundle, manifest, progress)
                held = {blob for blob, _ in store.digests()}
        finally:
            engine.dispose()
            database.close()
        return Restored(
            path=str(bundle.path),
            digest=manifest.digest,
            schema_revision=manifest.schema_,
            head=HEAD,
            taken=manifest.taken,
            counts=_counts(manifest),
            stored=stored,
            missing=sum(blob not in held for blob, _ in _backup_file.blobs(bundle)),
        )


def _prepare(database: Database, engine: Engine, revision: str) -> None:
    """Empty tables of the backup's revision, where there are none or these. Raises ``Conflict`` where there is more."""
    current = database.revision()
    if current is not None:
        with engine.connect() as connection:
            _refuse_rows(database, empty=rows.is_empty(connection))
            rows.exclude(connection, rows.tables(connection).values())  # as later: may this login do it?
        if current > revision:
            raise Conflict(
                f"{shown(database.url)} has schema revision {current}, the backup {revision}",
                hint="restore into a home or a database that does not exist yet, then run: registry db upgrade",
            )
    if current != revision:
        migrate.bring_to(engine, revision)


def _refuse_rows(database: Database, *, empty: bool) -> None:
    if not empty:
        raise Conflict(
            f"{shown(database.url)} holds a catalog already",
            hint="restore into another REGISTRY_HOME, or database",
        )


def _fill(engine: Engine, bundle: Bundle, manifest: BackupManifest, progress: Progress | None) -> None:
    with engine.execution_options(registry_write=True).begin() as connection:
        found = rows.tables(connection)
        if set(found) != set(manifest.tables):
            raise Refused(
                f"{bundle.path}: it has other tables than schema revision {manifest.schema_}",
                hint=BACKUP.again,
            )
        rows.exclude(connection, found.values())
        if not rows.is_empty(connection):
            raise Conflict("somebody wrote to the catalog meanwhile", hint="restore into another one")
        with rows.as_told(connection):
            for number, (name, table) in enumerate(found.items(), 1):
                rows.fill(connection, table, _backup_file.lines(bundle, name))
                _tell(progress, "writing tables", number, len(found))
        rows.go_on(connection, found.values())


def _store(blobs: BlobStore, bundle: Bundle, progress: Progress | None) -> int:
    """Put every blob of the backup into the store, some at a time."""
    every = bundle.blobs(_backup_file.blobs(bundle))
    stored = 0
    while some := list(_some(every, itemgetter(1))):
        with blobs.stage() as stage:
            staged = {}
            for number, (blob, size, start) in enumerate(some):
                staged[blob] = stage / str(number)
                bundle.copy(blob, size, start, staged[blob])
            blobs.put_many(staged)
        stored += len(some)
        _tell(progress, "storing blobs", stored, stored)
    return stored


def _some(every: Iterator[T], size: Callable[[T], int]) -> Iterator[T]:
    """The next ones: as many as are made durable together, and not much more bytes than are at a time."""
    taken = 0
    for each in islice(every, _MANY):
        yield each
        taken += size(each)
        if taken > _MUCH:
            return


def _told(progress: Progress | None, table: str, lines: Iterable[T], what: str = "writing") -> Iterator[T]:
    done = 0
    for done, line in enumerate(lines, 1):
        if done % 1000 == 0:
            _tell(progress, f"{what} {table}", done, done)
        yield line
    _tell(progress, f"{what} {table}", done, done)


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None and total:
        progress(what, done, total)


def _result(path: Path, size: int, manifest: BackupManifest) -> Backup:
    return Backup(
        path=str(path),
        size=size,
        digest=manifest.digest,
        schema_revision=manifest.schema_,
        taken=manifest.taken,
        blobs=manifest.blobs,
        counts=_counts(manifest),
    )


def _counts(manifest: BackupManifest) -> dict[str, int]:
    """Rows by table; the first line of each names its columns."""
    return {name: member.rows - 1 for name, member in manifest.tables.items()}
