"""Add: what is taken, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from registry import Registry
from registry.errors import (
    Conflict,
    Incompatible,
    NotFound,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)
from tests.adapters import PREFIX, Q0, load_tensors, make_ia3, make_lora, make_opaque, write_adapter
from tests.models import tiny_llama
from tests.verbs.places import refused, state

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
A_NAME = f"{PREFIX}{Q0}.lora_A.weight"


def test_adding_again_is_a_no_op_that_says_so(catalog: Registry, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a")
    first = catalog.add(folder, "a")
    before = state(catalog)
    again = catalog.add(shutil.copytree(folder, tmp_path / "copy"), "a", note="ignored")
    assert (first.created, again.created, again.ref) == (True, False, "a@1")
    assert state(catalog) == before


def test_the_source_is_not_needed_afterwards_and_was_not_touched(local: Registry, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    made = local.add(folder, "a")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    shutil.rmtree(folder)
    assert local.verify()[0].ok
    assert made.source == str(folder)


def test_what_is_not_understood_is_cataloged_and_said_to_be_not_composable(
    local: Registry, tmp_path: Path
) -> None:
    qalora = make_lora(tmp_path / "d", config={"use_qalora": True})
    extra = make_lora(tmp_path / "e", extra={f"{PREFIX}{Q0}.lora_C": torch.ones(12)})
    for name, folder in (("qalora", qalora), ("extra", extra), ("oft", make_opaque(tmp_path / "l"))):
        made = local.add(folder, name, base="tiny/base")
        assert made.not_composable == made.warnings
        assert made.warnings
        with refused(local, Refused, f"{name}@1 cannot be composed", code=7):
            local.compose("x", f"2*{name}")


def test_a_base_can_be_named_by_hand(local: Registry, tmp_path: Path) -> None:
    made = local.add(make_lora(tmp_path / "a", base=None), "a", base="team/base@abc")
    assert (made.base_model.repo, made.base_model.revision) == ("team/base", "abc")


def test_a_base_at_hand_is_checked_and_its_fingerprint_recorded(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    fits = make_lora(tmp_path / "a", modules={Q0: (32, 32)})
    made = local.add(fits, "a", base_path=base)
    assert str(made.base_model.fingerprint).startswith("sha256:")
    wrong = make_lora(tmp_path / "b", modules={Q0: (32, 31)})
    with refused(local, Incompatible, Q0, code=7):
        local.add(wrong, "b", base_path=base)
    lacking = make_lora(tmp_path / "c", modules={"model.layers.7.self_attn.q_proj": (32, 32)})
    with refused(local, Incompatible, "model.layers.7.self_attn.q_proj", code=7):
        local.add(lacking, "c", base_path=base)


def test_other_weights_under_the_same_base_name_are_refused(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    local.add(make_lora(tmp_path / "a", modules={Q0: (32, 32)}), "a", base_path=base)
    other = make_lora(tmp_path / "b", modules={Q0: (32, 32)}, seed=1)
    with refused(local, Incompatible, "other weights", "tiny/base", code=7):
        local.add(other, "b", base_path=tiny_llama(tmp_path / "other", tied=True))


def no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def no_tensors(folder: Path) -> None:
    (folder / TENSORS).unlink()


def pickled(folder: Path) -> None:
    (folder / TENSORS).rename(folder / "adapter_model.bin")


def cut(length: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / TENSORS).read_bytes()
        (folder / TENSORS).write_bytes(data[:length])

    return change


def tensors(**changes: torch.Tensor) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        renamed = {A_NAME: changes["a"]} if "a" in changes else changes
        save_file({**load_tensors(folder), **renamed}, folder / TENSORS)

    return change


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**found, **changes}))

    return change


def config_text(text: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / CONFIG).write_bytes(text)

    return change


def linked(folder: Path) -> None:
    (folder.parent / "outside.json").write_text((folder / CONFIG).read_text())
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to(folder.parent / "outside.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_config, "has no adapter_config.json"),
        (no_tensors, "has no adapter_model.safetensors"),
        (pickled, "pickle"),
        (cut(0), "truncated"),
        (cut(20), "truncated"),
        (cut(-1), "truncated"),
        (tensors(a=torch.full((4, 8), float("nan"))), "NaN or infinity"),
        (tensors(a=torch.full((4, 8), float("inf"))), "NaN or infinity"),
        (tensors(a=torch.ones(3, 8)), Q0),
        (tensors(a=torch.ones(4, 8, 2)), Q0),
        (config(r=5), Q0),
        (config(peft_type="NOSUCH"), "NOSUCH"),
        (config(peft_type=None), "peft_type"),
        (config(base_model_name_or_path=None), "names no base model"),
        (config(base_model_name_or_path="a\nb"), "base_model_name_or_path"),
        (config_text(b"{"), "no sound JSON"),
        (config_text(b"[]"), "no JSON object"),
        (config_text(b'{"peft_type": "LORA", "peft_type": "IA3"}'), "twice"),
        (config_text(b"\xff\xfe"), "no sound JSON"),
        (config_text(b"[" * 100_000), "no sound JSON"),
        (linked, "link that leaves the folder"),
    ],
    ids=range(21),
)
def test_a_folder_that_is_no_sound_adapter_is_refused(
    change: Callable[[Path], None], said: str, local: Registry, tmp_path: Path
) -> None:
    folder = make_lora(tmp_path / "a")
    change(folder)
    with refused(local, Refused, said, code=7):
        local.add(folder, "a")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"name": "not a name"}, UsageError, "not a name"),
        ({"source": "/nosuch/folder"}, NotFound, "/nosuch/folder"),
        ({"parents": ["nosuch"]}, NotFound, "nosuch"),
        ({"parents": ["a b"]}, UsageError, "a b"),
        ({"base": "@main"}, UsageError, "@main"),
        ({"base": "x\0y"}, UsageError, "base"),
        ({"base": "\udcff"}, UsageError, "base"),
        ({"base": "x" * 2000}, UsageError, "base"),
        ({"tags": {"": "x"}}, UsageError, "tag"),
        ({"note": "\0"}, UsageError, "note"),
        ({"note": "\udcff"}, UsageError, "note"),
        ({"task": " "}, UsageError, "task"),
        ({"license": "x" * 20_000}, UsageError, "license"),
        ({"base_path": "/nosuch/base"}, NotFound, "/nosuch/base"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[RegistryError], said: str, local: Registry, tmp_path: Path
) -> None:
    request: dict[str, Any] = {"source": make_lora(tmp_path / "a"), "name": "a"} | options
    with refused(local, error, said, code={UsageError: 2, NotFound: 3}[error]):
        local.add(**request)


def test_a_taken_name_is_a_conflict_that_leaves_nothing(catalog: Registry, tmp_path: Path) -> None:
    catalog.add(make_lora(tmp_path / "a"), "team/a")
    other = make_lora(tmp_path / "b", seed=1)
    with refused(catalog, Conflict, "team/A", "differs only by case from 'team/a'", code=4):
        catalog.add(other, "team/A")
    with refused(catalog, Conflict, "team/a is taken by lora adapters on tiny/base", "ia3", code=4):
        catalog.add(make_ia3(tmp_path / "c"), "team/a")
    with refused(catalog, Conflict, "other/base", code=4):
        catalog.add(other, "team/a", base="other/base")
    with refused(catalog, Conflict, "the name team/a is taken", code=4):
        catalog.add(other, "team/a", new=True)


@pytest.mark.parametrize("call", ["fsync", "chmod"])
def test_a_full_disk_leaves_nothing(
    call: str, local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_lora(tmp_path / "a")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        refused(local, StorageFailure, "No space left on device", "disk space", code=1),
        monkeypatch.context() as patch,
    ):
        patch.setattr(os, call, full)
        local.add(folder, "a")
    assert local.add(folder, "a").created


def test_a_name_of_a_folder_that_is_no_text_is_recorded_as_well_as_it_can_be(
    catalog: Registry, tmp_path: Path
) -> None:
    made = catalog.add(make_lora(tmp_path / "caf\udce9"), "a")
    assert made.source == f"{tmp_path}/caf\\udce9"


def test_the_same_tensors_under_other_settings_are_other_content(local: Registry, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "a", alpha=8)
    first = local.add(folder, "a")
    found = json.loads((folder / CONFIG).read_text())
    write_adapter(folder, {**found, "lora_alpha": 9}, load_tensors(folder))
    second = local.add(folder, "a")
    assert (second.ref, second.digest == first.digest) == ("a@2", False)
