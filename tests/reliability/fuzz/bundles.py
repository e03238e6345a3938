"""Bundles: as a file, and as the lines in it, with the digests over them made right again."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry import Registry
from registry.catalog import bundle_check
from registry.catalog.bundle_lines import FORMAT
from registry.catalog.database import HEAD
from registry.errors import RegistryError
from registry.peft_format import TENSORS
from registry.verbs import _container, import_
from tests.adapters import Q0, make_lora
from tests.reliability.fuzz.target import Target


@contextmanager
def file(folder: Path) -> Iterator[Target]:
    """A bundle's bytes: the members, their headers, the manifest. Everything is looked at, nothing written."""
    seed = exported(folder).read_bytes()
    path = folder / "case.tar"

    def run(case: bytes) -> None:
        path.write_bytes(case)
        with _container.open_bundle(path) as bundle:
            bundle_check.check(bundle)
            for _ in bundle.blobs(import_._sizes(bundle)):
                pass

    yield Target((seed,), run)


@contextmanager
def lines(folder: Path) -> Iterator[Target]:
    """A bundle's lines, imported into an empty catalog; where that takes them, all of it can be looked at."""
    made = exported(folder)
    tables, blobs = read(made)
    with Registry.open(folder / "empty") as catalog:
        catalog.list()
        catalog.gc()
    path, home = folder / "case.tar", folder / "into"

    def run(case: bytes) -> None:
        said = json.loads(case)
        if not isinstance(said, dict) or not all(isinstance(each, list) for each in said.values()):
            return
        if not all(_utf8(name) for name in said):
            return  # no table can be called so in a file of ours
        write(said, blobs, path)
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(folder / "empty", home)
        with Registry.open(home, actor="fuzz") as catalog:
            if catalog.import_bundle(path).changed:
                _look(catalog, folder)

    yield Target((json.dumps(tables).encode(),), run, "only")


def exported(folder: Path) -> Path:
    """A bundle with something in most of its tables."""
    base = folder / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    here = f"sqlite:///{folder / 'made.db'}"
    with Registry.open(folder / "made", database_url=here, blobs=str(folder / "made" / "blobs")) as catalog:
        for seed, name in enumerate(("a", "b", "gone")):
            catalog.add(make_lora(folder / name, modules={Q0: (8, 8)}, seed=seed), name)
        shutil.copy(folder / "a" / TENSORS, base / "model.safetensors")
        catalog.add_base_model("tiny/base", base_path=base)
        catalog.set_base_alias("tiny", "tiny/base")
        catalog.compose("mix", "0.5*a + 0.5*b", device="cpu")
        catalog.compose(
            "cut", "truncate(a - 0.4*mix, rank=2)", device="cpu", tags={"team": "x"}, note="a note"
        )
        catalog.set_alias("mix", "live", 1)
        catalog.add_evaluation("a", "accuracy", 0.5, dataset="sst2")
        catalog.sweep(
            "mix", "{w}*a + 0.5*b", over={"w": "0.25,0.75"}, evaluate=lambda _, values: {"loss": float(values["w"])},
            metric="loss:max", constrain=["loss < 9"], device="cpu",
        )  # fmt: skip
        catalog.revoke("b", "bad")
        catalog.add_rule("cut", "team/{name}", revision="{kind}")
        catalog.delete("gone")
        catalog.export(folder / "bundle.tar")
    return folder / "bundle.tar"


def read(path: Path) -> tuple[dict[str, list[Any]], dict[str, bytes]]:
    """A bundle's lines by table, and its blobs by their names."""
    with tarfile.open(path) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    manifest = json.loads(found["manifest.json"])
    tables = {
        name: [json.loads(line) for line in found[f"tables/{name}.jsonl"].splitlines()]
        for name in manifest["tables"]
    }
    return tables, {name: data for name, data in found.items() if name.startswith("blobs/")}


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def write(tables: dict[str, list[Any]], blobs: dict[str, bytes], path: Path) -> None:
    """A bundle of these lines, whose sizes and digests are right."""
    path.unlink(missing_ok=True)
    text = json.dumps(tables)
    recipes = tables.get("recipes")
    for each in recipes if isinstance(recipes, list) else []:
        match each:
            case {"digest": str(told), "canonical": str(canonical)}:
                right = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
                text = text.replace(json.dumps(told), f'"sha256:{right}"') if told else text
    tables = json.loads(text)
    with _container.new_file(path) as file:
        writer = _container.Writer(file)
        for name, many in tables.items():
            writer.table(name, (json.dumps(line).encode("utf-8", "surrogatepass") + b"\n" for line in many))
        for name, data in blobs.items():
            part = path.with_suffix(".blob")
            part.write_bytes(data)
            writer.blob("sha256:" + name.rpartition("/")[2], len(data), part)
        writer.finish(_container.Manifest(format=FORMAT, schema=HEAD, blobs=True, tables=writer.tables))


def _look(catalog: Registry, folder: Path) -> None:
    """Read everything that was taken: each part is there, or is missed in one line."""
    catalog.gc()
    (folder / "again.tar").unlink(missing_ok=True)
    for look in (
        catalog.stale, catalog.aliases, catalog.events, catalog.rules, catalog.publications, catalog.base_models, catalog.base_aliases,
        catalog.verify, lambda: catalog.export(folder / "again.tar"),
    ):  # fmt: skip
        _met(look)
    for sweep in catalog.sweeps():
        catalog.sweep_result(sweep.id or 0)
    for version in catalog.list(limit=20).versions:
        for see in (
            catalog.show, catalog.lineage, catalog.impact, catalog.compare_evaluations, catalog.explain,
            catalog.card, lambda ref: catalog.check(f"truncate({ref}, rank=1)"),
        ):  # fmt: skip
            _met(see, version.ref)


def _met(look: Any, *given: Any) -> None:
    with suppress(RegistryError):
        look(*given)
