"""A folder for servers: what is in it, why others are not, and that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from sqlalchemy import text

from registry import Registry
from registry.catalog import references
from registry.catalog.events import now
from registry.catalog.tables import AffectedRow, BaseModelRow, RevocationRow
from registry.errors import NotFound, UsageError
from registry.reference import parse
from registry.results import SyncedFolder
from registry.verbs.sync_dir import OWN
from tests.adapters import LINEARS, PREFIX, Q0, V0, load_tensors, lora_deltas, make_ia3, make_lora
from tests.verbs.places import blob, damage

BASE = "tiny/base"


def resolve(directory: Path, name: str, base: str = BASE) -> dict[str, Any] | None:
    """What vLLM's filesystem resolver does, and its helper for PEFT configs, in their own words' meaning."""
    path = os.path.join(directory, name)  # noqa: PTH118
    config_path = os.path.join(path, "adapter_config.json")  # noqa: PTH118
    if not (os.path.exists(path) and os.path.exists(config_path)):  # noqa: PTH110
        return None
    config: dict[str, Any] = json.loads(Path(config_path).read_text())
    if config["peft_type"] != "LORA" or config["base_model_name_or_path"] != base:
        return None
    assert config.get("bias", "none") == "none"
    assert not config.get("modules_to_save")
    assert not config.get("use_dora")
    assert config["target_modules"]
    return config


def served_deltas(directory: Path, name: str) -> dict[str, torch.Tensor]:
    """ΔW as a server computes it: one scale from the config, factors as they are, patterns unknown."""
    config = resolve(directory, name)
    assert config is not None
    root = config["r"] ** 0.5 if config["use_rslora"] else config["r"]
    tensors = load_tensors(directory / name)
    return {
        key.removeprefix(PREFIX).removesuffix(".lora_A.weight"): config["lora_alpha"]
        / root
        * tensors[key.replace("lora_A", "lora_B")].double()
        @ down.double()
        for key, down in tensors.items()
        if key.endswith(".lora_A.weight")
    }


def outcomes(result: SyncedFolder) -> dict[str, str]:
    return {each.folder: each.outcome for each in result.adapters}


def snapshot(directory: Path) -> Mapping[str, Any]:
    """Every file below with its identity and times: what is untouched stays the very same."""
    return {
        str(path.relative_to(directory)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.name != "lock"
    }


def folders(directory: Path) -> int:
    """How many adapters' bytes a sync keeps there."""
    return len([path for path in (directory / OWN).iterdir() if path.is_dir()])


def add(catalog: Registry, folder: Path, name: str, alias: str = "prod", **options: Any) -> None:
    version = catalog.add(make_lora(folder, **options), name).version
    catalog.set_alias(name, alias, version)


def test_each_adapter_at_the_alias_has_a_folder_that_a_server_loads(
    catalog: Registry, tmp_path: Path
) -> None:
    add(catalog, tmp_path / "a", "a")
    add(catalog, tmp_path / "b", "team/b", seed=1, rslora=True)
    add(catalog, tmp_path / "c", "c", alias="beta")
    done = catalog.sync_dir(tmp_path / "srv", "prod")
    assert outcomes(done) == {"a": "added", "team--b": "added"}
    assert (done.changed, done.applied) == (True, True)
    for name, source in (("a", "a"), ("team--b", "b")):
        expected = lora_deltas(tmp_path / source)
        for module, delta in served_deltas(tmp_path / "srv", name).items():
            torch.testing.assert_close(delta, expected[module])
    assert resolve(tmp_path / "srv", "a", "another/base") is None
    assert resolve(tmp_path / "srv", "c") is None


def test_again_touches_nothing(catalog: Registry, tmp_path: Path) -> None:
    add(catalog, tmp_path / "a", "a")
    catalog.sync_dir(tmp_path / "srv", "prod")
    before = snapshot(tmp_path / "srv")
    again = catalog.sync_dir(tmp_path / "srv", "prod")
    assert (outcomes(again), again.changed) == ({"a": "unchanged"}, False)
    assert snapshot(tmp_path / "srv") == before


def test_what_moved_is_replaced_and_what_left_is_removed(catalog: Registry, tmp_path: Path) -> None:
    srv = tmp_path / "srv"
    add(catalog, tmp_path / "a", "a")
    add(catalog, tmp_path / "b", "b", seed=1)
    add(catalog, tmp_path / "s", "same", seed=5)
    catalog.sync_dir(srv, "prod")
    add(catalog, tmp_path / "a2", "a", seed=2)
    catalog.delete_alias("b", "prod")
    (srv / "mine").mkdir()
    (srv / "mine.txt").write_text("x")
    (srv / "elsewhere").symlink_to(tmp_path)
    looked = catalog.sync_dir(srv, "prod", dry_run=True)
    expected = {"a": "updated", "b": "removed", "same": "unchanged"}
    assert (outcomes(looked), looked.applied, looked.changed) == (expected, False, True)
    assert (srv / "b").exists()
    assert outcomes(catalog.sync_dir(srv, "PROD")) == expected
    assert not os.path.lexists(srv / "b")
    assert sorted(path.name for path in srv.iterdir()) == [OWN, "a", "elsewhere", "mine", "mine.txt", "same"]
    assert folders(srv) == 4, "what was replaced stays for those who are just reading it"
    assert catalog.sync_dir(srv, "prod").changed is False
    assert folders(srv) == 2
    torch.testing.assert_close(served_deltas(srv, "a")[Q0], lora_deltas(tmp_path / "a2")[Q0])


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_alias_that_nothing_has_does_not_empty_a_folder(
    catalog: Registry, tmp_path: Path, dry_run: bool
) -> None:
    srv = tmp_path / "srv"
    assert catalog.sync_dir(srv, "prdo", dry_run=dry_run).adapters == ()
    add(catalog, tmp_path / "a", "a")
    catalog.sync_dir(srv, "prod")
    before = snapshot(srv)
    with pytest.raises(NotFound, match="no adapter has the alias 'prdo'"):
        catalog.sync_dir(srv, "prdo", dry_run=dry_run)
    assert snapshot(srv) == before
    catalog.delete_alias("a", "prod")
    assert outcomes(catalog.sync_dir(srv, "Prod", dry_run=dry_run)) == {"a": "removed"}
    assert os.path.lexists(srv / "a") == dry_run


def test_what_is_in_the_way_is_left_alone(catalog: Registry, tmp_path: Path) -> None:
    srv = tmp_path / "srv"
    add(catalog, tmp_path / "a", "a")
    add(catalog, tmp_path / "b", "b", seed=1)
    make_lora(srv / "a", seed=9)
    done = catalog.sync_dir(srv, "prod")
    assert outcomes(done) == {"a": "failed", "b": "added"}
    assert "in the way" in (done.adapters[0].reason or "")
    assert (srv / "a").is_dir()
    assert not (srv / "a").is_symlink()
    torch.testing.assert_close(load_tensors(srv / "a"), load_tensors(make_lora(tmp_path / "x", seed=9)))


def test_one_rank_and_one_scale_are_made_where_that_changes_nothing(
    catalog: Registry, tmp_path: Path
) -> None:
    """A composed adapter has ranks of its own for each module; zeros fill them up."""
    catalog.add(make_lora(tmp_path / "a", modules={Q0: (12, 8), V0: (6, 8)}, r=2), "a")
    catalog.add(make_lora(tmp_path / "b", modules={Q0: (12, 8)}, r=3, seed=1), "b")
    catalog.compose("mix", "a + b")
    catalog.checkout("mix", tmp_path / "mix")
    assert json.loads((tmp_path / "mix" / "adapter_config.json").read_text())["rank_pattern"]
    catalog.set_alias("mix", "prod", 1)
    add(catalog, tmp_path / "u", "u", ranks={Q0: 2}, alphas={Q0: 4}, r=4, alpha=8)
    add(catalog, tmp_path / "v", "v", ranks={Q0: 2}, r=4, alpha=8)
    done = catalog.sync_dir(tmp_path / "srv", "prod")
    assert outcomes(done) == {"mix": "added", "u": "added", "v": "left out"}
    assert "scales of its modules differ" in (done.adapters[2].reason or "")
    for name in ("mix", "u"):
        expected = lora_deltas(tmp_path / name)
        served = served_deltas(tmp_path / "srv", name)
        assert served.keys() == expected.keys()
        for module, delta in served.items():
            assert torch.equal(delta, expected[module]) or torch.allclose(delta, expected[module], rtol=1e-12)
        config = resolve(tmp_path / "srv", name)
        assert config is not None
        assert (config["rank_pattern"], config["alpha_pattern"]) == ({}, {})
        with safe_open(tmp_path / "srv" / name / "adapter_model.safetensors", "pt") as file:
            ranks = {file.get_slice(key).get_shape()["lora_B" in key] for key in file.keys()}  # noqa: SIM118
        assert ranks == {config["r"]}
    # What the reason says helps.
    catalog.compose("v1", "1*v")
    catalog.set_alias("v1", "prod", 1)
    assert outcomes(catalog.sync_dir(tmp_path / "srv", "prod"))["v1"] == "added"
    expected = lora_deltas(tmp_path / "v")
    for module, delta in served_deltas(tmp_path / "srv", "v1").items():
        torch.testing.assert_close(delta, expected[module], rtol=1e-6, atol=1e-6)


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "dora": (
        {
            "config": {"use_dora": True},
            "extra": {
                f"{PREFIX}{name}.lora_magnitude_vector": torch.ones(shape[0])
                for name, shape in LINEARS.items()
            },
        },
        "DoRA",
    ),
    "saved": (
        {"config": {"modules_to_save": ["score"]}, "extra": {f"{PREFIX}score.weight": torch.ones(2, 8)}},
        "modules_to_save",
    ),
    "bias": (
        {"config": {"bias": "lora_only"}, "extra": {f"{PREFIX}{Q0}.base_layer.bias": torch.ones(12)}},
        "bias",
    ),
    "conv": ({"modules": {"conv": (4, 3, 3, 3)}}, "conv"),
    "pissa": ({"config": {"init_lora_weights": "pissa"}}, "initialization"),
    "qalora": ({"config": {"use_qalora": True}}, "QALoRA"),
    "rank": ({"r": 16}, "rank 16 is above 8"),
    "base": ({"base": "other/base"}, "its base model is other/base"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_cannot_be_served_is_left_out_with_the_reason(
    local: Registry, tmp_path: Path, what: str
) -> None:
    options, reason = LEFT_OUT[what]
    add(local, tmp_path / "bad", "bad", **options)
    add(local, tmp_path / "good", "good")
    done = local.sync_dir(tmp_path / "srv", "prod", base=BASE, max_rank=8)
    assert outcomes(done) == {"bad": "left out", "good": "added"}
    assert reason in (done.adapters[0].reason or "")
    assert resolve(tmp_path / "srv", "bad") is None


def test_other_kinds_are_left_out(local: Registry, tmp_path: Path) -> None:
    local.add(make_ia3(tmp_path / "i"), "i")
    local.set_alias("i", "prod", 1)
    done = local.sync_dir(tmp_path / "srv", "prod")
    assert (outcomes(done), done.adapters[0].reason) == (
        {"i": "left out"},
        "it is ia3, and only lora is served",
    )


def test_what_was_revoked_or_derives_from_it_is_taken_out(catalog: Registry, tmp_path: Path) -> None:
    add(catalog, tmp_path / "a", "a")
    catalog.compose("mix", "0.5*a")
    catalog.set_alias("mix", "prod", 1)
    assert outcomes(catalog.sync_dir(tmp_path / "srv", "prod")) == {"a": "added", "mix": "added"}
    with catalog._database.write() as session:
        bad, derived = (references.resolve(session, parse(name)).id for name in ("a", "mix"))
        session.add(RevocationRow(version_id=bad, reason="poisoned", revoked_at=now(), revoked_by="x"))
        session.flush()
        session.add(AffectedRow(version_id=derived, revoked_id=bad))
    done = catalog.sync_dir(tmp_path / "srv", "prod")
    assert [(each.folder, each.outcome) for each in done.adapters] == [
        ("a", "left out"),
        ("a", "removed"),
        ("mix", "left out"),
        ("mix", "removed"),
    ]
    assert "poisoned" in (done.adapters[0].reason or "")
    assert "a@1" in (done.adapters[2].reason or "")
    assert resolve(tmp_path / "srv", "a") is None


def test_the_same_weights_under_another_name_are_the_same_base(catalog: Registry, tmp_path: Path) -> None:
    """The config then names the base as it is served: the resolver compares letter by letter."""
    add(catalog, tmp_path / "a", "a", base="mirror/base")
    add(catalog, tmp_path / "b", "b", seed=1)
    assert outcomes(catalog.sync_dir(tmp_path / "srv", "prod", base=BASE)) == {"a": "left out", "b": "added"}
    with catalog._database.write() as session:
        session.execute(text("UPDATE base_models SET fingerprint = 'sha256:f'"))
        assert session.query(BaseModelRow).count() == 2
    done = catalog.sync_dir(tmp_path / "srv", "prod", base=BASE)
    assert outcomes(done) == {"a": "added", "b": "unchanged"}
    assert resolve(tmp_path / "srv", "a") is not None


def test_two_names_never_share_a_folder(local: Registry, tmp_path: Path) -> None:
    add(local, tmp_path / "1", "team/a")
    add(local, tmp_path / "2", "team--a", seed=1)
    done = local.sync_dir(tmp_path / "srv", "prod")
    assert [(each.name, each.outcome) for each in done.adapters] == [
        ("team--a", "added"),
        ("team/a", "left out"),
    ]
    assert outcomes(local.sync_dir(tmp_path / "srv", "prod")) != {}
    torch.testing.assert_close(
        served_deltas(tmp_path / "srv", "team--a")[Q0], lora_deltas(tmp_path / "2")[Q0]
    )


def test_damaged_bytes_are_not_served_and_what_is_served_stays(local: Registry, tmp_path: Path) -> None:
    add(local, tmp_path / "a", "a")
    local.sync_dir(tmp_path / "srv", "prod")
    add(local, tmp_path / "a2", "a", seed=1)
    damage(blob(local, "a@2"))
    before = snapshot(tmp_path / "srv")
    done = local.sync_dir(tmp_path / "srv", "prod")
    assert (outcomes(done), done.adapters[0].code) == ({"a": "failed"}, "INTEGRITY")
    assert snapshot(tmp_path / "srv") == before


def test_looking_makes_nothing(local: Registry, tmp_path: Path) -> None:
    add(local, tmp_path / "a", "a")
    done = local.sync_dir(tmp_path / "srv", "prod", dry_run=True)
    assert (outcomes(done), done.changed) == ({"a": "added"}, True)
    assert not (tmp_path / "srv").exists()
    with pytest.raises(UsageError):
        local.sync_dir(tmp_path / "srv", "latest")
    with pytest.raises(UsageError):
        local.sync_dir(tmp_path / "srv", "prod", max_rank=0)


def test_what_was_removed_by_hand_comes_back(local: Registry, tmp_path: Path) -> None:
    srv = tmp_path / "srv"
    add(local, tmp_path / "a", "a")
    local.sync_dir(srv, "prod")
    (srv / "a").resolve().joinpath("adapter_model.safetensors").unlink()
    assert outcomes(local.sync_dir(srv, "prod")) == {"a": "updated"}
    assert resolve(srv, "a") is not None
    shutil.rmtree(srv / OWN)
    assert outcomes(local.sync_dir(srv, "prod")) == {"a": "updated"}
    assert (srv / "a" / "adapter_model.safetensors").exists()


def test_a_crash_before_the_link_is_turned_leaves_what_was_served(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srv = tmp_path / "srv"
    add(local, tmp_path / "a", "a")
    local.sync_dir(srv, "prod")
    add(local, tmp_path / "a2", "a", seed=1)

    class Crash(BaseException):
        pass

    def crash(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", crash)
        with pytest.raises(Crash):
            local.sync_dir(srv, "prod")
    torch.testing.assert_close(served_deltas(srv, "a")[Q0], lora_deltas(tmp_path / "a")[Q0])
    assert outcomes(local.sync_dir(srv, "prod")) == {"a": "updated"}
    torch.testing.assert_close(served_deltas(srv, "a")[Q0], lora_deltas(tmp_path / "a2")[Q0])
    local.sync_dir(srv, "prod")
    assert folders(srv) == 1


def test_a_reader_never_sees_half_an_adapter(local: Registry, tmp_path: Path) -> None:
    srv = tmp_path / "srv"
    for version in range(6):
        local.add(make_lora(tmp_path / f"v{version}", seed=version), "a")
    local.set_alias("a", "prod", 1)
    local.sync_dir(srv, "prod")
    done, seen, wrong = threading.Event(), 0, []

    def read() -> None:
        nonlocal seen
        while not done.is_set():
            try:
                folder = (srv / "a").resolve()
                json.loads((srv / "a" / "adapter_config.json").read_bytes())
                if len(load_tensors(srv / "a")) != 2 * len(LINEARS):
                    wrong.append(str(folder))
            except Exception as error:  # noqa: BLE001  (whatever it is, a server would have met it)
                wrong.append(repr(error))
            seen += 1

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        local.set_alias("a", "prod", turn % 6 + 1)
        local.sync_dir(srv, "prod")
    done.set()
    reader.join()
    assert seen
    assert wrong == []


@pytest.mark.usefixtures("database_url")
def test_two_syncs_at_once_do_not_get_in_each_others_way(catalog: Registry, tmp_path: Path) -> None:
    for number in range(12):
        add(catalog, tmp_path / f"a{number}", f"a{number}", seed=number)
    words = [sys.executable, "-m", "registry", "sync-dir", str(tmp_path / "srv"), "--alias", "prod"]
    running = [
        subprocess.Popen([*words, "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], said
    counts = [json.loads(out)["adapters"] for out, _ in said]
    assert sum(each["outcome"] == "added" for adapters in counts for each in adapters) == 12
    assert all(resolve(tmp_path / "srv", f"a{number}") for number in range(12))
