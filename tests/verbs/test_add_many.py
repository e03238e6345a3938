"""``add --recursive``: everything below a folder, each for itself, as often as it is asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.errors import NotFound, StorageFailure, UsageError
from registry.reference import check_name
from registry.results import AddedAll
from registry.verbs import _naming
from tests.adapters import make_ia3, make_lora, make_opaque
from tests.verbs.places import blob, damage, refused, state


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_lora(root / "team" / "a")
    make_lora(root / "team" / "b", seed=1)
    make_ia3(root / "solo")
    make_lora(root / "team" / "b" / "checkpoint-5", seed=2)
    make_lora(root / ".cache" / "hidden", seed=3)
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("no adapter")
    return root


def outcomes(result: AddedAll) -> dict[str, tuple[str, str | None]]:
    return {each.path: (each.outcome, each.ref) for each in result.found}


def test_every_adapter_below_is_added_under_its_path(catalog: Registry, tree: Path) -> None:
    done = catalog.add_all(tree, task="t", tags={"run": "nightly"}, license="mit", note="from runs")
    assert outcomes(done) == {
        "solo": ("added", "solo@1"),
        "team/a": ("added", "team/a@1"),
        "team/b": ("added", "team/b@1"),
        "team/b/checkpoint-5": ("added", "team/b-checkpoint-5@1"),
    }
    assert (done.added, done.present, done.refused) == (4, 0, 0)
    assert [each.named for each in done.found] == [True, True, True, False]
    assert all(check.ok for check in catalog.verify())
    shown = catalog.show("team/a")
    assert (shown.task, shown.tags, shown.license, shown.note) == (
        "t",
        {"run": "nightly"},
        "mit",
        "from runs",
    )
    assert shown.source == str(tree / "team" / "a")
    assert shown.digest == catalog.add(tree / "team" / "a", "again").digest


def test_what_was_revoked_is_told_as_when_it_is_added_alone(
    catalog: Registry, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.verbs._seen.SETTLED_NS", -(10**12))  # so that it is remembered at once
    catalog.add(tree / "team" / "a", "bad")
    catalog.revoke("bad", "leaked data")
    for _ in range(2):
        found = {each.path: each.warnings for each in catalog.add_all(tree).found}
        assert found.pop("team/a") == ("this is the content of bad@1, which was revoked: leaked data",)
        assert set(found.values()) == {()}
    catalog.revoke("solo", "no licence")
    for _ in range(2):  # known by its stamps, and read again
        again = {each.path: each.warnings for each in catalog.add_all(tree).found}
        assert again["solo"] == ("solo@1 was revoked: no licence",)
        (tmp_path / "home" / "folders.jsonl").unlink(missing_ok=True)


def test_again_changes_nothing_and_what_changed_is_the_next_version(catalog: Registry, tree: Path) -> None:
    catalog.add_all(tree)
    before = state(catalog)
    again = catalog.add_all(tree)
    assert {each.outcome for each in again.found} == {"present"}
    assert state(catalog) == before
    make_lora(tree / "team" / "a", seed=9)
    make_lora(tree / "late", seed=10)
    third = catalog.add_all(tree)
    assert (third.added, third.present) == (2, 3)
    assert outcomes(third)["team/a"] == ("added", "team/a@2")


def test_what_was_seen_is_not_read_again_unless_it_changed(local: Registry, tree: Path) -> None:
    old = time.time() - 100
    for file in tree.rglob("*"):
        os.utime(file, (old, old))
    # The time of change cannot be set, so that the settled folders are made by waiting past them.
    time.sleep(5.1)
    local.add_all(tree)
    weights = tree / "team" / "a" / "adapter_model.safetensors"
    memory = local._config.home / "folders.jsonl"
    assert str(tree / "team" / "a") in memory.read_text()
    weights.chmod(0)
    if os.geteuid() != 0:
        assert outcomes(local.add_all(tree))["team/a"][0] == "refused", "a changed mode is a change"
    weights.chmod(0o600)
    local.delete("team/a")
    assert outcomes(local.add_all(tree))["team/a"] == ("added", "team/a@2"), "what the catalog lacks is read"
    memory.write_bytes(b'garbage\n["x"]\n[[[\n\xff')
    assert local.add_all(tree).present == 4


def test_one_that_is_refused_holds_up_nothing_else(catalog: Registry, tree: Path) -> None:
    (tree / "bad").mkdir()
    (tree / "bad" / "adapter_config.json").write_text("{")
    (tree / "bad" / "adapter_model.safetensors").write_text("x")
    (tree / "empty").mkdir()
    (tree / "empty" / "adapter_config.json").write_text("{}")
    make_lora(tree / "nobase", seed=5, base=None)
    make_ia3(tree / "taken", seed=6)
    catalog.add(make_lora(tree.parent / "lora", seed=7), "taken")
    make_lora(tree / "link", seed=8)
    (tree / "link" / "adapter_config.json").unlink()
    (tree / "link" / "adapter_config.json").symlink_to(tree / "team" / "a" / "adapter_config.json")
    make_lora(tree / "pipe", seed=8)
    (tree / "pipe" / "adapter_model.safetensors").unlink()
    os.mkfifo(tree / "pipe" / "adapter_model.safetensors")
    make_opaque(tree / "oft", config={"base_model_name_or_path": "tiny/base"})
    done = catalog.add_all(tree)
    found = {each.path: each for each in done.found}
    assert (done.added, done.refused) == (5, 6)
    assert found["taken"].code == "CONFLICT"
    for path, part in {
        "bad": "adapter_config.json",
        "empty": "no adapter_model.safetensors",
        "nobase": "names no base model",
        "taken": "taken by lora",
        "link": "leaves the folder",
        "pipe": "not a regular file",
    }.items():
        error = found[path].error or ""
        assert found[path].outcome == "refused"
        assert part in error, path
        assert "\n" not in error
    assert found["oft"].warnings
    assert catalog.add_all(tree, base="tiny/base").refused == 5, "nobase has one now"


def test_the_same_content_twice_is_two_adapters_and_one_blob(catalog: Registry, tmp_path: Path) -> None:
    for name in ("x", "y", "z/one"):
        make_lora(tmp_path / "same" / name)
    done = catalog.add_all(tmp_path / "same")
    assert done.added == 3
    assert len({each.digest for each in done.found}) == 1
    assert len(dict(catalog._blobs.digests())) == 2


def test_two_paths_of_one_name_within_a_batch_are_told_apart(catalog: Registry, tmp_path: Path) -> None:
    for number, name in enumerate(("a b", "a+b", "a-b", "A-B")):
        make_lora(tmp_path / "runs" / name, seed=number)
    done = catalog.add_all(tmp_path / "runs")
    names = {each.path: each.name for each in done.found}
    assert names["A-B"] == "A-B"
    assert len({name.lower() for name in names.values()}) == 4
    assert done.added == 4
    assert outcomes(catalog.add_all(tmp_path / "runs")) == {
        path: ("present", f"{name}@1") for path, name in names.items()
    }


NAMES: list[tuple[list[str], str | None, dict[str, str]]] = [
    (["."], None, {".": "root"}),
    (["a", "b/c", "b/d/e"], None, {"a": "a", "b/c": "b/c", "b/d/e": "b/d-e"}),
    (["a", "b/c"], "p", {"a": "p/a", "b/c": "p/b-c"}),
    (["2024 run/α/x"], None, {"2024 run/α/x": "run/adapter-x"}),
    (["--/.."], None, {"--/..": "adapter/adapter"}),
    (["0", "1"], None, {"0": "adapter-5feceb66", "1": "adapter-6b86b273"}),
    (["x y", "x-y"], None, {"x-y": "x-y", "x y": "x-y-6f8b4a0c"}),
]


@pytest.mark.parametrize(("paths", "prefix", "expected"), NAMES)
def test_names_come_from_paths_by_rule(
    paths: list[str], prefix: str | None, expected: dict[str, str]
) -> None:
    made = _naming.names(paths, prefix=prefix, root="root")
    for path, name in expected.items():
        assert made[path][: len(name) - 8] == name[: len(name) - 8]
        check_name(made[path])
    assert made == _naming.names(reversed(paths), prefix=prefix, root="root")


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    paths = [f"{'x' * 150}/{'y' * 150}{end}" for end in "ab"]
    made = _naming.names(paths, prefix=None, root="r")
    assert len(set(made.values())) == 2
    for name in made.values():
        check_name(name)


def test_a_folder_without_adapters_is_a_mistake(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with refused(local, NotFound, "no adapter_config.json", code=3):
        local.add_all(tmp_path / "empty")
    with refused(local, NotFound, "no folder", code=3):
        local.add_all(tmp_path / "none")
    with refused(local, UsageError, "not an adapter name", code=2):
        local.add_all(make_lora(tmp_path / "a"), prefix="a/b")


def test_the_folder_may_be_an_adapter_itself(local: Registry, tmp_path: Path) -> None:
    done = local.add_all(make_lora(tmp_path / "mine"))
    assert outcomes(done) == {".": ("added", "mine@1")}


def test_more_than_a_batch(local: Registry, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules={"q": (4, 4)}, r=1)
    config = json.loads((source / "adapter_config.json").read_text())
    for number in range(600):
        folder = tmp_path / "many" / f"n{number}"
        shutil.copytree(source, folder)
        # Another scale is another content.
        (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": number + 1}))
    seen: list[tuple[int, int]] = []
    done = local.add_all(tmp_path / "many", progress=lambda _what, at, total: seen.append((at, total)))
    assert done.added == 600
    assert seen == [(at, 600) for at in range(1, 601)]
    assert len({each.digest for each in done.found}) == 600
    assert local._blobs.leftovers(grace()) == []


def grace() -> Any:
    from datetime import timedelta

    return timedelta(0)


def test_a_disk_that_is_full_ends_it_and_again_goes_on(
    local: Registry, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with refused(local, StorageFailure, "No space left", code=1):
            local.add_all(tree)
    assert local.add_all(tree).added == 4


def test_an_interrupt_leaves_what_was_recorded_whole(sqlite_url: str, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "a", modules={"q": (4, 4)}, r=1)
    config = json.loads((source / "adapter_config.json").read_text())
    for number in range(1500):
        folder = tmp_path / "many" / f"n{number:04}"
        shutil.copytree(source, folder)
        (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": number + 1}))
    words = [sys.executable, "-m", "registry", "add", "--recursive", str(tmp_path / "many")]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        while running.poll() is None and not catalog.list(limit=1).versions:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
        assert running.returncode in {130, 0}, said
        assert running.returncode == 0 or "interrupted" in said
        assert all(check.ok for check in catalog.verify())
        assert catalog._blobs.leftovers(grace()) == []
        done = catalog.add_all(tmp_path / "many")
        assert done.refused == 0
        assert len(catalog.verify()) == 1500


def test_blobs_of_a_batch_are_those_of_single_adds(local: Registry, tree: Path) -> None:
    local.add_all(tree)
    path = blob(local, "team/a")
    assert path.read_bytes() == (tree / "team" / "a" / "adapter_model.safetensors").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o400


def test_a_blob_that_is_damaged_is_replaced(local: Registry, tree: Path) -> None:
    local.add_all(tree)
    damage(blob(local, "team/a"))
    damage(blob(local, "team/b", "adapter_config.json"), 0)
    shutil.copytree(tree, tree.parent / "copy")
    assert local.add_all(tree.parent / "copy", prefix="copy").added == 4
    assert all(check.ok for check in local.verify())
