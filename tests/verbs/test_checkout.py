"""Check out: a PEFT folder that is whole, or nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from registry import Registry
from registry.errors import Conflict, IntegrityFailure, NotFound, StorageFailure
from registry.peft_format import read
from tests.adapters import PREFIX, load_tensors, make_ia3, make_lora
from tests.models import tiny_llama
from tests.verbs.places import blob, damage, refused

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")

Q = "model.layers.0.self_attn.q_proj"


def test_what_was_added_comes_out_byte_for_byte(catalog: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a")
    made = catalog.add(source, "a")
    out = catalog.checkout("a", tmp_path / "deep" / "out")
    assert (out.ref, out.digest, out.path) == ("a@1", made.digest, str(tmp_path / "deep" / "out"))
    for name, size in out.files.items():
        assert Path(out.path, name).read_bytes() == (source / name).read_bytes()
        assert Path(out.path, name).stat().st_size == size


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_names_are_those_that_peft_expects_and_the_content_stays(
    prefix: str, local: Registry, tmp_path: Path
) -> None:
    made = local.add(make_lora(tmp_path / "a", prefix=prefix, infix=".default"), "a")
    out = Path(local.checkout("a", tmp_path / "out").path)
    assert all(name.startswith(PREFIX) and ".default" not in name for name in load_tensors(out))
    assert read(out).digest == made.digest


def test_a_composition_loads_with_peft_and_does_what_its_deltas_say(local: Registry, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    base = tiny_llama(tmp_path / "base")
    local.add(make_lora(tmp_path / "a", modules={Q: (32, 32)}, r=2), "a")
    local.add(make_lora(tmp_path / "b", modules={Q: (32, 32)}, r=3, seed=1, rslora=True), "b")
    local.compose("c", "a - 0.4*b")
    out = local.checkout("c", tmp_path / "out")
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), out.path)
    merged = model.merge_and_unload().get_parameter(f"{Q}.weight").detach()
    plain = LlamaForCausalLM.from_pretrained(base).get_parameter(f"{Q}.weight").detach()
    from tests.adapters import lora_deltas

    expected = lora_deltas(tmp_path / "a")[Q] - 0.4 * lora_deltas(tmp_path / "b")[Q]
    torch.testing.assert_close((merged - plain).double(), expected, rtol=1e-4, atol=1e-4)


def test_what_was_checked_out_is_added_as_the_same_content(local: Registry, tmp_path: Path) -> None:
    local.add(make_ia3(tmp_path / "i"), "i")
    made = local.compose("c", "0.5*i")
    out = local.checkout("c", tmp_path / "out")
    assert local.add(out.path, "copy").digest == made.digest


def test_the_folder_has_the_permissions_that_a_user_expects(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    mask = os.umask(0o022)
    try:
        out = Path(local.checkout("a", tmp_path / "out").path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert all(
        os.access(path, os.W_OK) and stat.S_IMODE(path.stat().st_mode) & 0o044 for path in out.iterdir()
    )


def test_nothing_is_written_where_something_is(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    (tmp_path / "out").mkdir()
    with refused(local, Conflict, "out exists", code=4):
        local.checkout("a", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_not_there_or_deleted_is_not_checked_out(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    local.delete("a")
    for ref in ("a@1", "nosuch"):
        with refused(local, NotFound, ref, code=3):
            local.checkout(ref, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_one_flipped_byte_is_found_before_anything_is_written(
    name: str, local: Registry, tmp_path: Path
) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    damage(blob(local, "a", name))
    with refused(local, IntegrityFailure, f"{name} of a@1 is damaged", code=5):
        local.checkout("a", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "home"}


def test_a_place_that_cannot_be_written_is_a_storage_failure(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    for out in (tmp_path / "a" / "adapter_config.json" / "out", tmp_path / ("x" * 300)):
        with refused(local, StorageFailure, "cannot write", code=1):
            local.checkout("a", out)
