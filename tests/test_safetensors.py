"""The container is hostile: every header is held against the file before anything is allocated."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import _safetensors
from registry._safetensors import DTYPES, read_header
from registry.errors import Refused
from registry.peft_format import TENSORS, read
from tests.adapters import make_lora


def container(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is truncated or no safetensors file"),
        (b"abc", "it is truncated or no safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "it is truncated or no safetensors file"),
        (container({"x": entry()}, b"\0" * 4), "it is truncated: "),
        (container({"x": entry()}, b"\0" * 12), "4 bytes follow its last tensor"),
        (
            container({"x": entry(shape=[3])}, b"\0" * 8),
            "tensor x of shape [3] and dtype F32 cannot have 8 bytes",
        ),
        (container({"x": entry(shape=[-2])}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (container({"x": entry(shape=[2.0])}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (container({"x": entry(shape=[True, 2])}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (container({"x": entry(shape=[1] * 9)}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (
            container({"x": entry(data_offsets=[8, 0])}, b"\0" * 8),
            "tensor x of shape [2] and dtype F32 cannot have -8 bytes",
        ),
        (
            container({"x": entry(data_offsets=[4, 12])}, b"\0" * 12),
            "tensor x overlaps another or follows a gap",
        ),
        (container({"x": entry(), "y": entry()}, b"\0" * 8), "tensor y overlaps another or follows a gap"),
        (container({"x": entry(dtype="F7")}, b"\0" * 8), "tensor x has the unknown dtype 'F7'"),
        (container({"x": {**entry(), "more": 1}}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (container({"x": 3}), "the header entry of tensor x is malformed"),
        (container({"a\u001b[31m": entry()}, b"\0" * 8), "it holds a tensor with an unusable name"),
        (container({"a\n": entry()}, b"\0" * 8), "it holds a tensor with an unusable name"),
        (container({"a" * 600: entry()}, b"\0" * 8), "it holds a tensor with an unusable name"),
        (container({"": entry()}, b"\0" * 8), "it holds a tensor with an unusable name"),
        (container({"x": entry(shape=[2**62, 2**62])}, b"\0" * 8), "tensor x of shape "),
        (container({"x": entry(shape=[0, 2**63])}, b"\0" * 8), "the header entry of tensor x is malformed"),
        (
            container({"x": entry(dtype="F4", shape=[3], data_offsets=[0, 1])}, b"\0"),
            "tensor x of shape [3] and dtype F4 cannot have 1 bytes",
        ),
    ],
)
def test_unsound_containers_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    make_lora(tmp_path)
    (tmp_path / TENSORS).write_bytes(content)
    with pytest.raises(Refused) as caught:
        read(tmp_path)
    assert caught.value.message.startswith(f"adapter_model.safetensors cannot be read: {message}")
    assert caught.value.hint == "fetch or save the adapter again"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "its header is no JSON object"),
        (b" {}", "its header is no JSON object"),
        (b'{"__metadata__":{"x":1}}', "its metadata are malformed"),
        (b'{"__metadata__":[]}', "its metadata are malformed"),
        (b'{"x":1,"x":2}', "its header is no sound JSON: it has the key 'x' twice"),
        (b'{"x":NaN}', "its header is no sound JSON: NaN is no JSON number"),
        (b'{"\xff":1}', "its header is no sound JSON"),
        (b"{{", "its header is no sound JSON"),
        (b'{"x":' + b"[" * 100_000, "its header is no sound JSON"),
    ],
)
def test_unsound_headers_are_refused(tmp_path: Path, header: bytes, message: str) -> None:
    make_lora(tmp_path)
    (tmp_path / TENSORS).write_bytes(container(header))
    with pytest.raises(Refused) as caught:
        read(tmp_path)
    assert caught.value.message.startswith(f"adapter_model.safetensors cannot be read: {message}")
    assert "\n" not in caught.value.message


def test_too_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_safetensors, "MOST_TENSORS", 1)
    make_lora(tmp_path)
    with pytest.raises(Refused, match="tensors, at most 1 are read"):
        read(tmp_path)


@pytest.mark.parametrize(("code", "name", "bits"), [(code, *dtype) for code, dtype in DTYPES.items()])
def test_every_dtype_is_read_packed(tmp_path: Path, code: str, name: str, bits: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(container({"x": entry(dtype=code, shape=[2, 4], data_offsets=[0, bits])}, bytes(bits)))
    found = read_header(path, name="x", limit=100, hint="")["x"]
    assert (found.dtype, found.shape, found.end - found.begin) == (name, (2, 4), bits)


def test_entries_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(container({"b": entry(data_offsets=[8, 16]), "a": entry()}, bytes(16)))
    assert list(read_header(path, name="x", limit=200, hint="")) == ["a", "b"]


def test_a_header_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    make_lora(tmp_path)
    with (tmp_path / TENSORS).open("wb") as file:
        file.write(struct.pack("<Q", 2**34))
        file.truncate(2**35)  # sparse
    with pytest.raises(Refused, match="its header has 17179869184 bytes"):
        read(tmp_path)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damage_anywhere_in_the_header_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray((make_lora(folder) / TENSORS).read_bytes())
    end = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    (folder / TENSORS).write_bytes(whole)
    with suppress(Refused):
        read(folder)


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = make_lora(tmp_path) / TENSORS
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(Refused, match="it is truncated"):
        read(tmp_path)


Stored = dict[str, bytes]
STORED = st.dictionaries(
    st.sampled_from("abcdef"), st.binary(max_size=40).map(lambda raw: raw * 200), max_size=5
)


def written(file: Path, tensors: Stored, like: _safetensors.Written | None = None) -> _safetensors.Written:
    items = ((name, "uint8", (len(data),), data) for name, data in tensors.items())
    return _safetensors.write(file, items, room=_safetensors.room_for("abcdef"), like=like)


@settings(max_examples=60, deadline=None)
@given(before=STORED, change=st.sampled_from("abcdef"), after=STORED, fresh=st.booleans())
def test_what_was_written_before_changes_nothing_of_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, before: Stored, change: str, after: Stored, fresh: bool
) -> None:
    folder = tmp_path_factory.mktemp("written")
    like = written(folder / "before", before)
    (folder / "before").unlink()  # it was moved since, or is gone
    new = after if fresh else {**before, change: bytes(reversed(before.get(change, b"")))}
    plain, told = written(folder / "plain", new), written(folder / "told", new, like)
    content = (folder / "told").read_bytes()
    assert content == (folder / "plain").read_bytes()
    assert told.sha256 == plain.sha256 == hashlib.sha256(content).hexdigest()
    assert told.tensors == {name: hashlib.sha256(data).hexdigest() for name, data in new.items()}
    assert told.tensors == plain.tensors
