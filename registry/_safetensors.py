"""The safetensors container: a header that is checked before anything is allocated, and a writer with fixed bytes.

A file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes. Everything the header says
is held against the file's size first, and the tensors must cover the rest of the file without gap or overlap, so
a header can neither ask for memory that the file does not back nor hide bytes from the digest.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from registry.errors import Refused

NAME = "adapter_model.safetensors"
HEADER_LIMIT = 25 * 2**20
MOST_TENSORS = 200_000
LONGEST_NAME = 512
MOST_DIMENSIONS = 8

DTYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "U64": ("uint64", 8),
    "I32": ("int32", 4),
    "U32": ("uint32", 4),
    "I16": ("int16", 2),
    "U16": ("uint16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}
"""Names in the file to torch's names and bytes per element."""

_CODES = {name: code for code, (name, _) in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A stored tensor: its dtype as torch names it, and where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """The entries of a file, by name as stored. Raises ``Refused`` for anything malformed or truncated."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8:
            _refuse("it is truncated or no safetensors file")
        if not 2 <= length <= HEADER_LIMIT:
            _refuse(f"its header has {length} bytes, at most {HEADER_LIMIT} are read")
        raw = file.read(length)
    if raw[:1] != b"{":  # as the format asks for; other readers would stumble over it
        _refuse("its header is no JSON object")
    header = parse_object(raw, f"the header of {NAME}")
    _require_strings(header.pop("__metadata__", {}))
    if len(header) > MOST_TENSORS:
        _refuse(f"it holds {len(header)} tensors, at most {MOST_TENSORS} are read")
    entries = {name: _entry(name, value, 8 + length) for name, value in header.items()}
    _require_whole(entries, 8 + length, size)
    return entries


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object from hostile bytes: UTF-8, no duplicate keys, no NaN. Raises ``Refused``."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=lambda pairs: _unique(pairs, what),
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} is no sound JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(f"{what} is no JSON object")
    return value


def write(path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]]) -> None:
    """Write ``(name, dtype, shape, bytes)`` in the order given, without holding more than one, and fsync.

    The bytes depend on nothing but the arguments. The header comes first but is known last, so tensors wait in an
    unnamed file beside the target.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    with tempfile.TemporaryFile(dir=path.parent) as body:
        for name, dtype, shape, data in tensors:
            begin = body.tell()
            body.write(data)
            header[name] = {
                "dtype": _CODES[dtype],
                "shape": list(shape),
                "data_offsets": [begin, body.tell()],
            }
        body.seek(0)
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors start aligned
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(body, file, 2**20)
            sync(file)


def _require_strings(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse("its metadata are malformed")


def sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _entry(name: str, value: Any, start: int) -> Entry:
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        _refuse(f"it holds a tensor with an unusable name: {name[:64]!r}")
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
            len(value) == 3
        ):
            pass
        case _:
            _refuse(f"the header entry of tensor {name} is malformed")
    if dtype not in DTYPES:
        _refuse(f"tensor {name} has the unknown dtype {dtype[:32]!r}")
    if len(shape) > MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
        _refuse(f"the header entry of tensor {name} is malformed")
    torch_name, width = DTYPES[dtype]
    if end - begin != math.prod(shape) * width:
        _refuse(f"tensor {name} of shape {shape} cannot have {end - begin} bytes")
    return Entry(torch_name, tuple(shape), start + begin, start + end)


def _require_whole(entries: Mapping[str, Entry], start: int, size: int) -> None:
    position = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            _refuse(f"tensor {name} overlaps another or follows a gap")
        position = entry.end
    if position > size:
        _refuse(f"it is truncated: {size} bytes where its header promises {position}")
    if position < size:
        _refuse(f"{size - position} bytes follow its last tensor")


def _unique(pairs: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(f"{what} has the key {key[:64]!r} twice")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _refuse(why: str) -> NoReturn:
    raise Refused(f"{NAME} cannot be read: {why}", hint="fetch or save the adapter again")


def chunks(view: memoryview, size: int = 2**22) -> Iterator[memoryview]:
    """``view`` in pieces."""
    for start in range(0, len(view), size):
        yield view[start : start + size]
