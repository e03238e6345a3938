"""A checkpoint's files as bytes: which tensors a weight file holds, and writing a file whose digest is known."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from registry import _safetensors
from registry._remembered import Remembered, Stamp, stamp
from registry.digest import PREFIX
from registry.errors import StorageFailure

MAX_HEADER = 100 << 20
CHUNK = 1 << 20
MOST_WRITTEN = 512 << 10
"""Bytes handed to the system at once: larger writes have it look for larger pages, which may cost it far more."""

Progress = Callable[[int, int], None]

_READERS = 4
_TOLD_S = 0.1
_AGAIN = "download or copy the file again"
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)

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


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ``Refused`` when it is larger than ``limit`` or no sound object.

    Infinity passes: transformers 4 writes it into the configs of Mamba 2 and its descendants.
    """
    with storage("read", path):
        return _safetensors.read_object(path, name=str(path), limit=limit, hint=_AGAIN, constants=True)


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file in file order, every bound checked before anything is allocated.

    Raises ``Refused``, naming the file, when it is truncated, malformed, or not a regular file.
    """
    with storage("read", path):
        entries = _safetensors.read_header(path, name=str(path), limit=MAX_HEADER, hint=_AGAIN)
    return [
        StoredTensor(name, path.name, entry.dtype, entry.shape, entry.begin, entry.end - entry.begin)
        for name, entry in entries.items()
    ]


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
    """Writes a new file front to back, hashing as it goes; ``finish`` makes it durable.

    The same bytes may be hashed and stored by two threads, each in order; ``write`` does both.
    """

    def __init__(self, path: Path, needed: int | None = None) -> None:
        self._path = path
        self._needed = needed
        self._hash = hashlib.sha256()
        self._size = 0
        with storage("create", path):
            self._fd = os.open(path, _NEW, 0o644)

    def write(self, data: bytes | memoryview) -> None:
        self.hash(data)
        self.store(data)

    def hash(self, data: bytes | memoryview) -> None:
        self._hash.update(data)

    def store(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        self._size += len(rest)
        with storage("write", self._path, self._needed):
            while rest:
                rest = rest[os.write(self._fd, rest[:MOST_WRITTEN]) :]

    def flush(self) -> None:
        """Have what is written so far on its way to the disk, so that ``finish`` has less to wait for."""
        with storage("write", self._path, self._needed):
            getattr(os, "fdatasync", os.fsync)(self._fd)

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


def hash_files(
    paths: Iterable[Path],
    progress: Progress | None = None,
    *,
    remembered: Remembered | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Mapping[Path, str]:
    """The digest of every file, several read at once; ``progress`` is told bytes done and bytes in all.

    Files that are ``remembered`` are not read. ``meanwhile`` is called, in the caller's thread, while others are.
    """
    files = list(paths)
    memory = remembered or Remembered(None)
    known = {path: memory.find(path) for path in files}
    unknown = [path for path, found in known.items() if found is None]
    if not unknown:
        return {path: found for path, found in known.items() if found is not None}
    with storage("read", unknown[0].parent):
        total = sum(path.stat().st_size for path in unknown)
    done, stopped = dict.fromkeys(unknown, 0), threading.Event()

    def read(path: Path) -> tuple[Stamp, int, str]:
        hasher, began = hashlib.sha256(), time.time_ns()
        with storage("read", path):
            before = stamp(path.stat())
        for chunk in read_chunks(path):
            if stopped.is_set():
                break
            hasher.update(chunk)
            done[path] += len(chunk)
        return before, began, PREFIX + hasher.hexdigest()

    with ThreadPoolExecutor(min(_READERS, len(unknown), os.cpu_count() or 1)) as pool:
        under_way = {path: pool.submit(read, path) for path in unknown}
        try:
            if meanwhile is not None:
                meanwhile()
            while wait(under_way.values(), _TOLD_S, FIRST_EXCEPTION).not_done:
                if any(each.done() and each.exception() for each in under_way.values()):
                    break
                if progress is not None:
                    progress(sum(done.values()), total)
            found = {path: each.result() for path, each in under_way.items()}
        finally:
            stopped.set()
    if progress is not None:
        progress(total, total)
    with storage("read", unknown[0].parent):
        memory.keep({path: seen for path, seen in found.items() if seen[0] == stamp(path.stat())})
    return {path: known[path] or found[path][2] for path in files}


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
