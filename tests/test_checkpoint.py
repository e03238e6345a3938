from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from registry import _remembered, _shards
from registry._remembered import Remembered
from registry.checkpoint import BaseCheckpoint, open_base
from registry.errors import Incompatible, NotFound, Refused, RegistryError, StorageFailure
from registry.kinds import Module

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}


def make(folder: Path, tensors: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    entries = {key: value for key, value in {**CONFIG, **config}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(entries))
    return folder


def shard(folder: Path, parts: dict[str, dict[str, Tensor]], **config: Any) -> Path:
    make(folder, {}, **config)
    (folder / "model.safetensors").unlink()
    for name, tensors in parts.items():
        save_file(tensors, folder / name)
    write_index(folder, {key: name for name, tensors in parts.items() for key in tensors})
    return folder


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def raw_file(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    make(folder, {})
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + text + data)
    return folder


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1] if shape is None else shape, "data_offsets": [begin, end]}


def linear(name: str, out: int = 4, features: int = 6) -> dict[str, Module]:
    return {name: Module(name, {}, (out, features), rank=1)}


def vector(name: str, size: int, *, feedforward: bool = False) -> dict[str, Module]:
    return {name: Module(name, {}, (size,), feedforward=feedforward)}


def refusal(folder: Path) -> str:
    with pytest.raises(Refused) as caught:
        open_base(folder)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_single_file_is_indexed_in_file_order(tmp_path: Path) -> None:
    base = open_base(make(tmp_path / "b", {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}))
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in base.tensors.values()] == [
        ("a", "float32", (2, 3), 24),
        ("b", "bfloat16", (4,), 8),
    ]
    assert base.tensors["b"].offset == base.tensors["a"].offset + 24
    assert base.shards == ("model.safetensors",)
    assert not base.indexed


def test_shards_are_found_through_the_index_and_may_be_links(tmp_path: Path) -> None:
    folder = shard(
        tmp_path / "b", {"x.safetensors": {"a": torch.ones(2)}, "y.safetensors": {"b": torch.ones(2)}}
    )
    blob = tmp_path / "blob"
    (folder / "x.safetensors").rename(blob)
    (folder / "x.safetensors").symlink_to(blob)
    base = open_base(folder)
    assert {t.name: t.shard for t in base.tensors.values()} == {"a": "x.safetensors", "b": "y.safetensors"}
    assert base.indexed


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        open_base(tmp_path / "nowhere")


def test_pickles_are_refused_with_the_way_to_convert(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Refused, match="pickle") as caught:
        open_base(tmp_path)
    assert "save_pretrained" in str(caught.value.hint)


def test_an_adapter_is_no_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refusal(tmp_path)


def test_an_empty_folder_holds_no_weights(tmp_path: Path) -> None:
    assert "neither model.safetensors" in refusal(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = shard(
        tmp_path / "b", {"x.safetensors": {"a": torch.ones(2)}, "y.safetensors": {"b": torch.ones(2)}}
    )
    (folder / "y.safetensors").unlink()
    assert "lacks the shard y.safetensors" in refusal(folder)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = shard(
        tmp_path / "b", {"x.safetensors": {"a": torch.ones(2)}, "y.safetensors": {"b": torch.ones(2)}}
    )
    os.truncate(folder / "y.safetensors", (folder / "y.safetensors").stat().st_size - 1)
    message = refusal(folder)
    assert "y.safetensors" in message
    assert "truncated" in message


@pytest.mark.parametrize("name", ["../x.safetensors", "a/b.safetensors", "..", ".x.safetensors", "x.bin", 3])
def test_an_index_names_only_files_beside_it(tmp_path: Path, name: Any) -> None:
    folder = shard(tmp_path / "b", {"x.safetensors": {"a": torch.ones(2)}})
    write_index(folder, {"a": name})
    assert "names" in refusal(folder)


def test_an_index_must_agree_with_its_shards(tmp_path: Path) -> None:
    folder = shard(
        tmp_path / "b", {"x.safetensors": {"a": torch.ones(2)}, "y.safetensors": {"b": torch.ones(2)}}
    )
    write_index(folder, {"a": "x.safetensors", "b": "x.safetensors"})
    assert "lacks the tensor 'b'" in refusal(folder)
    write_index(folder, [])
    assert "no weight_map" in refusal(folder)
    save_file({"a": torch.ones(2)}, folder / "y.safetensors")
    write_index(folder, {"a": "x.safetensors", "b": "y.safetensors"})
    assert "both hold 'a'" in refusal(folder)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry(0, 4), "b": entry(2, 6)}, 6, "overlaps"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, 12, "gap"),
        ({"a": entry(0, 4)}, 5, "1 bytes follow its last tensor"),
        ({"a": entry(0, 4)}, 3, "truncated"),
        ({"a": entry(0, 8)}, 8, "tensor a of shape [1] and dtype F32 cannot have 8 bytes"),
        ({"a": entry(0, 4, dtype="F31")}, 4, "unknown dtype"),
        ({"a": entry(0, 4, shape=[-1])}, 4, "malformed"),
        ({"a": entry(0, 4, shape=[True])}, 4, "malformed"),
        ({"a": entry(0, 4, shape=[2**70])}, 4, "malformed"),
        ({"a": entry(4, 0, shape=[-1])}, 4, "malformed"),
        ({"a": {"dtype": "F32"}}, 4, "malformed"),
        ({"a\n": entry(0, 4)}, 4, "unusable name"),
        ({"__metadata__": {"format": 1}}, 0, "its metadata are malformed"),
        (b"[]", 0, "its header is no JSON object"),
        (b"{ ", 0, "its header is no sound JSON"),
        (b'{"a":' + b"[" * 100_000, 0, "its header is no sound JSON"),
        (b'{"a": 1, "a": 2}', 0, "it has the key 'a' twice"),
    ],
)
def test_a_malformed_header_is_refused(tmp_path: Path, header: Any, data: int, words: str) -> None:
    folder = raw_file(tmp_path / "b", header, bytes(data))
    message = refusal(folder)
    assert message.startswith(f"{folder / 'model.safetensors'} cannot be read: ")
    assert words in message


@pytest.mark.parametrize("length", [2**63, 2**40, 1000])
def test_a_header_longer_than_its_file_is_refused_unread(tmp_path: Path, length: int) -> None:
    assert "truncated" in refusal(raw_file(tmp_path / "b", {}, length=length))


def test_a_header_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    folder = raw_file(tmp_path / "b", {}, length=101 << 20)
    os.truncate(folder / "model.safetensors", 200 << 20)
    assert f"its header has {101 << 20} bytes, at most {100 << 20} are read" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "b", {})
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder) == f"{folder / name} is no regular file"


def test_the_config_is_needed_and_bounded(tmp_path: Path) -> None:
    folder = make(tmp_path / "b", {"a": torch.ones(2)})
    (folder / "config.json").write_text('"' + " " * (1 << 20) + '"')
    assert "larger than" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert refusal(folder) == f"{folder / 'config.json'} is no JSON object"
    (folder / "config.json").write_text('{"a": 1, "a": 2}')
    assert refusal(folder) == f"{folder / 'config.json'} is no sound JSON: it has the key 'a' twice"
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


def test_a_config_may_hold_infinity_as_mamba_does(tmp_path: Path) -> None:
    base = open_base(make(tmp_path / "b", {"a": torch.ones(2)}, time_step_limit=[0.0, float("inf")]))
    assert base.config["time_step_limit"] == [0.0, float("inf")]


def test_the_fingerprint_is_of_the_weight_files_whatever_their_names(tmp_path: Path) -> None:
    a, b = {"a": torch.ones(2)}, {"b": torch.ones(2)}
    one = open_base(shard(tmp_path / "1", {"x.safetensors": a, "y.safetensors": b}))
    two = open_base(shard(tmp_path / "2", {"p.safetensors": b, "q.safetensors": a}, extra="other config"))
    three = open_base(shard(tmp_path / "3", {"x.safetensors": a, "y.safetensors": {"b": torch.zeros(2)}}))
    seen: list[tuple[int, int]] = []
    assert one.fingerprint(lambda done, total: seen.append((done, total))) == two.fingerprint()
    assert one.fingerprint() != three.fingerprint()
    assert one.fingerprint().startswith("sha256:")
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_remembered_fingerprint_costs_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remembered, "SETTLED_NS", 0)
    base = open_base(make(tmp_path / "b", {"a": torch.ones(2)}))
    time.sleep(0.02)
    size = (base.folder / "model.safetensors").stat().st_size
    called: list[str] = []
    memory = tmp_path / "memory.json"
    assert base.unknown(Remembered(memory)) == size
    first = base.fingerprint(remembered=Remembered(memory), meanwhile=lambda: called.append("meanwhile"))
    assert base.unknown(Remembered(memory)) == 0
    again = base.fingerprint(
        lambda *_: called.append("read"),
        remembered=Remembered(memory),
        meanwhile=lambda: called.append("again"),
    )
    assert (again, called) == (first, ["meanwhile"])
    assert base.fingerprint() == first


def test_a_shard_that_is_gone_is_a_storage_failure(tmp_path: Path) -> None:
    base = open_base(shard(tmp_path / "b", {f"{i}.safetensors": {str(i): torch.ones(2)} for i in range(3)}))
    (base.folder / "1.safetensors").unlink()
    with pytest.raises(StorageFailure, match="No such file"):
        base.fingerprint()


def test_a_failing_disk_ends_the_reading_of_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = open_base(shard(tmp_path / "b", {f"{i}.safetensors": {str(i): torch.ones(2)} for i in range(3)}))

    def read(path: Path) -> Iterator[memoryview]:
        if path.name == "1.safetensors":
            raise StorageFailure("cannot read it")
        for _ in range(1000):  # the others would take long
            time.sleep(0.01)
            yield memoryview(b"weights")

    monkeypatch.setattr(_shards, "read_chunks", read)
    with pytest.raises(StorageFailure, match="cannot read it"):
        base.fingerprint(lambda *_: None)


def opened(folder: Path, names: Mapping[str, tuple[int, ...]], **config: Any) -> BaseCheckpoint:
    return open_base(make(folder, {name: torch.zeros(shape) for name, shape in names.items()}, **config))


@pytest.mark.parametrize(
    ("stored", "module"),
    [("model.h.q", "model.h.q"), ("h.q", "model.h.q"), ("model.h.q", "h.q")],
    ids=["exact", "stripped", "added"],
)
def test_names_resolve_up_to_a_leading_component(tmp_path: Path, stored: str, module: str) -> None:
    base = opened(tmp_path / "b", {f"{stored}.weight": (4, 6)})
    target = base.resolve(linear(module))[module]
    assert (target.tensor, target.source, target.transposed) == (
        f"{stored}.weight",
        f"{stored}.weight",
        False,
    )


def test_one_rule_holds_for_all_modules(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"a.q.weight": (4, 6), "model.b.q.weight": (4, 6)})
    with pytest.raises(Incompatible, match=r"'b\.q'.*no tensor 'b\.q\.weight'"):
        base.resolve(linear("a.q") | linear("b.q"))


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"x.a.q.weight": (4, 6), "y.a.q.weight": (4, 6)})
    with pytest.raises(Incompatible, match=r"could be 'x\.a\.q' and 'y\.a\.q'"):
        base.resolve(linear("a.q"))


def test_a_wrong_shape_names_module_tensor_and_both_shapes(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"a.q.weight": (4, 5)})
    with pytest.raises(Incompatible, match=r"'a\.q' has shape \(4, 6\) .*'a\.q\.weight' is \(4, 5\)"):
        base.resolve(linear("a.q"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_a_quantized_target_is_refused_by_name(tmp_path: Path, dtype: torch.dtype) -> None:
    base = open_base(make(tmp_path / "b", {"a.q.weight": torch.zeros(4, 6).to(dtype)}))
    with pytest.raises(Refused, match=r"'a\.q\.weight'.*is quantized"):
        base.resolve(linear("a.q"))


def test_a_module_without_float_weights_in_a_quantized_base_is_refused(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"a.q.qweight": (4, 6)}, quantization_config={"bits": 4})
    with pytest.raises(Refused, match="which is quantized"):
        base.resolve(linear("a.q"))


@pytest.mark.parametrize("flag", [True, False, None])
def test_conv1d_families_decide_whatever_the_flag(tmp_path: Path, flag: bool | None) -> None:
    names = {"h.0.c_proj.weight": (4, 4), "h.0.lin.weight": (4, 4), "h.0.c_fc.weight": (6, 4)}
    base = opened(tmp_path / "b", names, model_type="gpt2")
    modules = linear("h.0.c_proj", 4, 4) | linear("h.0.lin", 4, 4) | linear("h.0.c_fc", 4, 6)
    targets = base.resolve(modules, fan_in_fan_out=flag)
    assert [t.transposed for t in targets.values()] == [True, False, True]


def test_the_shape_contradicting_a_conv1d_family_is_refused(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"h.0.c_fc.weight": (4, 6)}, model_type="gpt2")
    with pytest.raises(Incompatible):
        base.resolve(linear("h.0.c_fc", 4, 6))


@pytest.mark.parametrize(
    ("shape", "flag", "transposed"),
    [
        ((6, 4), True, True),
        ((6, 4), None, True),
        ((4, 6), True, False),
        ((4, 6), None, False),
        ((6, 4), False, None),
    ],
)
def test_in_other_families_shape_and_flag_decide(
    tmp_path: Path, shape: tuple[int, int], flag: bool | None, transposed: bool | None
) -> None:
    base = opened(tmp_path / "b", {"a.q.weight": shape}, model_type="unheard-of")
    if transposed is None:
        with pytest.raises(Incompatible):
            base.resolve(linear("a.q"), fan_in_fan_out=flag)
    else:
        assert base.resolve(linear("a.q"), fan_in_fan_out=flag)["a.q"].transposed is transposed


@pytest.mark.parametrize("flag", [True, False, None])
def test_the_flag_decides_for_square_weights(tmp_path: Path, flag: bool | None) -> None:
    base = opened(tmp_path / "b", {"a.q.weight": (4, 4)}, model_type="unheard-of")
    assert base.resolve(linear("a.q", 4, 4), fan_in_fan_out=flag)["a.q"].transposed is bool(flag)


def test_a_vector_must_fit_the_side_it_scales(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"a.q.weight": (4, 6)})
    assert not base.resolve(vector("a.q", 4))["a.q"].transposed
    assert not base.resolve(vector("a.q", 6, feedforward=True))["a.q"].transposed
    assert not base.resolve(vector("a.q", 4), fan_in_fan_out=True)["a.q"].transposed
    for flag in (False, None):
        with pytest.raises(Incompatible):
            base.resolve(vector("a.q", 6), fan_in_fan_out=flag)


def test_convolutions_and_embeddings_are_checked_by_their_own_shapes(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"c.weight": (8, 3, 2, 2), "e.weight": (10, 4)})
    conv = Module("c", {}, (8, 12), form="conv", kernel=(2, 2))
    table = Module("e", {}, (4, 10), form="embedding")
    assert set(base.resolve({"c": conv, "e": table})) == {"c", "e"}
    for wrong in (
        Module("c", {}, (8, 12), form="conv", kernel=(4, 1)),
        Module("e", {}, (10, 4), form="embedding"),
    ):
        with pytest.raises(Incompatible):
            base.resolve({wrong.name: wrong})


@pytest.mark.parametrize("architectures", [["StrangeForCausalLM"], None])
def test_an_embedding_tied_in_an_unknown_way_is_refused(
    tmp_path: Path, architectures: list[str] | None
) -> None:
    names = {"strange.tokens.weight": (10, 4), "strange.positions.weight": (8, 4)}
    config = {"architectures": architectures, "tie_word_embeddings": None, "vocab_size": 10}
    base = opened(tmp_path / "b", names, **config)
    tokens = {"strange.tokens": Module("strange.tokens", {}, (4, 10), form="embedding")}
    positions = {"strange.positions": Module("strange.positions", {}, (4, 8), form="embedding")}
    assert base.resolve(positions)
    with pytest.raises(Refused, match="is not known") as caught:
        base.resolve(tokens)
    assert "tie_word_embeddings=false" in str(caught.value.hint)
    untied = opened(tmp_path / "u", names, **{**config, "tie_word_embeddings": False})
    assert untied.resolve(tokens)


def test_a_head_of_an_unknown_tie_is_refused(tmp_path: Path) -> None:
    names = {"strange.tokens.weight": (10, 4)}
    base = opened(tmp_path / "b", names, architectures=["StrangeForCausalLM"], tie_word_embeddings=True)
    with pytest.raises(Refused, match="does not store"):
        base.resolve(linear("lm_head", 10, 4))


def test_a_tied_head_comes_from_the_embedding(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"model.embed_tokens.weight": (10, 4)}, tie_word_embeddings=True)
    target = base.resolve(linear("lm_head", 10, 4))["lm_head"]
    assert (target.tensor, target.source) == ("lm_head.weight", "model.embed_tokens.weight")


def test_two_modules_cannot_change_one_tensor(tmp_path: Path) -> None:
    base = opened(tmp_path / "b", {"q.weight": (4, 6)})
    with pytest.raises(RegistryError, match="both change"):
        base.resolve(linear("model.q") | linear("q"))
