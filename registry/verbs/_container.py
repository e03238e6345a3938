"""The file that a bundle is: a plain tar of a manifest, a file of JSON lines for each table, and blobs.

Nothing is extracted by name. Members come in one order and under one name each, are regular files, and are as long as
the manifest and the table of blobs say; anything else is refused before a byte of it is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry import _partial, digest
from registry._paths import expanded
from registry.catalog.bundle_lines import FORMAT, FORMER, TABLES, Digest
from registry.errors import IntegrityFailure, NotFound, Refused, StorageFailure
from registry.verbs._folders import refuse_existing

MANIFEST = "manifest.json"
_BLOCK = 512
_RECORD = 20 * _BLOCK  # what tar files are a multiple of
_MANIFEST_SIZE = 16 * _BLOCK  # room that is left for it, to be filled in last
_LONGEST_LINE = 64 << 20
_PIECE = 1 << 20
_AGAIN = "export the catalog again, or fetch the file again"


class Member(BaseModel):
    """A table of the bundle: how many lines and bytes it has, and the digest of these."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    rows: Annotated[int, Field(ge=0, le=2**63 - 1)]
    size: Annotated[int, Field(ge=0, le=2**63 - 1)]
    sha256: Digest


class Manifest(BaseModel):
    """What a bundle says of itself: its format, the schema it was made with, its tables, and whether it has blobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: int
    schema_: str = Field(alias="schema")
    blobs: bool
    tables: dict[str, Member]

    @property
    def digest(self) -> str:
        """Of the manifest, and so of everything in the bundle."""
        return digest.of_json(self.model_dump(by_alias=True))


def _table_name(table: str) -> str:
    return f"tables/{table}.jsonl"


def _blob_name(blob: str) -> str:
    return f"blobs/sha256/{blob.removeprefix(digest.PREFIX)}"


class Writer:
    """A bundle being written. Sizes and digests are filled in once they are known: nothing is kept or copied."""

    def __init__(self, file: BinaryIO, *, schema: str, blobs: bool) -> None:
        self._file = file
        self._schema = schema
        self._blobs = blobs
        self._tables: dict[str, Member] = {}
        file.seek(_BLOCK + _MANIFEST_SIZE)

    def table(self, table: str, lines: Iterable[bytes]) -> Member:
        start, rows, state = self._file.tell(), 0, hashlib.sha256()
        self._file.seek(start + _BLOCK)
        for line in lines:
            self._file.write(line)
            state.update(line)
            rows += 1
        size = self._file.tell() - start - _BLOCK
        self._pad()
        self._header(start, _table_name(table), size)
        member = Member(rows=rows, size=size, sha256=digest.PREFIX + state.hexdigest())
        self._tables[table] = member
        return member

    def blob(self, blob: str, size: int, path: Path) -> None:
        """Raises ``IntegrityFailure`` where the file is not what its digest says."""
        self._file.write(_tar_header(_blob_name(blob), size))
        state, left = hashlib.sha256(), size
        with path.open("rb") as source:
            while left and (piece := source.read(min(_PIECE, left))):
                self._file.write(piece)
                state.update(piece)
                left -= len(piece)
            left += len(source.read(1))
        found = digest.PREFIX + state.hexdigest()
        digest.check(f"the blob {blob}", expected=blob, found="a file of another size" if left else found)
        self._pad()

    def finish(self) -> Manifest:
        self._file.write(bytes(2 * _BLOCK))
        self._file.write(bytes(-self._file.tell() % _RECORD))
        manifest = Manifest(format=FORMAT, schema=self._schema, blobs=self._blobs, tables=self._tables)
        said = json.dumps(manifest.model_dump(by_alias=True), indent=1).encode()
        self._header(0, MANIFEST, _MANIFEST_SIZE)
        self._file.seek(_BLOCK)
        self._file.write(said + b" " * (_MANIFEST_SIZE - 1 - len(said)) + b"\n")
        self._file.seek(0, os.SEEK_END)
        return manifest

    def _pad(self) -> None:
        self._file.write(bytes(-self._file.tell() % _BLOCK))

    def _header(self, place: int, name: str, size: int) -> None:
        here = self._file.tell()
        self._file.seek(place)
        self._file.write(_tar_header(name, size))
        self._file.seek(here)


def _tar_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)  # beyond 8 GiB, sizes are written as GNU tar does


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends well, durably, and else not at all.

    Raises ``Conflict`` where ``target`` exists.
    """
    target = expanded(target).absolute()
    refuse_existing(target)
    with ExitStack() as stack:
        try:
            staged = stack.enter_context(_partial.new(target.parent, target.name, folder=False))
        except OSError as error:
            raise StorageFailure(f"cannot write to {target.parent}: {error.strerror}") from error
        stack.enter_context(_writing(target))
        with staged.open("wb", buffering=_PIECE) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o666 & ~_umask())
        refuse_existing(target)
        staged.rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "free some disk space" if full else "check the folder and its permissions"
        raise StorageFailure(f"cannot write {target}: {error.strerror}", hint=hint) from error


def _umask() -> int:
    mask = os.umask(0o077)  # until it is put back, other threads make nothing that is open to others
    os.umask(mask)
    return mask


@dataclass(frozen=True)
class Bundle:
    """A bundle that can be read, as often as needed: a ``Source``. Its members are where they should be."""

    path: Path
    manifest: Manifest
    _file: BinaryIO
    _starts: Mapping[str, int]
    _blobs_at: int

    def lines(self, table: str) -> Iterator[bytes]:
        """The lines of a table, without their ends. Raises ``IntegrityFailure`` unless it has its digest."""
        if table not in self.manifest.tables:
            return  # of an earlier format, which did not have it
        said, state, rows = self.manifest.tables[table], hashlib.sha256(), 0
        with self.path.open("rb", buffering=_PIECE) as file:  # its own: several tables are read at a time
            file.seek(self._starts[table])
            left = said.size
            while left:
                line = file.readline(min(left, _LONGEST_LINE))
                if not line.endswith(b"\n"):
                    what = "too long" if len(line) == _LONGEST_LINE else "not ended"
                    raise Refused(f"{self.path}: {table} line {rows + 1} is {what}", hint=_AGAIN)
                state.update(line)
                left -= len(line)
                rows += 1
                yield line[:-1]
        digest.check(
            f"{_table_name(table)} of {self.path}",
            expected=said.sha256,
            found=digest.PREFIX + state.hexdigest(),
        )
        if rows != said.rows:
            raise Refused(f"{self.path}: {table} has {rows} lines, not {said.rows}", hint=_AGAIN)

    def blobs(self, expected: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
        """Digest, size and place of every blob, where they are these very ones; refused otherwise."""
        at = self._blobs_at
        for blob, size in expected if self.manifest.blobs else ():
            start, at = _expect(self._file, self.path, at, _blob_name(blob), size)
            yield blob, size, start
        _expect_end(self._file, self.path, at)

    def copy(self, blob: str, size: int, start: int, target: Path) -> None:
        """Write a blob to a file. Raises ``IntegrityFailure`` where its bytes are others."""
        self._file.seek(start)
        state, left = hashlib.sha256(), size
        with _writing(target), target.open("wb") as file:
            while left and (piece := self._file.read(min(_PIECE, left))):
                file.write(piece)
                state.update(piece)
                left -= len(piece)
        digest.check(
            f"{_blob_name(blob)} of {self.path}", expected=blob, found=digest.PREFIX + state.hexdigest()
        )


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle and see that its tables are where they should be. Raises ``Refused`` for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint="give what registry export wrote") from None
    except OSError as error:
        raise StorageFailure(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=_PIECE) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{path} is not a regular file", hint="give what registry export wrote")
        start, at = _expect(file, path, 0, MANIFEST, _MANIFEST_SIZE)
        file.seek(start)
        manifest = _manifest(path, file.read(_MANIFEST_SIZE))
        starts: dict[str, int] = {}
        for table in (each for each in TABLES if each in manifest.tables):
            starts[table], at = _expect(file, path, at, _table_name(table), manifest.tables[table].size)
        yield Bundle(path, manifest, file, starts, at)


def _manifest(path: Path, raw: bytes) -> Manifest:
    try:
        said = json.loads(raw)
        version = said["format"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Refused(f"{path}: its manifest cannot be read", hint=_AGAIN) from None
    if isinstance(version, int) and version > FORMAT:
        raise Refused(
            f"{path} is a bundle of format {version}, this release reads {FORMAT}",
            hint="upgrade adapter-registry",
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:50] for part in first["loc"])
        raise Refused(f"{path}: its manifest is not sound: {where}: {first['msg']}", hint=_AGAIN) from None
    if set(manifest.tables) != FORMER.get(version, set(TABLES)):
        raise Refused(f"{path}: its manifest names other tables than format {version} has", hint=_AGAIN)
    return manifest


def _expect(file: BinaryIO, path: Path, at: int, name: str, size: int) -> tuple[int, int]:
    """Where the bytes of the one member that may be at this place begin, and where the next one does."""
    file.seek(at)
    header = file.read(_BLOCK)
    if at and len(header) < _BLOCK:
        raise IntegrityFailure(f"{path} ends before {name}", hint=_AGAIN)
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError):
        raise Refused(
            f"{path} is no bundle: there is no {name} where it should be",
            hint="give what registry export wrote",
        ) from None
    found = info.name[:100]
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.name != name or info.linkname:
        raise Refused(f"{path} is no sound bundle: {found!r} is where {name} should be", hint=_AGAIN)
    end = at + _BLOCK + info.size
    if info.size != size:
        raise Refused(f"{path} is no sound bundle: {name} has {info.size} bytes, not {size}", hint=_AGAIN)
    if end > os.fstat(file.fileno()).st_size:
        raise IntegrityFailure(f"{path} ends within {name}", hint=_AGAIN)
    return at + _BLOCK, end + -end % _BLOCK


def _expect_end(file: BinaryIO, path: Path, at: int) -> None:
    file.seek(at)
    rest = file.read(2 * _RECORD + 1)
    if len(rest) < 2 * _BLOCK:
        raise IntegrityFailure(f"{path} ends before it should", hint=_AGAIN)
    if len(rest) > 2 * _RECORD or any(rest):
        raise Refused(f"{path} does not end where its last member does", hint=_AGAIN)
