"""What is done while something happens: each changes the catalog or the disk, and can be done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from registry import Registry
from registry.verbs.gc import gc

Scenario = Callable[[Registry, Path], object]


def add(catalog: Registry, folder: Path) -> object:
    return catalog.add(folder / "new", "added", tags={"k": "v"}, note="a note")


def add_next(catalog: Registry, folder: Path) -> object:
    return catalog.add(folder / "new", "a", parents=["b"])


def compose(catalog: Registry, _: Path) -> object:
    return catalog.compose("made", "a - 0.4*b", device="cpu")


def rebuild(catalog: Registry, folder: Path) -> object:
    catalog.add(folder / "new", "a")
    return catalog.rebuild(device="cpu")


def materialize(catalog: Registry, folder: Path) -> object:
    return catalog.materialize("mix", into="model", base_path=folder / "base", device="cpu")


def materialize_out(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "model").exists():
        return None
    return catalog.materialize(
        "mix", into="model", base_path=folder / "base", out=folder / "work" / "model", device="cpu"
    )


def checkout(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "out").exists():
        return None
    return catalog.checkout("mix", folder / "work" / "out")


def alias(catalog: Registry, _: Path) -> object:
    return catalog.set_alias("a", "prod", 1)


def tag(catalog: Registry, _: Path) -> object:
    return catalog.set_tags("a", {"stage": "done"})


def evaluate(catalog: Registry, _: Path) -> object:
    return catalog.add_evaluation("a", "accuracy", 0.5, dataset="d")


def revoke(catalog: Registry, _: Path) -> object:
    return catalog.revoke("b", "poisoned")


def delete(catalog: Registry, _: Path) -> object:
    if any(version.name == "spare" for version in catalog.list(limit=100).versions):
        return catalog.delete("spare")
    return None


def export(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "bundle.tar").exists():
        return None
    return catalog.export(folder / "work" / "bundle.tar")


def import_bundle(catalog: Registry, folder: Path) -> object:
    return catalog.import_bundle(folder / "other.tar")


def collect(catalog: Registry, _: Path) -> object:
    return gc(catalog._database, catalog._blobs, apply=True, actor="tester", grace=timedelta(0))


def sync_dir(catalog: Registry, folder: Path) -> object:
    return catalog.sync_dir(folder / "work" / "served", alias="live")


SCENARIOS: Mapping[str, Scenario] = {
    function.__name__.replace("_", "-"): function
    for function in (
        add, add_next, compose, rebuild, materialize, materialize_out, checkout, alias, tag, evaluate, revoke, delete,
        export, import_bundle, sync_dir, collect,
    )
}  # fmt: skip
