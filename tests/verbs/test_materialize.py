"""Materialize: the merged model is base plus adapter, or there is nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry, _remembered
from registry.errors import (
    Conflict,
    Incompatible,
    IntegrityFailure,
    NotFound,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)
from tests.adapters import make_ia3, make_lora
from tests.catalog.drafts import counts
from tests.models import VOCABULARY, load_tensors, rewrite, tiny_bert, tiny_gpt2, tiny_llama
from tests.verbs.places import blob, damage, refused, state

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")

LLAMA = {
    f"model.layers.{layer}.self_attn.{name}": shape
    for layer in (0, 1)
    for name, shape in (("q_proj", (32, 32)), ("v_proj", (16, 32)))
}
LLAMA_IA3: dict[str, Any] = {
    "modules": {f"model.layers.{layer}.self_attn.k_proj": 16 for layer in (0, 1)},
    "feedforward": {f"model.layers.{layer}.mlp.down_proj": 48 for layer in (0, 1)},
}
GPT2 = {f"transformer.h.{layer}.attn.c_attn": (96, 32) for layer in (0, 1)}
BERT = {f"encoder.layer.{layer}.attention.self.query": (32, 32) for layer in (0, 1)}


def llama_lora(folder: Path, seed: int) -> Path:
    return make_lora(folder, modules=LLAMA, seed=seed, alpha=1)


def llama_ia3(folder: Path, seed: int) -> Path:
    return make_ia3(folder, **LLAMA_IA3, seed=seed)


def gpt2_lora(folder: Path, seed: int) -> Path:
    return make_lora(folder, modules=GPT2, seed=seed, alpha=1, config={"fan_in_fan_out": True})


def bert_lora(folder: Path, seed: int) -> Path:
    return make_lora(folder, modules=BERT, seed=seed, alpha=16, config={"task_type": "FEATURE_EXTRACTION"})


def causal(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return model.eval()


def encoder(folder: Path) -> Any:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder)
    return model.eval()


def outputs(model: Any) -> torch.Tensor:
    ids = torch.arange(12).reshape(2, 6) * 7 % VOCABULARY
    with torch.no_grad():
        found = model(input_ids=ids)
    result: torch.Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return result


@pytest.mark.parametrize(
    ("make_base", "make_adapter", "load"),
    [
        (tiny_llama, llama_lora, causal),
        (tiny_llama, llama_ia3, causal),
        (tiny_gpt2, gpt2_lora, causal),
        (tiny_bert, bert_lora, encoder),
    ],
    ids=["llama-lora", "llama-ia3", "gpt2-lora", "bert-lora"],
)
def test_the_merged_model_computes_what_base_and_adapter_compute(
    make_base: Callable[[Path], Path],
    make_adapter: Callable[[Path, int], Path],
    load: Callable[[Path], Any],
    local: Registry,
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    base = make_base(tmp_path / "base")
    for seed, name in enumerate("ab"):
        local.add(make_adapter(tmp_path / name, seed), name)
    local.compose("c", "0.7*a - 0.4*b")
    checked_out = Path(local.checkout("c", tmp_path / "peft").path)
    made = local.materialize("c", into="model", base_path=base, out=tmp_path / "model")
    plain = outputs(load(base))
    expected = outputs(PeftModel.from_pretrained(load(base), checked_out).eval())
    found = outputs(load(tmp_path / "model"))
    assert (expected - plain).abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert set(made.files) == {
        str(path.relative_to(tmp_path / "model"))
        for path in (tmp_path / "model").rglob("*")
        if path.is_file()
    }
    assert (made.cached, made.target, made.path) == (False, "model", str(tmp_path / "model"))


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(llama_lora(tmp_path / name, seed), name)
    local.compose("c", "a - 0.4*b")
    tiny_llama(tmp_path / "base")
    return local


def folders(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()}


@pytest.fixture
def nothing_left(tmp_path: Path, shelf: Registry) -> Iterator[None]:
    before = folders(tmp_path)
    shelf.show("a")
    yield
    assert folders(tmp_path) == before


def test_a_model_is_kept_in_the_store_and_found_again(catalog: Registry, tmp_path: Path) -> None:
    catalog.add(llama_lora(tmp_path / "a", 0), "a")
    base = tiny_llama(tmp_path / "base")
    first = catalog.materialize("a", into="model", base_path=base)
    before = counts(catalog._database)
    again = catalog.materialize("a", into="model", base_path=base, out=tmp_path / "out")
    assert (first.cached, first.path, again.cached, again.digest) == (False, None, True, first.digest)
    assert counts(catalog._database) == before
    assert {name: (tmp_path / "out" / name).stat().st_size for name in first.files} == first.files
    other = catalog.materialize("a", into="model", base_path=base, dtype="bfloat16")
    assert (other.cached, other.digest == first.digest) == (False, False)


def test_the_fingerprint_of_the_base_is_recorded_once_it_was_seen(catalog: Registry, tmp_path: Path) -> None:
    catalog.add(llama_lora(tmp_path / "a", 0), "a")
    catalog.materialize("a", into="model", base_path=tiny_llama(tmp_path / "base"), out=tmp_path / "out")
    assert str(catalog.show("a").base_model.fingerprint).startswith("sha256:")
    other = tiny_llama(tmp_path / "other")
    rewrite(other, lambda found: {name: tensor + 1e-3 for name, tensor in found.items()})
    with refused(catalog, Incompatible, "other weights", "tiny/base", code=7):
        catalog.materialize("a", into="model", base_path=other, out=tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_a_refusal_does_not_make_a_wrong_base_the_recorded_one(shelf: Registry, tmp_path: Path) -> None:
    """The first base that is given decides what the base is, so it has to fit before it is believed."""
    wrong = tiny_llama(tmp_path / "wrong")
    rewrite(
        wrong,
        lambda found: {
            name: tensor for name, tensor in found.items() if "layers.1.self_attn.v_proj" not in name
        },
    )
    with refused(shelf, Incompatible, "model.layers.1.self_attn.v_proj", code=7):
        shelf.materialize("c", into="model", base_path=wrong, out=tmp_path / "out")
    assert shelf.show("c").base_model.fingerprint is None
    assert shelf.materialize("c", into="model", base_path=tmp_path / "base", out=tmp_path / "out").path


def with_other_shape(base: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(base, lambda found: {**found, name: found[name][:-1].clone()})


def without_config(base: Path) -> None:
    (base / "config.json").unlink()


def pickled(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def truncated(base: Path) -> None:
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[:-10])


def removed(base: Path) -> None:
    shutil.rmtree(base)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (with_other_shape, Incompatible, "model.layers.0.self_attn.q_proj"),
        (without_config, Refused, "config.json"),
        (pickled, Refused, "pickle"),
        (truncated, Refused, "model.safetensors"),
        (removed, NotFound, "there is no folder"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    change: Callable[[Path], None], error: type[RegistryError], said: str, shelf: Registry, tmp_path: Path
) -> None:
    change(tmp_path / "base")
    before = folders(tmp_path)
    for out in (tmp_path / "out", None):
        with refused(shelf, error, said, code=error.exit_code):
            shelf.materialize("c", into="model", base_path=tmp_path / "base", out=out)
    assert folders(tmp_path) == before


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"ref": "nosuch"}, NotFound, "nosuch"),
        ({"into": "zip"}, UsageError, "zip"),
        ({"into": "model", "dtype": "int8"}, UsageError, "int8"),
        ({"into": "model", "device": "tpu"}, UsageError, "tpu"),
        ({"into": "model", "device": "cpu,cuda:0"}, UsageError, "not all"),
        ({"into": "model", "device": "cuda:0,cuda:0"}, UsageError, "twice"),
        ({"into": "model", "device": "cuda:99"}, UsageError, "cuda:99"),
        ({"into": "adapter", "dtype": "float16"}, UsageError, "models"),
        ({"into": "model", "max_shard_size": 0}, UsageError, "shard"),
        ({"into": "model", "max_shard_size": -5}, UsageError, "shard"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[RegistryError], said: str, shelf: Registry, tmp_path: Path
) -> None:
    request: dict[str, Any] = {"ref": "c", "base_path": tmp_path / "base", "out": tmp_path / "out"} | options
    with refused(shelf, error, said, code=error.exit_code):
        shelf.materialize(**request)


@pytest.mark.parametrize("into", ["adapter", "model"])
@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_output_that_exists_is_a_conflict_and_stays_as_it_is(
    into: Any, kind: str, shelf: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = folders(tmp_path)
    with refused(shelf, Conflict, f"{out} exists", code=4):
        shelf.materialize("c", into=into, base_path=tmp_path / "base", out=out)
    assert folders(tmp_path) == before
    assert kind != "file" or out.read_text() == "mine"


def test_an_adapter_is_written_as_a_peft_folder_and_told_where_it_came_from(
    shelf: Registry, tmp_path: Path
) -> None:
    kept = shelf.materialize("c")
    written = shelf.materialize("c", out=tmp_path / "out")
    assert (kept.path, written.path, written.digest) == (None, str(tmp_path / "out"), shelf.show("c").digest)
    assert (
        json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "tiny/base"
    )
    assert kept.device in {"cpu", "cuda"}
    assert kept.recipe_digest == shelf.check("a - 0.4*b").recipe_digest


def test_shards_are_cut_to_the_size_asked_for(shelf: Registry, tmp_path: Path) -> None:
    made = shelf.materialize(
        "c", into="model", base_path=tmp_path / "base", out=tmp_path / "out", max_shard_size=40_000
    )
    assert "model.safetensors.index.json" in made.files
    whole = shelf.materialize("c", into="model", base_path=tmp_path / "base", out=tmp_path / "whole")
    assert "model.safetensors" in whole.files
    one, other = load_tensors(tmp_path / "out"), load_tensors(tmp_path / "whole")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_base_that_is_known_and_unchanged_is_not_read_to_be_identified(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remembered, "SETTLED_NS", 0)
    base = tiny_llama(tmp_path / "base")
    time.sleep(0.02)
    local.add(llama_lora(tmp_path / "a", 0), "a", base_path=base)
    told: set[str] = set()

    def materialize(out: str) -> str:
        told.clear()
        options: dict[str, Any] = {"base_path": base, "out": tmp_path / out}
        made = local.materialize("a", into="model", **options, progress=lambda what, *_: told.add(what))
        return made.digest

    first = materialize("1")
    assert told == {"merging"}
    rewrite(base, lambda found: found)
    assert materialize("2") == first
    assert told == {"reading the base", "merging"}
    rewrite(base, lambda found: {name: tensor + 1e-3 for name, tensor in found.items()})
    with refused(local, Incompatible, "other weights", code=7):
        materialize("3")


def test_a_base_that_changes_meanwhile_leaves_nothing(shelf: Registry, tmp_path: Path) -> None:
    """It was identified by bytes that may not be those that were merged."""
    before = folders(tmp_path)
    weights = tmp_path / "base" / "model.safetensors"

    def progress(what: str, *_: int) -> None:
        if what == "merging":
            os.utime(weights)

    for out in (tmp_path / "out", None):
        with refused(shelf, Conflict, "was changed while it was read", code=4):
            shelf.materialize("c", into="model", base_path=tmp_path / "base", out=out, progress=progress)
    assert folders(tmp_path) == before


@pytest.mark.usefixtures("nothing_left")
def test_a_plan_says_what_a_merge_reads_computes_and_writes(shelf: Registry, tmp_path: Path) -> None:
    before = state(shelf)
    options: dict[str, Any] = {"into": "model", "base_path": tmp_path / "base"}
    plan = shelf.explain("c", **options, max_shard_size=40_000)
    assert state(shelf) == before
    assert (plan.ref, plan.target, plan.bound, plan.patched) == ("c@1", "model", "bytes", len(LLAMA))
    weights = tmp_path / "base" / "model.safetensors"
    assert plan.identify == weights.stat().st_size
    assert plan.patched_bytes == sum(4 * m * n for m, n in LLAMA.values())
    assert plan.operations == sum(8 * (m + n) + 2 * 8 * m * n for m, n in LLAMA.values())
    assert plan.written == sum(plan.files.values())
    assert plan.read > plan.written > plan.patched_bytes
    half = shelf.explain("c", **options, dtype="float16")
    assert half.patched_bytes == plan.patched_bytes // 2
    ties = "ties(a, b, density=0.5)"
    shelf.compose("t", ties)
    assert shelf.explain("t", **options).operations > plan.operations
    made = shelf.materialize("c", **options, max_shard_size=40_000)
    assert plan.files == {name: size for name, size in made.files.items() if name in plan.files}
    assert plan.recipe_digest == made.recipe_digest


def test_a_plan_of_an_adapter_is_to_copy_it(shelf: Registry) -> None:
    plan = shelf.explain("c")
    assert (plan.target, plan.patched, plan.operations) == ("adapter", 0, 0)
    assert plan.written == shelf.show("c").size == sum(plan.files.values())


@pytest.mark.usefixtures("nothing_left")
def test_a_plan_is_refused_as_the_merge_would_be(shelf: Registry, tmp_path: Path) -> None:
    wrong: list[tuple[type[RegistryError], str, dict[str, Any]]] = [
        (NotFound, "nosuch", {}),
        (UsageError, "c", {"dtype": "int8"}),
        (NotFound, "c", {"base_path": tmp_path / "nowhere"}),
    ]
    for error, ref, options in wrong:
        with refused(shelf, error, code=error.exit_code):
            shelf.explain(ref, **{"into": "model", "base_path": tmp_path / "base", **options})
    with_other_shape(tmp_path / "base")
    with refused(shelf, Incompatible, "q_proj", code=7):
        shelf.explain("c", into="model", base_path=tmp_path / "base")


def test_a_damaged_adapter_is_not_merged(shelf: Registry, tmp_path: Path) -> None:
    damage(blob(shelf, "a"))
    with refused(shelf, IntegrityFailure, "damaged", code=5):
        shelf.materialize("a", into="model", base_path=tmp_path / "base", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failing_disk_leaves_nothing(
    shelf: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    shelf.materialize("a", into="model", base_path=tmp_path / "base", out=tmp_path / "first")
    before = folders(tmp_path)
    for out in (tmp_path / "out", None):
        with refused(shelf, StorageFailure, "No space left", code=1), monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            shelf.materialize("c", into="model", base_path=tmp_path / "base", out=out)
    assert folders(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_leaves_nothing(shelf: Registry, tmp_path: Path, small_disk: Path) -> None:
    shelf.materialize("a", into="model", base_path=tmp_path / "base", out=tmp_path / "first")
    with refused(shelf, StorageFailure, str(small_disk), code=1):
        shelf.materialize("c", into="model", base_path=tmp_path / "base", out=small_disk / "out")
    assert list(small_disk.iterdir()) == []
