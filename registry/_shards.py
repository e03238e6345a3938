"""Safetensors files as bytes: reading a header without trusting it, writing a file whose digest is known.

A file is an 8-byte little-endian header length, a JSON header, and the tensors' data end to end.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from registry.digest import PREFIX
from registry.errors import Refused, StorageFailure

MAX_HEADER = 100 << 20
CHUNK = 4 << 20

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)

# Safetensors' code → (torch's name, bits). Both columns are free of repetitions, so either names the dtype.
_CODES = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F6_E2M3": ("float6_e2m3fn", 6),
    "F6_E3M2": ("float6_e3m2fn", 6),
    "F4": ("float4_e2m1fn", 4),
}
CODE_OF = {name: code for code, (name, _) in _CODES.items()}
BITS_OF = dict(_CODES.values())
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a weight file; ``offset`` counts from the start of the file, ``dtype`` as torch names it."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A written file: its size in bytes and its digest (``"sha256:…"``)."""

    size: int
    sha256: str


@contextmanager
def storage(action: str, path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn an ``OSError`` in the block into ``StorageFailure``; ``needed`` is the file's size, where known."""
    try:
        yield
    except OSError as error:
        hint = "check that the disk is in order and that you may use this path"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            room = f"{needed} bytes for this file" if needed is not None else "more space"
            hint = f"free space on that disk ({room}), or choose another folder"
        reason = error.strerror or type(error).__name__
        raise StorageFailure(f"cannot {action} {path}: {reason}", hint=hint) from error


def data_size(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor; sub-byte dtypes are packed."""
    return math.prod(shape) * BITS_OF[dtype] // 8


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ``Refused`` when it is larger than ``limit`` or no object."""
    with storage("read", path), path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise Refused(f"{path} is larger than {limit} bytes")
    return _parse(raw, str(path))


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file in file order, every bound checked before anything is allocated.

    Raises ``Refused``, naming the file, when it is truncated, malformed, or not a regular file.
    """
    with storage("read", path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # asked first: opening a FIFO would hang
            raise Refused(f"{path} is not a regular file")
        with path.open("rb", buffering=0) as file:
            length = int.from_bytes(file.read(8), "little")
            if status.st_size < 8 or length > status.st_size - 8:
                raise _broken(path, "it is truncated inside its header")
            if length > MAX_HEADER:
                raise _broken(path, f"its header is larger than {MAX_HEADER} bytes")
            raw = file.read(length)
    header = _parse(raw, f"the header of {path}")
    header.pop("__metadata__", None)
    tensors = [_entry(path, name, entry, 8 + length) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_contiguous(path, tensors, 8 + length, status.st_size)
    return tensors


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refused(f"{where} names a key twice")
        return found

    try:
        value = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where} is not valid JSON", hint="download the file again") from error
    if not isinstance(value, dict):
        raise Refused(f"{where} is not a JSON object")
    return value


def _entry(path: Path, name: str, entry: Any, start: int) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"its entry for {name!r} is malformed")
    code, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _CODES:
        raise _broken(path, f"tensor {name!r} has the unknown dtype {code!r}")
    if not _are_sizes(shape) or not _are_sizes(span) or len(span) != 2:
        raise _broken(path, f"its entry for {name!r} is malformed")
    dtype, bits = _CODES[code]
    nbytes = span[1] - span[0]
    if math.prod(shape) * bits != nbytes * 8:
        raise _broken(path, f"tensor {name!r} has {nbytes} bytes, not what {code} {shape} takes")
    return StoredTensor(name, path.name, dtype, tuple(shape), start + span[0], nbytes)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_contiguous(path: Path, tensors: list[StoredTensor], start: int, size: int) -> None:
    end = start
    for tensor in tensors:
        if tensor.offset != end:
            raise _broken(path, f"tensor {tensor.name!r} overlaps another one or leaves a gap")
        end += tensor.nbytes
    if end > size:
        raise _broken(path, f"it is truncated: {size} bytes instead of {end}")
    if end < size:
        raise _broken(path, f"it has {size - end} bytes that belong to no tensor")


def _broken(path: Path, reason: str) -> Refused:
    return Refused(f"{path} cannot be used: {reason}", hint="download or copy the file again")


def encode_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """The first bytes of a safetensors file holding ``(name, dtype, shape)`` in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + data_size(dtype, shape)
        header[name] = {"dtype": CODE_OF[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)  # keeps the data aligned, as readers that map the file expect
    return len(raw).to_bytes(8, "little") + raw


def read_into(file: FileIO, buffer: memoryview, offset: int, path: Path) -> None:
    """Fill ``buffer`` from ``offset``. Raises ``StorageFailure`` where the file ends early."""
    with storage("read", path):
        file.seek(offset)
    while buffer:
        with storage("read", path):
            count = file.readinto(buffer)
        if not count:
            raise StorageFailure(f"cannot read {path}: it became shorter while it was read")
        buffer = buffer[count:]


class FileWriter:
    """Writes a new file front to back, hashing as it goes; ``finish`` makes it durable."""

    def __init__(self, path: Path, needed: int | None = None) -> None:
        self._path = path
        self._needed = needed
        self._hash = hashlib.sha256()
        self._size = 0
        with storage("create", path):
            self._fd = os.open(path, _NEW, 0o644)

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        rest = memoryview(data)
        self._size += len(rest)
        with storage("write", self._path, self._needed):
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def finish(self) -> FileRecord:
        with storage("write", self._path, self._needed):
            os.fsync(self._fd)
        self.close()
        return FileRecord(self._size, PREFIX + self._hash.hexdigest())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def write_file(path: Path, chunks: Iterable[bytes | memoryview], needed: int | None = None) -> FileRecord:
    """Write a whole new file durably."""
    writer = FileWriter(path, needed)
    try:
        for chunk in chunks:
            writer.write(chunk)
        return writer.finish()
    finally:
        writer.close()


def read_chunks(path: Path) -> Iterator[memoryview]:
    """A file's bytes in pieces; each is valid until the next is asked for."""
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with storage("read", path):
        file = path.open("rb", buffering=0)
    with file:
        while True:
            with storage("read", path):
                count = file.readinto(buffer)
            if not count:
                return
            yield view[:count]


def hash_files(paths: Iterable[Path], progress: Callable[[int, int], None] | None) -> Mapping[Path, str]:
    """The digest of every file; ``progress`` is told bytes done and bytes in all."""
    files = list(paths)
    with storage("read", files[0].parent):
        total = sum(path.stat().st_size for path in files)
    digests, done = {}, 0
    for path in files:
        hasher = hashlib.sha256()
        for chunk in read_chunks(path):
            hasher.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
        digests[path] = PREFIX + hasher.hexdigest()
    return digests


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the platform can."""
    if os.name == "nt":
        return
    with storage("write", folder):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
