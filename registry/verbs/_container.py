"""The file that a bundle is, and a backup: a plain tar of a manifest, a file of JSON lines for each table, and blobs.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry import _partial, digest
from registry._paths import expanded
from registry.catalog.bundle_lines import FORMAT, FORMER, TABLES, Digest
from registry.errors import IntegrityFailure, NotFound, Refused, StorageFailure
from registry.verbs._folders import NEW_PATH, refuse_existing

_BLOCK = 512
_RECORD = 20 * _BLOCK  # what tar files are a multiple of
_MANIFEST_SIZE = 16 * _BLOCK  # room that is left for it, to be filled in last
_LONGEST_LINE = 64 << 20
_PIECE = 1 << 20

M = TypeVar("M", bound="Manifest")


@dataclass(frozen=True)
class Sort:
    """Which sort of file it is, what its first member is called, and which command writes it."""

    noun: str
    manifest: str
    written_by: str

    @property
    def again(self) -> str:
        return f"write it again with {self.written_by}, or fetch the file again"

    @property
    def other(self) -> str:
        return f"give what {self.written_by} wrote"


BUNDLE = Sort("bundle", "manifest.json", "registry export")


class Member(BaseModel):
    """A table of the bundle: how many lines and bytes it has, and the digest of these."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    rows: Annotated[int, Field(ge=0, le=2**63 - 1)]
    size: Annotated[int, Field(ge=0, le=2**63 - 1)]
    sha256: Digest


class Manifest(BaseModel):
    """What a file says of itself: its format, the schema it was made with, its tables, and whether it has blobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: int
    schema_: str = Field(alias="schema")
    blobs: bool
    tables: dict[str, Member]

    @property
    def digest(self) -> str:
        """Of the manifest, and so of everything in the file."""
        return digest.of_json(self.model_dump(by_alias=True))


def _table_name(table: str) -> str:
    return f"tables/{table}.jsonl"


def _blob_name(blob: str) -> str:
    return f"blobs/sha256/{blob.removeprefix(digest.PREFIX)}"


class Writer:
    """A file being written. Sizes and digests are filled in once they are known: nothing is kept or copied."""

    def __init__(self, file: BinaryIO, sort: Sort = BUNDLE) -> None:
        self._file = file
        self._sort = sort
        self.tables: dict[str, Member] = {}
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
        self.tables[table] = member
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

    def finish(self, manifest: Manifest) -> None:
        self._file.write(bytes(2 * _BLOCK))
        self._file.write(bytes(-self._file.tell() % _RECORD))
        said = json.dumps(manifest.model_dump(by_alias=True, mode="json"), indent=1).encode()
        if len(said) >= _MANIFEST_SIZE:
            raise ValueError(f"a manifest of {len(said)} bytes")
        self._header(0, self._sort.manifest, _MANIFEST_SIZE)
        self._file.seek(_BLOCK)
        self._file.write(said + b" " * (_MANIFEST_SIZE - 1 - len(said)) + b"\n")
        self._file.seek(0, os.SEEK_END)

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
def new_file(
    target: Path, *, private: bool = False, replace: bool = False, hint: str = NEW_PATH
) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends well, durably, and else not at all.

    Raises ``Conflict`` where ``target`` exists, unless it is a file to ``replace``.
    """
    target = expanded(target).absolute()

    def refuse() -> None:
        if not (replace and target.is_file()):
            refuse_existing(target, hint)

    refuse()
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
        if not private:
            staged.chmod(0o666 & ~_umask())
        refuse()
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
    """A file that can be read, as often as needed: a ``Source``. Its members are where they should be."""

    path: Path
    sort: Sort
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
                    raise Refused(f"{self.path}: {table} line {rows + 1} is {what}", hint=self.sort.again)
                state.update(line)
                left -= len(line)
                rows += 1
                yield line[:-1]
        digest.check(
            f"{_table_name(table)} of {self.path}",
            expected=said.sha256,
            found=digest.PREFIX + state.hexdigest(),
            hint=self.sort.again,
        )
        if rows != said.rows:
            raise Refused(f"{self.path}: {table} has {rows} lines, not {said.rows}", hint=self.sort.again)

    def blobs(self, expected: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
        """Digest, size and place of every blob, where they are these very ones; refused otherwise."""
        at = self._blobs_at
        for blob, size in expected if self.manifest.blobs else ():
            start, at = _expect(self._file, self.path, at, _blob_name(blob), size, sort=self.sort)
            yield blob, size, start
        _expect_end(self._file, self.path, self.sort, at)

    def copy(self, blob: str, size: int, start: int, target: Path) -> None:
        """Write a blob to a file. Raises ``IntegrityFailure`` where its bytes are others."""
        with _writing(target), target.open("wb") as file:
            for piece in self._pieces(blob, size, start):
                file.write(piece)

    def check(self, blob: str, size: int, start: int) -> None:
        """Read a blob. Raises ``IntegrityFailure`` where its bytes are others."""
        for _ in self._pieces(blob, size, start):
            pass

    def _pieces(self, blob: str, size: int, start: int) -> Iterator[bytes]:
        self._file.seek(start)
        state, left = hashlib.sha256(), size
        while left and (piece := self._file.read(min(_PIECE, left))):
            yield piece
            state.update(piece)
            left -= len(piece)
        digest.check(
            f"{_blob_name(blob)} of {self.path}",
            expected=blob,
            found=digest.PREFIX + state.hexdigest(),
            hint=self.sort.again,
        )


def begins_with(path: Path, sort: Sort) -> bool:
    """Whether a file says at its begin that it is of this sort; it may be damaged all the same."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(_BLOCK).startswith(sort.manifest.encode() + b"\0")
    return False


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle and see that its tables are where they should be. Raises ``Refused`` for anything else."""
    with opened(path, BUNDLE, _manifest, list(TABLES)) as bundle:
        yield bundle


@contextmanager
def opened(
    path: Path, sort: Sort, parse: Callable[[Path, bytes], Manifest], order: Sequence[str] | None = None
) -> Iterator[Bundle]:
    """Open a file of some sort. Its tables come in ``order``, or in that of its manifest."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint=sort.other) from None
    except OSError as error:
        raise StorageFailure(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=_PIECE) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{path} is not a regular file", hint=sort.other)
        start, at = _expect(file, path, 0, sort.manifest, _MANIFEST_SIZE, sort=sort)
        file.seek(start)
        manifest = parse(path, file.read(_MANIFEST_SIZE))
        starts: dict[str, int] = {}
        for table in (each for each in order or manifest.tables if each in manifest.tables):
            starts[table], at = _expect(
                file, path, at, _table_name(table), manifest.tables[table].size, sort=sort
            )
        yield Bundle(path, sort, manifest, file, starts, at)


def _manifest(path: Path, raw: bytes) -> Manifest:
    manifest = sound(Manifest, BUNDLE, path, raw, newest=FORMAT)
    if set(manifest.tables) != FORMER.get(manifest.format, set(TABLES)):
        raise Refused(
            f"{path}: its manifest names other tables than format {manifest.format} has", hint=BUNDLE.again
        )
    return manifest


def sound(model: type[M], sort: Sort, path: Path, raw: bytes, *, newest: int) -> M:
    """The manifest in ``raw``. Raises ``Refused``, saying where, for anything else."""
    try:
        said = json.loads(raw)
        version = said["format"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Refused(f"{path}: its manifest cannot be read", hint=sort.again) from None
    if isinstance(version, int) and version > newest:
        raise Refused(
            f"{path} is a {sort.noun} of format {version}, this release reads {newest}",
            hint="upgrade adapter-registry",
        )
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:50] for part in first["loc"])
        raise Refused(
            f"{path}: its manifest is not sound: {where}: {first['msg']}", hint=sort.again
        ) from None


def _expect(file: BinaryIO, path: Path, at: int, name: str, size: int, *, sort: Sort) -> tuple[int, int]:
    """Where the bytes of the one member that may be at this place begin, and where the next one does."""
    file.seek(at)
    header = file.read(_BLOCK)
    if at and len(header) < _BLOCK:
        raise IntegrityFailure(f"{path} ends before {name}", hint=sort.again)
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError):
        raise Refused(
            f"{path} is no {sort.noun}: there is no {name} where it should be",
            hint=sort.other,
        ) from None
    found = info.name[:100]
    if not at and found != name:
        raise Refused(f"{path} is no {sort.noun}: it begins with {found!r}, not {name}", hint=sort.other)
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.name != name or info.linkname:
        raise Refused(f"{path} is no sound {sort.noun}: {found!r} is where {name} should be", hint=sort.again)
    end = at + _BLOCK + info.size
    if info.size != size:
        raise Refused(
            f"{path} is no sound {sort.noun}: {name} has {info.size} bytes, not {size}", hint=sort.again
        )
    if end > os.fstat(file.fileno()).st_size:
        raise IntegrityFailure(f"{path} ends within {name}", hint=sort.again)
    return at + _BLOCK, end + -end % _BLOCK


def _expect_end(file: BinaryIO, path: Path, sort: Sort, at: int) -> None:
    file.seek(at)
    rest = file.read(2 * _RECORD + 1)
    if len(rest) < 2 * _BLOCK:
        raise IntegrityFailure(f"{path} ends before it should", hint=sort.again)
    if len(rest) > 2 * _RECORD or any(rest):
        raise Refused(f"{path} does not end where its last member does", hint=sort.again)
