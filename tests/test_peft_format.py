from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from registry import _safetensors, peft_format
from registry.deltas import LowRank
from registry.errors import NotFound, Refused, StorageFailure
from registry.evaluate import Evaluated
from registry.peft_format import CONFIG, TENSORS, open_files, read
from registry.results import BaseModelIdentity
from tests.adapters import (
    LINEARS,
    PREFIX,
    Q0,
    Q1,
    V0,
    combination,
    load_tensors,
    make_ia3,
    make_lora,
    make_opaque,
    materialize,
)

LORA_A = f"{PREFIX}{Q0}.lora_A.weight"


def edit(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **entries}))


def test_an_adapter_tells_its_measures(tmp_path: Path) -> None:
    adapter = read(make_lora(tmp_path, ranks={V0: 6}, dtype=torch.bfloat16))
    assert (adapter.kind, adapter.rank, adapter.dtype) == ("lora", 6, "bfloat16")
    assert adapter.parameters == 4 * (12 + 8) * 2 + 6 * (6 + 8)
    assert adapter.base_model == BaseModelIdentity(repo="tiny/base")
    assert adapter.files.keys() == {CONFIG, TENSORS}
    assert adapter.size == sum(path.stat().st_size for path in tmp_path.iterdir())


# -- the content digest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": ""},
        {"infix": ".default"},
        {"infix": ".default.default"},
        {"base": "other/base"},
        {
            "config": {
                "lora_dropout": 0.3,
                "target_modules": "all-linear",
                "inference_mode": False,
            }
        },
        {"config": {"r": 99, "rank_pattern": {".*": 4}}},
        {"alpha": 4, "rslora": True},
        {"config": {"lora_alpha": 1, "alpha_pattern": {"q_proj": 8, "v_proj": 8}}},
    ],
)
def test_the_digest_is_that_of_the_content(tmp_path: Path, options: Any) -> None:
    plain, other = make_lora(tmp_path / "a"), make_lora(tmp_path / "b", **options)
    assert read(plain).digest == read(other).digest


def test_the_digest_does_not_depend_on_order_or_metadata(tmp_path: Path) -> None:
    one, other = make_lora(tmp_path / "a"), make_lora(tmp_path / "b")
    save_file(load_tensors(other), other / TENSORS, metadata={"note": "x"})
    config = json.loads((other / CONFIG).read_text())
    (other / CONFIG).write_text(json.dumps(dict(reversed(config.items()))))
    assert (one / TENSORS).read_bytes() != (other / TENSORS).read_bytes()
    assert read(one).digest == read(other).digest


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"dtype": torch.float64},
        {"alpha": 9},
        {"alphas": {Q0: 9}},
        {"rslora": True},
        {"config": {"use_dora": True}},
        {"config": {"task_type": None}},
        {"config": {"fan_in_fan_out": True}},
        {"extra": {f"{PREFIX}score.weight": torch.ones(1)}},
        {"modules": {**LINEARS, "x": (3, 3)}},
    ],
)
def test_the_digest_changes_with_what_is_computed(tmp_path: Path, options: Any) -> None:
    assert read(make_lora(tmp_path / "a")).digest != read(make_lora(tmp_path / "b", **options)).digest


def test_the_digest_is_pinned(tmp_path: Path) -> None:
    """Digests are stored in catalogs: this one must never change under format 1."""
    ones = {
        f"{PREFIX}q.lora_A.weight": torch.ones(2, 3),
        f"{PREFIX}q.lora_B.weight": torch.ones(4, 2, dtype=torch.bfloat16),
    }
    adapter = read(make_lora(tmp_path, modules={}, r=2, alpha=3, extra=ones))
    assert adapter.digest == "sha256:3331db08eac52b41e098ff29211dfc86bb176adfa3f585c169e266ca5b6cfeab"


def test_a_blocked_part_is_part_of_the_digest_whatever_its_order(tmp_path: Path) -> None:
    first, second = (
        read(make_lora(tmp_path / name, config={"kasa_config": config})).digest
        for name, config in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1}))
    )
    third = read(make_lora(tmp_path / "c", config={"kasa_config": {"x": 1}})).digest
    assert first == second != third


def test_other_types_are_cataloged_with_a_blocker(tmp_path: Path) -> None:
    adapter = read(make_opaque(tmp_path / "a", config={"alpha": 1.5}))
    assert adapter.kind == "oft"
    assert adapter.layout.blockers == ("OFT adapters cannot be composed yet",)
    assert (adapter.rank, adapter.parameters, len(adapter.layout.modules)) == (None, 8, 0)
    assert adapter.digest != read(make_opaque(tmp_path / "b", config={"alpha": 2.5})).digest
    assert adapter.digest != read(make_opaque(tmp_path / "c", peft_type="BOFT", config={"alpha": 1.5})).digest


# -- refusals ----------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        read(tmp_path / "nowhere")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"has no adapter_config\.json; is it a PEFT adapter folder\?"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt", "last.ckpt"])
def test_pickles_are_refused_with_the_way_to_convert(tmp_path: Path, name: str) -> None:
    make_lora(tmp_path)
    (tmp_path / TENSORS).rename(tmp_path / name)
    with pytest.raises(Refused, match=f"'{name}', a pickle") as caught:
        read(tmp_path)
    assert "safe_serialization=True" in (caught.value.hint or "")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    make_lora(tmp_path)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(Refused, match=r"has no adapter_model\.safetensors"):
        read(tmp_path)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = make_lora(tmp_path / "a")
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(Refused, match="a link that leaves the folder"):
        read(folder)
    (folder / name).unlink()
    (tmp_path / "secret").rename(folder / "inside")
    (folder / name).symlink_to("inside")
    assert read(folder).rank == 4


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    make_lora(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(Refused) as caught:
        read(tmp_path)
    assert caught.value.message == f"{name} is no regular file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "adapter_config.json is no JSON object"),
        ("{", "adapter_config.json is no sound JSON"),
        ('{"r": NaN}', "adapter_config.json is no sound JSON: NaN is no JSON number"),
        ('{"r": 1, "r": 2}', "adapter_config.json is no sound JSON: it has the key 'r' twice"),
        ("[" * 100_000, "adapter_config.json is no sound JSON"),
        ('{"r": ' + "9" * 5000 + "}", "adapter_config.json is no sound JSON"),
        ("{}", "adapter_config.json names no peft_type"),
        ('{"peft_type": 3}', "adapter_config.json names no peft_type"),
        ('{"peft_type": "MAGIC"}', "unknown adapter type 'MAGIC'"),
        ('{"peft_type": "_opaque"}', "unknown adapter type '_opaque'"),
        (
            '{"peft_type": "LORA", "base_model_name_or_path": "\\u001b[31m"}',
            "adapter_config.json has an unusable base",
        ),
        (" " * (2**20 + 1), "adapter_config.json is larger than 1048576 bytes"),
        ("\ud800", "adapter_config.json is no sound JSON"),
    ],
)
def test_unsound_configs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    make_lora(tmp_path)
    (tmp_path / CONFIG).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(Refused) as caught:
        read(tmp_path)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_naming_the_tensor(
    tmp_path: Path, dtype: torch.dtype, bad: float
) -> None:
    broken = torch.zeros(4, 8, dtype=dtype)
    broken[3, 7] = bad
    folder = make_lora(tmp_path, extra={LORA_A: broken})
    with pytest.raises(Refused) as caught:
        read(folder)
    assert caught.value.message == f"tensor {Q0}.lora_A.weight holds NaN or infinity"
    with pytest.raises(Refused):
        open_files(folder / CONFIG, folder / TENSORS).delta(Q0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_largest_numbers_are_finite(tmp_path: Path, dtype: torch.dtype) -> None:
    extreme = torch.full((4, 8), torch.finfo(dtype).max, dtype=dtype)
    extreme[0] = torch.finfo(dtype).smallest_normal
    assert read(make_lora(tmp_path, extra={LORA_A: extreme, f"{LORA_A[:-8]}x": -extreme})).kind == "lora"


@pytest.mark.parametrize("twin", [f"{Q0}.lora_A.weight", f"{PREFIX}{Q0}.lora_A.default.weight"])
def test_names_that_become_one_are_refused(tmp_path: Path, twin: str) -> None:
    folder = make_lora(tmp_path, extra={twin: torch.ones(4, 8)})
    with pytest.raises(Refused, match="are one and the same after normalizing"):
        read(folder)


def test_a_module_called_default_keeps_its_name(tmp_path: Path) -> None:
    adapter = read(
        make_lora(tmp_path, modules={"heads.default.q": (3, 2), "default": (3, 2)}, infix=".default")
    )
    assert list(adapter.layout.modules) == ["default", "heads.default.q"]


# -- writing -----------------------------------------------------------------------------------------------------


def write(folder: Path, *modules: tuple[str, LowRank], dtype: str = "float32", **options: Any) -> Any:
    settings_ = {
        "base_model": BaseModelIdentity(repo="org/base", revision="abc"),
        "inputs_config": [],
        **options,
    }
    items = [Evaluated(name, delta) for name, delta in modules]
    names = [name for name, _ in modules]
    return peft_format.write(folder, kind="lora", modules=items, names=names, dtype=dtype, **settings_)


def delta(m: int = 4, n: int = 3, k: int = 2, value: float = 1.0) -> LowRank:
    return LowRank(torch.full((m, k), value), torch.ones(k, n))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "folder", ("q", delta()), ("q.x", delta(k=5)))
    again = read(tmp_path / "new" / "folder")
    assert written.digest == again.digest
    assert again.config["base_model_name_or_path"] == "org/base"
    assert again.config["revision"] == "abc"
    with safe_open(tmp_path / "new" / "folder" / TENSORS, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert sorted(file.keys()) == [f"{PREFIX}{m}.lora_{f}.weight" for m in ("q", "q.x") for f in "AB"]


def test_bytes_are_deterministic(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        write(folder, ("k", delta()), ("q", delta(k=3)), dtype="bfloat16")
    for name in (CONFIG, TENSORS):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1
    assert sorted(path.name for path in folders[0].iterdir()) == [CONFIG, TENSORS]


def test_an_unnamed_base_model_stays_unnamed(tmp_path: Path) -> None:
    write(tmp_path, ("q", delta()), base_model=BaseModelIdentity(repo=None))
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] is None


def test_a_second_writing_changes_nothing_in_the_digest(tmp_path: Path) -> None:
    a = read(make_lora(tmp_path / "a", ranks={V0: 2}, alphas={Q1: 3}))
    once = materialize(tmp_path / "b", combination((1, a)), a)
    twice = materialize(tmp_path / "c", combination((1, once)), once)
    assert once.digest == twice.digest
    assert once.layout.modules.keys() == a.layout.modules.keys()


def test_vectors_come_back_exactly(tmp_path: Path) -> None:
    a = read(make_ia3(tmp_path / "a"))
    assert materialize(tmp_path / "b", combination((1, a)), a).digest == a.digest


@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e5), ("float32", 1e39), ("bfloat16", 3.4e38)])
def test_overflow_is_refused_naming_module_and_dtype(tmp_path: Path, dtype: str, value: float) -> None:
    big = LowRank(torch.full((4, 2), value, dtype=torch.float64), torch.ones(2, 3))
    with pytest.raises(Refused, match=f"module q overflows {dtype}"):
        write(tmp_path, ("k", delta()), ("q", big), dtype=dtype)


def test_a_result_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the result has no modules"):
        write(tmp_path)


@pytest.mark.parametrize("failing", [(os, "fsync"), (_safetensors, "_write_all"), (Path, "mkdir")])
def test_a_full_disk_is_a_storage_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[Any, str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*failing, full)
    with pytest.raises(StorageFailure, match="No space left on device"):
        write(tmp_path, ("q", delta()))


def test_each_factor_is_rounded_once(tmp_path: Path) -> None:
    up, down = torch.randn(5, 2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    write(tmp_path, ("q", LowRank(up, down)), dtype="bfloat16")
    tensors = load_tensors(tmp_path)
    assert torch.equal(tensors[f"{PREFIX}q.lora_B.weight"], up.bfloat16())
    assert torch.equal(tensors[f"{PREFIX}q.lora_A.weight"], down.bfloat16())


def test_rewriting_modernizes_names_and_keeps_the_content(tmp_path: Path) -> None:
    patterns = {
        "q_proj": 100,
        "layers.0.self_attn.q_proj": 200,
    }  # the first decides, so their order must stay
    old = read(make_lora(tmp_path / "old", prefix="", infix=".default", config={"alpha_pattern": patterns}))
    assert not peft_format.is_canonical(old)
    peft_format.rewrite(old, tmp_path / "new", old.base_model)
    new = read(tmp_path / "new")
    assert peft_format.is_canonical(new)
    assert new.digest == old.digest
    assert new.config == old.config
    assert sorted(load_tensors(tmp_path / "new")) == sorted(load_tensors(make_lora(tmp_path / "plain")))
