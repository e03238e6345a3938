"""The safetensors container: a header that is checked before anything is allocated, and a writer with fixed bytes.

A file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes. Everything the header says
is held against the file's size first, and the tensors must cover the rest of the file without gap or overlap, so
a header can neither ask for memory that the file does not back nor hide bytes from the digest.

Callers say how a file is named in messages, how much of it may be header, and what to do about a broken one.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from registry._paths import NotRegular, open_regular
from registry.errors import Refused

MOST_TENSORS = 200_000
LONGEST_NAME = 512
MOST_DIMENSIONS = 8
DEEPEST = 100

_PREFIX = 8  # the header's length, before it
_ENTRY = 160  # what an entry holds beside its name: dtype, shape and two offsets
_BEHIND = 8  # tensors hashed and written behind the one being made
_CHUNK = 1 << 20
_GLANCE = 1 << 12  # bytes that tell most tensors apart
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

DTYPES: Mapping[str, tuple[str, int]] = {
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
"""Codes in the file to torch's names and bits per element. Neither column repeats, so either names the dtype."""

CODE_OF = {name: code for code, (name, _) in DTYPES.items()}
BITS_OF = dict(DTYPES.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored tensor: its dtype as torch names it, and where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Unsound(Exception):
    """What is wrong with a file, for a sentence that starts with its name."""


def data_size(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor; dtypes of less than a byte are packed."""
    return math.prod(shape) * BITS_OF[dtype] // 8


def read_header(path: Path, *, name: str, limit: int, hint: str) -> dict[str, Entry]:
    """The entries of a file by tensor name, in the order of their bytes.

    Raises ``Refused``, calling the file ``name``, for one that is not regular, truncated, malformed, or has a
    header of more than ``limit`` bytes.
    """
    with _open(path, name, hint) as file:
        try:
            return _entries(file, limit)
        except _Unsound as error:
            raise Refused(f"{name} cannot be read: {error}", hint=hint) from None


def read_object(path: Path, *, name: str, limit: int, hint: str, constants: bool = False) -> dict[str, Any]:
    """The JSON object in a file: UTF-8, no key twice, no NaN or infinity unless ``constants``.

    Raises ``Refused``, calling the file ``name``, for anything else and for more than ``limit`` bytes.
    """
    with _open(path, name, hint) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise Refused(f"{name} is larger than {limit} bytes", hint=hint)
    return parse_object(raw, name=name, hint=hint, constants=constants)


def parse_object(raw: bytes, *, name: str, hint: str, constants: bool = False) -> dict[str, Any]:
    """As :func:`read_object`, of bytes that are at hand. Nothing in it is nested so deep that walking it would fail."""
    try:
        found = _object(raw, constants=constants)
        _require_shallow(found)
    except _Unsound as error:
        raise Refused(f"{name} {error}", hint=hint) from None
    return found


def encode_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """The first bytes of a file that holds ``(name, dtype, shape)`` in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + data_size(dtype, shape)
        header[name] = {"dtype": CODE_OF[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    return _framed(json.dumps(header, separators=(",", ":"), ensure_ascii=False))


@dataclass(frozen=True)
class Written:
    """What a writer saw go by: the sha256 of the file, and of each tensor's bytes, in hexadecimal.

    ``first`` are the file's first bytes, ``whole`` all of them, mapped, and ``places`` where a tensor's are among them.
    """

    sha256: str
    tensors: Mapping[str, str]
    first: bytes
    whole: mmap.mmap
    places: Mapping[str, tuple[int, int]]

    def digest(self, name: str, data: bytes | memoryview) -> str:
        """The sha256 of ``data``, which costs less where the tensor of this name has the same bytes."""
        begin, end = self.places.get(name, (0, -1))
        if end - begin == len(data) and self.whole[begin : min(end, begin + _GLANCE)] == data[:_GLANCE]:
            with memoryview(self.whole) as view, view[begin:end] as before:
                if _same(before, data):
                    return self.tensors[name]
        return _sha256(data)


Tensors = Iterable[tuple[str, str, tuple[int, ...], "bytes | memoryview"]]
"""``(name, dtype, shape, bytes)``."""


def write(path: Path, tensors: Tensors, *, room: int, like: Written | None = None) -> Written:
    """Write tensors in the order given, and fsync. Only a few are held at a time: hashing and writing run behind.

    The bytes depend on nothing but the arguments. ``room`` is how long the header may become, which is known last
    and comes first; what it does not need is filled with spaces, as the format allows. Raises ``ValueError`` where it
    needs more. What was written before and may be ``like`` this saves time only: where the header is the same, the
    file is hashed as it is written, and what has the same bytes is not hashed again.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    hashes: dict[str, Future[str]] = {}
    position, start = 0, _PREFIX + _aligned(room)
    state = hashlib.sha256(like.first if like else b"")
    digest = like.digest if like else lambda _, data: _sha256(data)
    with path.open("w+b", buffering=0) as file, ExitStack() as stack:
        hasher, writer, follower = (stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3))
        file.seek(start)
        behind: deque[Future[Any]] = deque()
        for name, dtype, shape, data in tensors:
            hashes[name] = hasher.submit(digest, name, data)
            behind += [hashes[name], writer.submit(_write_all, file, data)]
            if like:
                behind.append(follower.submit(state.update, data))
            end = position + len(data)
            header[name] = {"dtype": CODE_OF[dtype], "shape": list(shape), "data_offsets": [position, end]}
            position = end
            while len(behind) > _BEHIND:
                behind.popleft().result()
        for each in behind:
            each.result()
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        if len(text) > start - _PREFIX:
            raise ValueError(f"a header of {len(text)} bytes has only room for {room}")
        first = (start - _PREFIX).to_bytes(_PREFIX, "little") + text.ljust(start - _PREFIX)
        file.seek(0)
        _write_all(file, first)
        synced = writer.submit(os.fsync, file.fileno())
        if like is None or first != like.first:
            file.seek(0)
            state = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                state.update(chunk)
        synced.result()
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    offsets = {name: header[name]["data_offsets"] for name in hashes}
    places = {name: (start + begin, start + end) for name, (begin, end) in offsets.items()}
    return Written(
        state.hexdigest(), {name: found.result() for name, found in hashes.items()}, first, whole, places
    )


def room_for(names: Iterable[str]) -> int:
    """Bytes that the header of a file needs at most, whatever the tensors' shapes."""
    return _ENTRY + sum(len(json.dumps(name)) + _ENTRY for name in names)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _same(a: memoryview, b: bytes | memoryview) -> bool:
    """Whether two of the same length hold the same bytes; memoryviews themselves compare them one by one."""
    import numpy as np

    words = len(a) // 8
    first, second = (np.frombuffer(each, np.uint64, words) for each in (a, b))
    return bool(np.array_equal(first, second)) and a[8 * words :] == b[8 * words :]


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_all(file: RawIOBase, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def chunks(view: memoryview, size: int = 2**22) -> Iterator[memoryview]:
    """``view`` in pieces."""
    for start in range(0, len(view), size):
        yield view[start : start + size]


def _open(path: Path, name: str, hint: str) -> BinaryIO:
    try:
        return open_regular(path)
    except NotRegular:
        raise Refused(f"{name} is no regular file", hint=hint) from None


def _framed(header: str) -> bytes:
    raw = header.encode()
    raw += b" " * (-len(raw) % 8)  # tensors start aligned, as readers that map the file expect
    return len(raw).to_bytes(8, "little") + raw


def _object(raw: bytes, *, constants: bool) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=None if constants else _no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise _Unsound(f"is no sound JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Unsound("is no JSON object")
    if _SURROGATE.search(raw) is not None:  # half a character may be escaped, and could not be written again
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Unsound("holds half a character, which is no text") from None
    return value


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise _Unsound(f"is nested deeper than {DEEPEST}")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has the key {key[:64]!r} twice")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _entries(file: BinaryIO, limit: int) -> dict[str, Entry]:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        raise _Unsound("it is truncated or no safetensors file")
    if not 2 <= length <= limit:
        raise _Unsound(f"its header has {length} bytes, at most {limit} are read")
    raw = file.read(length)
    if raw[:1] != b"{":  # as the format asks for; other readers would stumble over it
        raise _Unsound("its header is no JSON object")
    try:
        header = _object(raw, constants=False)
    except _Unsound as error:
        raise _Unsound(f"its header {error}") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Unsound("its metadata are malformed")
    if len(header) > MOST_TENSORS:
        raise _Unsound(f"it holds {len(header)} tensors, at most {MOST_TENSORS} are read")
    entries = {name: _entry(name, value, 8 + length) for name, value in header.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _require_whole(entries, 8 + length, size)
    return entries


def _entry(name: str, value: Any, start: int) -> Entry:
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise _Unsound(f"it holds a tensor with an unusable name: {name[:64]!r}")
    match value:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end]} if (
            len(value) == 3 and len(shape) <= MOST_DIMENSIONS and all(map(_is_size, (*shape, begin, end)))
        ):
            pass
        case _:
            raise _Unsound(f"the header entry of tensor {name} is malformed")
    if code not in DTYPES:
        raise _Unsound(f"tensor {name} has the unknown dtype {code[:32]!r}")
    dtype, bits = DTYPES[code]
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise _Unsound(f"tensor {name} of shape {shape} and dtype {code} cannot have {end - begin} bytes")
    return Entry(dtype, tuple(shape), start + begin, start + end)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _require_whole(entries: Mapping[str, Entry], start: int, size: int) -> None:
    position = start
    for name, entry in entries.items():
        if entry.begin != position:
            raise _Unsound(f"tensor {name} overlaps another or follows a gap")
        position = entry.end
    if position > size:
        raise _Unsound(f"it is truncated: {size} bytes where its header promises {position}")
    if position < size:
        raise _Unsound(f"{size - position} bytes follow its last tensor")
