from __future__ import annotations

import errno
import hashlib
import json
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry import _companions, _patch, _stream, digest, methods
from registry.checkpoint import open_base
from registry.deltas import Delta, Dense, LowRank, Rescaling, Rows
from registry.errors import Conflict, Incompatible, Refused, StorageFailure, UsageError
from registry.kinds import Kind, Module
from registry.kinds.ia3 import Ia3
from registry.kinds.lora import Lora
from registry.merge import MergedModel, free_space_check, merge_into_base
from registry.methods import Site, _blocks
from tests.models import load_tensors

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that small tensors are cut too."""
    monkeypatch.setattr(_stream, "_BLOCK", {"cpu": 100})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    folder = tmp_path / "base"
    folder.mkdir()
    first = {
        "a.q.weight": normal(20, 12),
        "a.q.bias": normal(20),
        "a.other.weight": normal(8, 8, dtype=torch.float16),
        "a.mask": torch.arange(7),
        "a.empty": torch.zeros(0, 3),
    }
    second = {
        "b.down.weight": normal(12, 20, dtype=torch.bfloat16),
        "b.conv.weight": normal(6, 3, 2, 2),
        "b.table.weight": normal(30, 8),
        "b.flags": torch.tensor([True, False, True]),
    }
    save_file(first, folder / "one.safetensors")
    save_file(second, folder / "two.safetensors")
    weight_map = dict.fromkeys(first, "one.safetensors") | dict.fromkeys(second, "two.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def low(out: int, features: int, form: Any = "linear", kernel: tuple[int, ...] = ()) -> LowRank:
    generator = torch.Generator().manual_seed(out * 100 + features)
    up, down = torch.randn(out, 2, generator=generator), torch.randn(2, features, generator=generator)
    return LowRank(up, down, 0.5, form, kernel)


LORA = {
    "a.q": low(20, 12),
    "b.down": low(12, 20),
    "b.conv": low(6, 12, "conv", (2, 2)),
    "b.table": low(8, 30, "embedding"),
}


def module_of(name: str, delta: Delta) -> Module:
    if isinstance(delta, LowRank):
        return Module(name, {}, delta.shape, delta.rank, delta.scale, delta.form, delta.kernel)
    assert isinstance(delta, Rescaling)
    return Module(name, {}, delta.shape, feedforward=delta.feedforward)


def run(base: Path, adapter: dict[str, Any], out: Path, **options: Any) -> MergedModel:
    kind: Kind = Ia3() if isinstance(next(iter(adapter.values())), Rescaling) else Lora()
    modules = {name: module_of(name, delta) for name, delta in adapter.items()}
    out.mkdir(exist_ok=True)
    options = {"deltas": adapter.__getitem__, "device": CPU, **options}
    return merge_into_base(open_base(base), kind=kind, modules=modules, out=out, **options)


def change(delta: LowRank) -> Tensor:
    return delta.scale * (delta.up @ delta.down)


def test_every_form_of_lora_changes_its_weight_and_nothing_else(base: Path, tmp_path: Path) -> None:
    run(base, LORA, tmp_path / "out")
    before, after = load_tensors(base), load_tensors(tmp_path / "out")
    expected = dict(before)
    expected["a.q.weight"] = before["a.q.weight"] + change(LORA["a.q"])
    expected["b.down.weight"] = (before["b.down.weight"].float() + change(LORA["b.down"])).bfloat16()
    expected["b.conv.weight"] = before["b.conv.weight"] + change(LORA["b.conv"]).view(6, 3, 2, 2)
    expected["b.table.weight"] = before["b.table.weight"] + change(LORA["b.table"]).T
    assert after.keys() == before.keys()
    for name, tensor in expected.items():
        assert after[name].dtype == before[name].dtype
        if name.removesuffix(".weight") in LORA:
            torch.testing.assert_close(after[name], tensor)
        else:
            assert torch.equal(after[name], before[name]), name


def test_ia3_scales_rows_and_bias_or_columns(base: Path, tmp_path: Path) -> None:
    rows, columns = torch.linspace(-1, 1, 20).double(), torch.linspace(0, 1, 20).double()
    deltas = {"a.q": Rescaling(rows, feedforward=False), "b.down": Rescaling(columns, feedforward=True)}
    run(base, deltas, tmp_path / "out")
    before, after = load_tensors(base), load_tensors(tmp_path / "out")
    scale = (1 + rows).float()
    torch.testing.assert_close(after["a.q.weight"], before["a.q.weight"] * scale[:, None])
    torch.testing.assert_close(after["a.q.bias"], before["a.q.bias"] * scale)
    scaled = before["b.down.weight"].float() * (1 + columns).float()
    assert torch.equal(after["b.down.weight"], scaled.bfloat16())


def test_a_float64_base_is_computed_in_float64(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    weight = torch.rand(20, 12, dtype=torch.float64)
    save_file({"a.q.weight": weight}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    delta = low(20, 12)
    run(folder, {"a.q": delta}, tmp_path / "out")
    expected = weight + 0.5 * (delta.up.double() @ delta.down.double())
    merged = load_tensors(tmp_path / "out")["a.q.weight"]
    torch.testing.assert_close(merged, expected, rtol=1e-14, atol=1e-14)


def test_the_layout_and_the_records_are_those_of_the_files(base: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    made = run(base, LORA, out, progress=lambda done, total: seen.append((done, total)))
    assert set(made.files) == {
        "one.safetensors",
        "two.safetensors",
        "config.json",
        "model.safetensors.index.json",
    }
    for name, record in made.files.items():
        data = (out / name).read_bytes()
        assert record.size == len(data)
        assert record.sha256 == "sha256:" + hashlib.sha256(data).hexdigest()
    assert made.digest == digest.of_json({name: record.sha256 for name, record in made.files.items()})
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert (
        index["weight_map"] == json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    )
    assert index["metadata"]["total_size"] == seen[-1][0] == seen[-1][1]
    assert json.loads((out / "config.json").read_text()) == CONFIG
    assert open_base(out).tensors.keys() == open_base(base).tensors.keys()


def test_the_same_merge_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    one, two = (run(base, LORA, tmp_path / name) for name in ("1", "2"))
    assert one == two
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


def test_a_dtype_is_for_all_float_tensors_and_for_the_config(base: Path, tmp_path: Path) -> None:
    (base / "config.json").write_text(
        json.dumps({**CONFIG, "dtype": "float32", "text_config": {"dtype": "float32"}})
    )
    run(base, LORA, tmp_path / "out", dtype="bfloat16")
    after = load_tensors(tmp_path / "out")
    kept = {"a.mask": torch.int64, "b.flags": torch.bool}
    assert {name: t.dtype for name, t in after.items()} == {n: kept.get(n, torch.bfloat16) for n in after}
    weight = load_tensors(base)["a.other.weight"]
    assert torch.equal(after["a.other.weight"], weight.bfloat16())
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["dtype"], config["text_config"]["dtype"]) == ("bfloat16", "bfloat16")
    run(base, LORA, tmp_path / "wide", dtype="float32")
    expected = load_tensors(base)["b.down.weight"].float() + change(LORA["b.down"])
    torch.testing.assert_close(load_tensors(tmp_path / "wide")["b.down.weight"], expected)


@pytest.mark.parametrize(("size", "count"), [(1, 9), (1500, 3), (10**9, 1)])
def test_a_shard_size_packs_anew(base: Path, tmp_path: Path, size: int, count: int) -> None:
    run(base, LORA, tmp_path / "plain")
    made = run(base, LORA, tmp_path / "out", max_shard_size=size)
    names = sorted(name for name in made.files if name.endswith(".safetensors"))
    single = ["model.safetensors"]
    assert names == (
        single if count == 1 else [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    )
    assert ("model.safetensors.index.json" in made.files) == (count > 1)
    plain, packed = load_tensors(tmp_path / "plain"), load_tensors(tmp_path / "out")
    assert plain.keys() == packed.keys()
    assert all(torch.equal(plain[name], packed[name]) for name in plain)
    assert open_base(tmp_path / "out").tensors.keys() == plain.keys()


def test_each_delta_is_asked_for_once_in_the_callers_thread(base: Path, tmp_path: Path) -> None:
    import threading

    asked: list[tuple[str, int]] = []

    def deltas(name: str) -> Delta:
        asked.append((name, threading.get_ident()))
        return LORA[name]

    run(base, LORA, tmp_path / "out", deltas=deltas)
    assert sorted(name for name, _ in asked) == sorted(LORA)
    assert {thread for _, thread in asked} == {threading.get_ident()}


def test_a_bias_that_cannot_change_costs_no_delta(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def deltas(name: str) -> Delta:
        asked.append(name)
        return LORA[name]

    monkeypatch.setattr(_patch, "_LIVE_DELTAS", 1)  # its weight's is gone once the bias is reached
    run(base, LORA, tmp_path / "out", deltas=deltas, max_shard_size=1)
    assert sorted(asked) == sorted(LORA)


def test_a_large_delta_is_gone_before_the_next_one_comes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_patch, "_LARGE", 0)
    made: list[weakref.ref[Tensor]] = []

    def deltas(name: str) -> Delta:
        assert not [found for found in made if found() is not None]
        weight = change(LORA[name])
        made.append(weakref.ref(weight))
        return Dense(weight, 2, form=LORA[name].form, kernel=LORA[name].kernel)

    run(base, LORA, tmp_path / "out", deltas=deltas)
    assert len(made) == len(LORA)
    run(base, LORA, tmp_path / "factors")
    found = load_tensors(tmp_path / "out")
    for name, tensor in load_tensors(tmp_path / "factors").items():
        torch.testing.assert_close(found[name], tensor)


@pytest.mark.parametrize("method", ["ties", "dare", "sce"])
@pytest.mark.parametrize("transposed", [False, True])
def test_what_a_method_makes_is_merged_row_by_row_as_if_it_were_whole(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, transposed: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)  # two compute at once
    monkeypatch.setattr(_blocks, "_ELEMENTS", 30)  # which are not the stream's blocks
    adapter = {"a.q": low(12, 20), "b.down": low(20, 12)} if transposed else LORA

    def merged(name: str) -> Dense:
        inputs = [adapter[name], replace(adapter[name], up=adapter[name].up.flip(0))]
        made = methods.build(method, {"density": "0.5"}).merge(inputs, [1.0, 0.5], Site(name, ["a", "b"]))
        assert isinstance(made.delta, Dense)
        return made.delta

    def whole(name: str) -> Dense:
        return replace(merged(name), values=merged(name).weight)

    options = {"fan_in_fan_out": True} if transposed else {}
    expected = run(base, adapter, tmp_path / "whole", deltas=whole, **options)
    if not transposed:
        monkeypatch.setattr(Dense, "_whole", property(lambda _: pytest.fail("it was computed whole")))
    assert run(base, adapter, tmp_path / "rows", deltas=merged, **options) == expected
    assert transposed or isinstance(merged("a.q").values, Rows)


def patching(monkeypatch: pytest.MonkeyPatch, before: Callable[[Tensor], object]) -> None:
    """Have ``before`` look at every block that a LoRA is about to change, in the thread that computes it."""
    real = Lora.patch

    def patch(self: Lora, delta: Delta, block: Tensor, row: int, *, transposed: bool) -> Tensor:
        before(block)
        return real(self, delta, block, row, transposed=transposed)

    monkeypatch.setattr(Lora, "patch", patch)


def test_a_block_is_computed_by_one_thread_whatever_the_process_has_chosen(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the bytes would depend on the number of processors."""
    seen: set[int] = set()
    patching(monkeypatch, lambda _: seen.add(torch.get_num_threads()))

    def deltas(name: str) -> Delta:
        torch.set_num_threads(2)
        return LORA[name]

    threads = torch.get_num_threads()
    run(base, LORA, tmp_path / "out", deltas=deltas)
    assert seen == {1}
    assert torch.get_num_threads() == threads


def test_processors_and_devices_do_not_change_the_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(base, LORA, tmp_path / "one")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(_stream, "_FLUSH", 200)
    assert run(base, LORA, tmp_path / "many") == expected
    used: list[torch.device] = []
    real = _patch.Patcher.apply

    def apply(self: _patch.Patcher, block: Any, memory: Tensor, change: _patch.Change, size: int) -> int:
        used.append(change.device)
        return real(self, block, memory, change, size)

    monkeypatch.setattr(_patch.Patcher, "apply", apply)
    workers = [torch.device("cpu:0"), torch.device("cpu:1")]
    assert run(base, LORA, tmp_path / "devices", device=workers) == expected
    assert set(used) == set(workers)


@pytest.mark.parametrize("large", [0, 1 << 20])
def test_several_files_at_once_ask_for_each_delta_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(_patch, "_LARGE", large)
    asked: list[str] = []

    def deltas(name: str) -> Delta:
        asked.append(name)
        return Dense(change(LORA[name]), 2, form=LORA[name].form, kernel=LORA[name].kernel)

    made = run(base, LORA, tmp_path / "one", deltas=deltas, max_shard_size=1)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert run(base, LORA, tmp_path / "many", deltas=deltas, max_shard_size=1) == made
    assert sorted(asked) == sorted([*LORA, *LORA])


def test_a_device_short_of_memory_takes_fewer_rows_at_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def before(block: Tensor) -> None:
        rows.append(len(block))
        if len(block) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    run(base, LORA, tmp_path / "plain")
    patching(monkeypatch, before)
    run(base, LORA, tmp_path / "out")
    assert [size for size in rows if size > 1] == [2]  # what was too much once is not tried again
    found = load_tensors(tmp_path / "out")
    for name, tensor in load_tensors(tmp_path / "plain").items():
        torch.testing.assert_close(found[name], tensor)


def test_a_device_without_memory_for_a_row_is_a_storage_failure(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(_: Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    patching(monkeypatch, before)
    with pytest.raises(StorageFailure, match="not enough memory") as caught:
        run(base, LORA, tmp_path / "out")
    assert "cpu" in str(caught.value.hint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_result_that_is_not_finite_is_refused_by_name(base: Path, tmp_path: Path, value: float) -> None:
    delta = low(20, 12)
    delta.up[7, 0] = value
    dtype = "float16" if value == 1e30 else None
    with pytest.raises(Refused, match=r"'a\.q\.weight' is not finite in float"):
        run(base, {"a.q": delta}, tmp_path / "out", dtype=dtype)


def test_a_base_that_is_not_finite_is_refused_only_where_it_is_changed(base: Path, tmp_path: Path) -> None:
    tensors = load_file(base / "one.safetensors")
    tensors["a.other.weight"][0, 0] = float("-inf")
    save_file(tensors, base / "one.safetensors")
    run(base, LORA, tmp_path / "out", dtype="bfloat16")
    tensors["a.q.weight"][3, 3] = float("nan")
    save_file(tensors, base / "one.safetensors")
    with pytest.raises(Refused, match=r"base tensor 'a\.q\.weight' holds NaN"):
        run(base, LORA, tmp_path / "again")


def test_untouched_tensors_that_overflow_the_dtype_are_refused(base: Path, tmp_path: Path) -> None:
    tensors = load_file(base / "one.safetensors")
    tensors["a.q.bias"][3] = 1e6
    save_file(tensors, base / "one.safetensors")
    with pytest.raises(Refused, match=r"'a\.q\.bias' is not finite in float16"):
        run(base, LORA, tmp_path / "out", dtype="float16")


def test_what_belongs_to_a_model_is_copied_and_nothing_else(base: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("linked")
    good = [
        "tokenizer.json",
        "merges.txt",
        "spiece.model",
        "chat_template.jinja",
        "modeling_x.py",
        "LICENSE",
        "Notice.md",
    ]
    bad = [
        "README.md",
        "pytorch_model.bin",
        "model.gguf",
        "optimizer.pt",
        "trainer_state.json",
        ".env",
        "tf_model.h5",
    ]
    bad += [
        "training_args.json",
        "all_results.json",
        "pytorch_model.bin.index.json",
        "adapter_config.json",
        ".x.json",
    ]
    for name in [*good, *bad]:
        (base / name).write_text(name)
    (base / ".store").mkdir()
    (base / ".store/blob").write_text("linked")
    (base / "vocab.json").symlink_to(base / ".store/blob")
    for name in (
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "onnx/config.json",
    ):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(name)
    (base / "3_Other").mkdir()
    (base / "3_Other/model.safetensors").write_text("weights")
    (base / "loop").symlink_to(base)
    (base / "modules.json").write_text(
        json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, 3])
    )
    made = run(base, LORA, tmp_path / "out")
    model = {"one.safetensors", "two.safetensors", "config.json", "model.safetensors.index.json"}
    nested = {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"}
    assert set(made.files) == {*model, *good, *nested, "vocab.json", "modules.json"}
    assert (tmp_path / "out/vocab.json").read_text() == "linked"
    assert not (tmp_path / "out/vocab.json").is_symlink()


def test_a_link_out_of_the_base_is_refused(base: Path, tmp_path: Path) -> None:
    """What it leads to was never meant to be published."""
    (tmp_path / "credentials").write_text("secret")
    (base / "vocab.txt").symlink_to(tmp_path / "credentials")
    with pytest.raises(Refused, match=r"vocab\.txt is a link"):
        run(base, LORA, tmp_path / "out")


def test_the_links_of_a_hub_cache_are_followed(base: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--tiny--base"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "0123").write_text("linked")
    snapshot = repo / "snapshots" / "abcd"
    snapshot.parent.mkdir()
    base.rename(snapshot)
    (snapshot / "vocab.txt").symlink_to("../../blobs/0123")
    run(snapshot, LORA, tmp_path / "out")
    assert (tmp_path / "out/vocab.txt").read_text() == "linked"


def test_a_companion_over_the_size_cap_is_reported(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_companions, "MAX_FILE", 10)
    (base / "tokenizer.json").write_text("x" * 11)
    made = run(base, LORA, tmp_path / "out")
    assert made.left_out == ("tokenizer.json",)
    assert "tokenizer.json" not in made.files


def test_the_output_folder_must_be_empty(base: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("")
    with pytest.raises(Conflict, match="is not empty"):
        run(base, LORA, tmp_path / "out")


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"dtype": "half"}, {"max_shard_size": 0}])
def test_senseless_options_are_usage_errors(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run(base, LORA, tmp_path / "out", **options)


def test_free_space_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    free_space_check(tmp_path, 1)
    with pytest.raises(StorageFailure, match="bytes free") as caught:
        free_space_check(tmp_path, 1 << 62)
    assert "free" in str(caught.value.hint)


def broken(code: int) -> Callable[..., int]:
    def call(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_full_disk_is_a_storage_failure(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(os, step, broken(errno.ENOSPC))
    with pytest.raises(StorageFailure, match="safetensors: No space left") as caught:
        run(base, LORA, tmp_path / "out")
    assert "bytes for this file" in str(caught.value.hint)


def test_a_full_disk_half_way_is_a_storage_failure(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, [20]

    def write(fd: int, data: memoryview) -> int:
        left[0] -= 1
        return real(fd, data) if left[0] > 0 else broken(errno.ENOSPC)()

    monkeypatch.setattr(os, "write", write)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StorageFailure):
        run(base, LORA, tmp_path / "out")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_base_that_shrinks_meanwhile_is_a_storage_failure(base: Path, tmp_path: Path) -> None:
    def deltas(name: str) -> Delta:
        os.truncate(base / "two.safetensors", 300)
        return LORA[name]

    with pytest.raises(StorageFailure, match="became shorter"):
        run(base, LORA, tmp_path / "out", deltas=deltas)


def test_a_delta_of_another_shape_than_announced_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match="delta of shape"):
        run(base, LORA, tmp_path / "out", deltas=lambda _: low(3, 3))


def test_an_error_of_the_delta_source_comes_through(base: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        run(base, LORA, tmp_path / "out", deltas=dict[str, Delta]().__getitem__)
