"""Export and import: equal catalogs give equal bundles, and nothing of a bundle is believed before it is checked."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from registry import Registry
from registry.catalog import publications, references, revocations
from registry.catalog.bundle_export import _plain
from registry.catalog.bundle_lines import FORMAT
from registry.catalog.database import HEAD
from registry.catalog.events import now
from registry.catalog.tables import (
    AliasRow,
    BaseAliasRow,
    BaseLayoutRow,
    BaseModelRow,
    RevocationRow,
)
from registry.errors import (
    Conflict,
    IntegrityFailure,
    NotFound,
    Refused,
    SchemaOutdated,
)
from registry.reference import parse
from registry.verbs import _container
from tests.adapters import make_ia3, make_lora
from tests.models import tiny_llama
from tests.verbs.places import blob, damage, refused, state

Line = dict[str, Any]
Change = Callable[[dict[str, list[Line]]], None]


@pytest.fixture
def other(sqlite_template: Path, tmp_path: Path) -> Iterator[Registry]:
    """A second, empty catalog, on SQLite, with a blob store of its own."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "registry.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{tmp_path / 'other' / 'registry.db'}"
    with Registry.open(tmp_path / "other", database_url=url, actor="importer") as opened:
        yield opened


def busy(catalog: Registry, folder: Path) -> None:
    """Something of everything that a catalog can hold."""
    catalog.add(make_lora(folder / "a"), "team/a", task="one", tags={"x": "ünï", "y": ""}, note="a «note»\n2")
    catalog.add(make_lora(folder / "b", seed=1), "b", license="mit", parents=["team/a"])
    catalog.add(make_lora(folder / "b2", seed=2), "b")
    catalog.add(make_ia3(folder / "c"), "C-with.case")
    catalog.set_alias("b", "Prod", 1)
    catalog.compose("mix", "b@prod - 0.25*team/a", tags={"k": "v"})
    catalog.compose("mix", "ties(0.5*b + 0.5*mix, density=0.5)")
    catalog.compose("mix", "b - team/a")
    catalog.delete("mix@2")
    catalog.set_alias("mix", "staging", 3)
    for value in (0.1, 1e-9, 1e22):
        catalog.add_evaluation("mix@1", f"m{value}", value, dataset="d", split="test" if value < 1 else None)
    swept(catalog)
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("mix@1"))
        for publish_id, files in (("p1", {"f": "sha256:" + "0" * 64}), ("p2", {})):
            publications.begin(
                session, pin, publish_id=publish_id, repo="o/r", revision="main", target="adapter", files=files,
                actor="me",
            )  # fmt: skip
        publications.finish(session, "p1", commit="c", url="u", ref=pin.ref, actor="me")
        alias = session.scalars(select(AliasRow).where(AliasRow.alias == "Prod")).one()
        alias.protected = True
        base = session.scalars(select(BaseModelRow)).first()
        assert base is not None
        session.add(
            BaseAliasRow(
                alias_key="tiny", alias="Tiny", base_model_id=base.id, updated_at=now(), updated_by="me"
            )
        )
        tensors = {
            "format": 1,
            "config": {"a": {"scale": 1e22, "zero": -0.0, "small": 1e-7}},
            "tensors": {"z": ["float32", 2, 3]},
        }
        session.add(BaseLayoutRow(fingerprint="f", layout=tensors, created_at=now()))
        revoked = references.resolve(session, parse("team/a"))
        session.add(
            RevocationRow(version_id=revoked.id, reason="poisoned", revoked_at=now(), revoked_by="me")
        )
        session.flush()
        session.execute(
            text("INSERT INTO affected SELECT DISTINCT child_id, :id FROM lineage"), {"id": revoked.id}
        )


def swept(catalog: Registry) -> None:
    """A sweep that gave a version, with a point that failed, and one that gave none."""

    def measure(_path: Path, values: Mapping[str, Decimal]) -> dict[str, float]:
        if values["w"] == 1:
            raise ValueError("«no» luck")
        return {"loss": float(values["w"]), "ppl": 1e22, "zero": -0.0}

    options: dict[str, Any] = {"evaluate": measure, "metric": "loss", "minimize": True}
    catalog.sweep(
        "best", "b@prod - {w}*team/a", over={"w": "0.5:1:0.25"}, constrain=["ppl < 1e30"], **options
    )
    catalog.sweep("best", "{v}*b@prod - {w}*team/a", over={"v": "2", "w": "0.5"}, record=False, **options)


DERIVED = {
    "words": "SELECT word, version_id FROM words",
    "swept": "SELECT number, name FROM sweeps JOIN versions ON version_id = versions.id",
    "name_words": "SELECT word, name_key FROM name_words JOIN adapters ON adapter_id = id",
    "affected": "SELECT version_id, revoked_id FROM affected",
    "latest": "SELECT name, number FROM versions JOIN adapters ON latest_of = adapters.id",
    "ids": "SELECT id, number FROM versions",
}


def derived(catalog: Registry) -> dict[str, list[Any]]:
    """What a bundle leaves out and an import makes again."""
    with catalog._database.read() as session:
        return {
            name: sorted(tuple(row) for row in session.execute(text(query)))
            for name, query in DERIVED.items()
        }


def shown(catalog: Registry) -> list[Any]:
    names = [version.name for version in catalog.list().versions]
    sweeps = [catalog.sweep_result(sweep.id or 0) for sweep in catalog.sweeps()]
    return [sweeps, *((name, catalog.log(name), catalog.lineage(name, direction="down")) for name in names)]


def test_a_round_trip_over_the_other_database_gives_the_same_bytes(
    catalog: Registry, other: Registry, tmp_path: Path, sqlite_template: Path
) -> None:
    busy(catalog, tmp_path)
    first, second, third = (tmp_path / f"{name}.tar" for name in "123")
    exported = catalog.export(first)
    done = other.import_bundle(first)
    assert done.complete
    assert done.changed
    assert (done.missing, done.added) == (0, {name: n for name, n in exported.counts.items() if n})
    other.export(second)
    assert first.read_bytes() == second.read_bytes()
    assert shown(other) == shown(catalog)
    assert derived(other) == derived(catalog)
    assert [check.ok for check in other.verify()] == [check.ok for check in catalog.verify()]
    assert all(check.ok for check in other.verify())
    third_home = tmp_path / "third"
    third_home.mkdir()
    (third_home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(third_home, database_url=f"sqlite:///{third_home / 'registry.db'}") as back:
        back.import_bundle(second)
        back.export(third)
        assert third.read_bytes() == first.read_bytes()
        back.unrevoke("team/a@1")
        assert back.compose("mix", "b@prod - 0.25*team/a").created is False, "the recipe is known"


def test_a_catalog_goes_on_after_an_import(catalog: Registry, other: Registry, tmp_path: Path) -> None:
    """Counters and sequences are where they have to be."""
    busy(other, tmp_path)
    other.export(tmp_path / "b.tar")
    catalog.import_bundle(tmp_path / "b.tar")
    assert catalog.add(make_lora(tmp_path / "n", seed=9), "b").ref == "b@3"
    assert catalog.show("b").ref == "b@3"
    assert catalog.compose("new", "b + b@2").ref == "new@1"
    assert catalog.show("mix@staging").ref == "mix@3"


def test_importing_again_changes_nothing(catalog: Registry, other: Registry, tmp_path: Path) -> None:
    busy(other, tmp_path)
    bundle = tmp_path / "b.tar"
    other.export(bundle)
    for target in (catalog, other):
        target.import_bundle(bundle)
        before = state(target)
        again = target.import_bundle(bundle)
        assert (again.changed, again.complete, again.added, again.stored) == (False, False, {}, 0)
        assert state(target) == before


def test_what_is_new_is_added_and_what_goes_on_is_extended(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    busy(other, tmp_path)
    other.export(tmp_path / "old.tar")
    catalog.add(make_lora(tmp_path / "own", seed=7), "own")
    assert catalog.import_bundle(tmp_path / "old.tar").added["sweeps"] == 1, "that of a version"
    (sweep,) = catalog.sweeps()
    assert catalog.sweep_result(sweep.id or 0) == other.sweep_result(1)
    assert catalog.show("best").sweep == sweep.id
    catalog.set_alias("b", "beta", 2)
    other.add(make_lora(tmp_path / "b3", seed=3), "b", parents=["team/a"])
    other.add(make_lora(tmp_path / "b4", seed=5), "b")
    other.add(make_lora(tmp_path / "e", seed=4), "extra")
    other.set_alias("b", "beta", 4)
    other.set_alias("b", "gamma", 4)
    other.export(tmp_path / "new.tar")
    done = catalog.import_bundle(tmp_path / "new.tar")
    assert (done.complete, done.changed, done.extended, done.kept) == (False, True, 1, ("b@beta",))
    assert done.added["versions"] == 3
    assert done.added["adapters"] == 1
    assert catalog.show("b").ref == "b@4"
    assert catalog.show("b@gamma").ref == "b@4"
    assert catalog.show("b@beta").ref == "b@2"
    assert catalog.show("own").ref == "own@1"
    assert all(check.ok for check in catalog.verify())
    with catalog._database.read() as session:
        events = session.execute(text("SELECT actor, subject FROM events WHERE action = 'bundle'")).all()
        affected = session.execute(
            text("SELECT count(*) FROM affected JOIN versions ON version_id = id WHERE number = 3")
        ).scalar_one()
    subjects = sorted(row.subject for row in events)
    assert subjects == ["C-with.case", "Tiny", "b", "b", "best", "extra", "mix", "team/a"]
    assert affected == 2, "a new version of a revoked parent is affected as well"
    # An older bundle than what is here: nothing to do.
    assert catalog.import_bundle(tmp_path / "old.tar").changed is False


def test_a_revocation_reaches_the_versions_that_are_here(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    other.add(make_lora(tmp_path / "a"), "a")
    other.export(tmp_path / "old.tar")
    catalog.import_bundle(tmp_path / "old.tar")
    catalog.compose("mine", "0.5*a")
    with other._database.write() as session:
        pin = references.resolve(session, parse("a"))
        session.add(RevocationRow(version_id=pin.id, reason="bad", revoked_at=now(), revoked_by="x"))
    other.export(tmp_path / "new.tar")
    assert catalog.import_bundle(tmp_path / "new.tar").added == {"revocations": 1}
    with catalog._database.read() as session:
        query = "SELECT name FROM affected JOIN versions v ON version_id = v.id JOIN adapters a ON adapter_id = a.id"
        assert session.scalars(text(query)).all() == ["mine"]
        said = session.execute(text("SELECT subject FROM events WHERE action = 'bundle'")).scalar_one()
    assert said == "a@1"


@pytest.mark.parametrize("what", ["content", "case", "base", "recipe"])
def test_what_contradicts_is_refused_by_name_and_nothing_is_changed(
    catalog: Registry, other: Registry, tmp_path: Path, what: str
) -> None:
    other.add(make_lora(tmp_path / "z"), "zoo")
    other.add(make_lora(tmp_path / "a"), "a")
    if what == "recipe":
        other.compose("m", "0.5*a")
    other.export(tmp_path / "b.tar")
    if what == "content":
        catalog.add(make_lora(tmp_path / "a2", seed=5), "a")
        parts = ["a@1 has another content"]
    elif what == "case":
        catalog.add(make_lora(tmp_path / "a2", seed=5), "A")
        parts = ["'a'", "'A'", "case"]
    elif what == "base":
        catalog.add(tmp_path / "a", "a", base="other/base")
        parts = ["a@1 has another base model"]
    else:
        other.checkout("m", tmp_path / "m")
        catalog.add(tmp_path / "m", "m")
        parts = ["m@1 has another recipe"]
    with refused(catalog, Conflict, *parts, code=4):
        catalog.import_bundle(tmp_path / "b.tar")


def test_what_is_said_of_base_models_comes_along_and_is_told(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    for each in (catalog, other):
        each.add(make_lora(tmp_path / "a", base="gpt2"), "a")
    other.add(make_lora(tmp_path / "b", base="tiny/llama", seed=1), "b")
    other.add_base_model("gpt2", base_path=tiny_llama(tmp_path / "base"))
    for alias in ("small", "elsewhere"):
        other.set_base_alias(alias, "tiny/llama")
    other.set_base_alias("two", "gpt2")
    other.export(tmp_path / "b.tar")
    catalog.add(make_lora(tmp_path / "c", base="Small", seed=2), "c")
    catalog.set_base_alias("elsewhere", "gpt2")
    done = catalog.import_bundle(tmp_path / "b.tar")
    assert done.kept == ("elsewhere", "small"), "one points elsewhere, one is a base model's own name"
    assert {alias.alias: str(alias.base_model) for alias in catalog.base_aliases()} == {
        "elsewhere": "gpt2",
        "two": "gpt2",
    }
    assert catalog.base_model("Small").repo == "Small"
    assert catalog.base_tensors("gpt2") == other.base_tensors("gpt2") != {}
    told = {event.subject: event.detail for event in catalog.events(action="bundle")}
    assert set(told) == {"b", "gpt2", "two"}
    assert told["gpt2"] == {"bundle": done.digest, "fingerprint": other.base_model("gpt2").fingerprint}
    assert told["two"] == {"bundle": done.digest, "base_model": "gpt2"}
    again = catalog.import_bundle(tmp_path / "b.tar")
    assert (again.changed, again.kept) == (False, done.kept)


def test_weights_that_become_known_are_a_change(catalog: Registry, other: Registry, tmp_path: Path) -> None:
    for each in (catalog, other):
        each.add(make_lora(tmp_path / "a", base="gpt2"), "a")
    with other._database.write() as session:
        session.scalars(select(BaseModelRow)).one().fingerprint = "sha256:" + "1" * 64
    other.export(tmp_path / "b.tar")
    assert catalog.import_bundle(tmp_path / "b.tar").changed
    assert [event.subject for event in catalog.events(action="bundle")] == ["gpt2"]
    assert not catalog.import_bundle(tmp_path / "b.tar").changed


def test_what_belongs_to_no_adapter_is_told_as_well(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base")
    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    other.add(make_lora(tmp_path / "a", modules=modules), "a", base_path=base)
    other.export(tmp_path / "old.tar")
    catalog.import_bundle(tmp_path / "old.tar")
    other.materialize("a", into="model", base_path=base, device="cpu")
    other.export(tmp_path / "new.tar")
    done = catalog.import_bundle(tmp_path / "new.tar")
    assert "realisations" in done.added
    (told,) = catalog.events(action="bundle")
    assert (told.subject, told.detail) == ("catalog", {"bundle": done.digest, "added": done.added})
    assert catalog.materialize("a", into="model", base_path=base, device="cpu").cached


def test_an_adapter_without_versions_is_extended_like_any_other(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    other.add(make_lora(tmp_path / "a"), "a")
    other.add(make_lora(tmp_path / "b", seed=1), "b")
    other.export(tmp_path / "b.tar")

    def without(tables: dict[str, list[Line]]) -> None:
        tables["adapters"][1]["last_version"] = 0
        del tables["versions"][1]

    catalog.import_bundle(rewritten(tmp_path / "b.tar", tmp_path / "none.tar", without))
    assert catalog.import_bundle(tmp_path / "b.tar").extended == 1
    assert catalog.show("b").ref == "b@1"
    assert catalog.add(make_lora(tmp_path / "b2", seed=2), "b").ref == "b@2"


def test_an_import_holds_nothing_that_a_composition_wants_while_it_waits_for_one(
    postgres_url: str, tmp_path: Path
) -> None:
    with Registry.open(tmp_path / "home", database_url=postgres_url) as catalog:
        database = catalog._database
        catalog.add(make_lora(tmp_path / "a"), "a")
        catalog.export(tmp_path / "b.tar")
        with database.write() as composing, ThreadPoolExecutor(1) as thread:
            revocations.await_edges(composing)  # as whoever composes does first
            importing = thread.submit(catalog.import_bundle, tmp_path / "b.tar")
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while True:
                with database.read() as session:
                    if session.execute(waiting).scalar_one():
                        break
            # Would wait, and end in a deadlock, were the adapters locked by the import.
            composing.execute(text("SELECT id FROM adapters FOR UPDATE NOWAIT")).all()
            composing.commit()
            assert importing.result().changed is False


def test_without_blobs_what_is_known_is_known_and_bytes_can_follow(
    catalog: Registry, other: Registry, tmp_path: Path
) -> None:
    catalog.add(make_lora(tmp_path / "a"), "a")
    catalog.export(tmp_path / "thin.tar", blobs=False)
    catalog.export(tmp_path / "full.tar")
    held = [
        [member.name for member, _ in members(tmp_path / name) if member.name.startswith("blobs/")]
        for name in ("thin.tar", "full.tar")
    ]
    assert [len(each) for each in held] == [0, 2]
    done = other.import_bundle(tmp_path / "thin.tar")
    assert (done.missing, done.stored, done.complete) == (2, 0, True)
    assert not other.verify()[0].ok
    other.export(tmp_path / "again.tar", blobs=False)
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "thin.tar").read_bytes()
    with pytest.raises(IntegrityFailure, match="missing"):
        other.export(tmp_path / "no.tar")
    assert not (tmp_path / "no.tar").exists()
    filled = other.import_bundle(tmp_path / "full.tar")
    assert (filled.changed, filled.stored, filled.missing) == (False, 2, 0)
    assert other.verify()[0].ok


def test_a_damaged_blob_is_not_exported(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    damage(blob(local, "a"))
    with pytest.raises(IntegrityFailure, match="damaged"):
        local.export(tmp_path / "b.tar")
    assert [path.name for path in tmp_path.glob("*b.tar*")] == []


def test_what_exists_is_not_overwritten(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        local.export(tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"


def test_a_bundle_is_a_tar_that_any_tool_reads(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    local.export(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        names = archive.getnames()
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        for name, said in manifest["tables"].items():
            data = archive.extractfile(f"tables/{name}.jsonl").read()  # type: ignore[union-attr]
            assert (len(data), data.count(b"\n")) == (said["size"], said["rows"])
            assert "sha256:" + hashlib.sha256(data).hexdigest() == said["sha256"]
    assert (manifest["format"], manifest["schema"], manifest["blobs"]) == (3, HEAD, True)
    assert names[0] == "manifest.json"
    assert len([name for name in names if name.startswith("blobs/sha256/")]) == 2


# -- hostile bundles


def rewritten(source: Path, target: Path, change: Change, **said: Any) -> Path:
    """A bundle with its lines changed, its digests and counts right again."""
    with tarfile.open(source) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        tables = {
            name: [json.loads(line) for line in archive.extractfile(f"tables/{name}.jsonl")]  # type: ignore[union-attr]
            for name in manifest["tables"]
        }
        blobs = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.name.startswith("blobs/")
        }
    change(tables)
    with _container.new_file(target) as file:
        writer = _container.Writer(file)
        for name, lines in tables.items():
            writer.table(name, (json.dumps(line).encode() + b"\n" for line in lines))
        for name, data in blobs.items():
            path = target.with_suffix(".blob")
            path.write_bytes(data)
            writer.blob("sha256:" + name.rpartition("/")[2], len(data), path)
        schema = said.get("schema", HEAD)
        writer.finish(
            _container.Manifest(
                format=said.get("format", FORMAT),
                schema=schema,
                blobs=manifest["blobs"],
                tables=writer.tables,
            )
        )
    return target


def put(table: str, index: int, **values: Any) -> Change:
    return lambda tables: tables[table][index].update(values)


def repeat(table: str) -> Change:
    return lambda tables: tables[table].append(tables[table][-1])


def drop(table: str) -> Change:
    return lambda tables: tables[table].clear()


UNSOUND = {
    "unknown column": (put("adapters", 0, evil=1), "adapters line 1", "evil"),
    "missing column": (lambda tables: tables["events"][0].pop("actor"), "events line 1", "actor"),
    "wrong type": (put("versions", 0, number="1"), "versions line 1", "number"),
    "huge number": (put("versions", 0, number=2**40), "versions line 1", "number"),
    "bool as number": (put("artifacts", 0, rank=True), "artifacts line 1", "rank"),
    "bad name": (put("adapters", 0, name="../../x"), "adapters line 1", "name"),
    "NUL": (put("versions", 0, note="a\0b"), "versions line 1", "note"),
    "NUL in JSON": (put("events", 0, detail={"a": ["\0"]}), "events line 1", "detail"),
    "NaN": (put("events", 0, detail={"a": float("nan")}), "events line 1", "detail"),
    "no time zone": (put("versions", 0, created_at="2026-01-01T00:00:00"), "versions line 1", "created_at"),
    "other time zone": (put("versions", 0, created_at="2026-01-01T00:00:00+02:00"), "versions line 1", "UTC"),
    "escaping path": (
        lambda tables: tables["artifacts"][0]["files"].update({"../../evil": tables["blobs"][0]["digest"]}),
        "artifacts line 1",
        "not a path inside",
    ),
    "absolute path": (
        lambda tables: tables["artifacts"][0]["files"].update({"/etc/x": tables["blobs"][0]["digest"]}),
        "artifacts line 1",
        "not a path inside",
    ),
    "dangling blob": (
        lambda tables: tables["artifacts"][0]["files"].update({"x": "sha256:" + "0" * 64}),
        "artifacts line 1",
        "no blob",
    ),
    "dangling artifact": (put("versions", 0, artifact="sha256:" + "0" * 64), "versions line 1", "no artifact"),
    "dangling recipe": (drop("recipes"), "realisations line 1", "no recipe"),
    "dangling adapter": (put("versions", 0, adapter=99), "versions line 1", "no line 99"),
    "dangling base": (put("versions", 0, base=99), "versions line 1", "no line 99"),
    "dangling alias": (put("aliases", 0, version=99), "aliases line 1", "no line 99"),
    "line 0": (put("aliases", 0, version=0), "aliases line 1", "version"),
    "alias of another": (put("aliases", 0, version=1), "aliases line 1", "another adapter"),
    "a cycle": (
        put("versions", 0, parents=[{"version": 2, "relation": "input", "coefficient": None}]),
        "versions line 1",
        "no line 2",
    ),
    "its own parent": (
        put("versions", 0, parents=[{"version": 1, "relation": "input", "coefficient": None}]),
        "versions line 1",
        "no line 1",
    ),
    "an adapter twice": (repeat("adapters"), "adapters line 4", "twice"),
    "a blob twice": (repeat("blobs"), "blobs line", "twice"),
    "a gap": (put("versions", 2, number=3), "versions line 3", "version 3 comes where 2 should"),
    "too few versions": (put("adapters", 0, last_version=7), "adapters line 1", "7 versions"),
    "half derived": (put("versions", 0, expression="x"), "versions line 1", "belong together"),
    "half deleted": (put("versions", 0, deleted_by="x"), "versions line 1", "belong together"),
    "another recipe": (
        lambda tables: tables["recipes"][0].update(canonical=tables["recipes"][0]["canonical"] + " "),
        "recipes line 1",
        "not the recipe",
    ),
    "an adapter without its config": (
        lambda tables: tables["artifacts"][0]["files"].pop("adapter_config.json"),
        "artifacts line 1",
        "adapter_config.json",
    ),
    "blockers that are no text": (put("artifacts", 0, not_composable=[1]), "artifacts line 1", "not_composable"),
    "a layout of nothing": (put("base_layouts", 0, layout={}), "base_layouts line 1", "weight files"),
    "a layout of other things": (
        put("base_layouts", 0, layout={"format": 1, "config": {}, "tensors": {"x": ["float32", -1]}}),
        "base_layouts line 1",
        "weight files",
    ),
    "a newer layout": (
        put("base_layouts", 0, layout={"format": 2, "config": {}, "tensors": {}}),
        "base_layouts line 1",
        "weight files",
    ),
    "a report without numbers": (
        put("realisations", 0, report=[{"module": "x", "values": {"rank": "1"}}]),
        "realisations line 1",
        "report",
    ),
    "a report without modules": (put("realisations", 0, report=[3]), "realisations line 1", "report"),
    "outputs that are no files": (put("realisations", 0, files={"x": 1}), "realisations line 1", "files"),
    "a base alias that is none": (put("base_aliases", 0, alias="É"), "base_aliases line 1", "alias"),
    "a sweep twice": (repeat("sweeps"), "sweeps line 2", "twice"),
    "a sweep of a version that is not there": (put("sweeps", 0, version=99), "sweeps line 1", "no line 99"),
    "a sweep that runs and is over": (put("sweeps", 0, state="running"), "sweeps line 1", "contradict"),
    "a sweep that looks for nothing": (put("sweeps", 0, objectives=[]), "sweeps line 1", "objectives"),
    "another direction": (put("sweeps", 0, objectives=[["loss", "up"]]), "sweeps line 1", "objectives"),
    **{
        f"the constraint {text!r}": (put("sweeps", 0, constraints=[text]), "sweeps line 1", "constraints")
        for text in ("", "ppl", "ppl ~ 3", "ppl < x", "ppl < 1e999", "ppl < nan", " < 3", "a\nb < 3", "ppl<3", "x" * 201 + " < 3")
    },
    "a sweep for no name": (put("sweeps", 0, name="../x"), "sweeps line 1", "name"),
    "a variable with another name": (put("sweeps", 0, variables={"a b": "0:1:1"}), "sweeps line 1", "variables"),
    "a point of no sweep": (put("sweep_points", 0, sweep=9), "sweep_points line 1", "no line 9"),
    "a point twice": (repeat("sweep_points"), "sweep_points line 4", "twice"),
    "a point 0": (put("sweep_points", 0, position=0), "sweep_points line 1", "position"),
    "a point of no recipe": (put("sweep_points", 0, recipe="sha256:" + "0" * 64), "sweep_points line 1", "no recipe"),
    "a point with other variables": (put("sweep_points", 0, values={"v": "1"}), "sweep_points line 1", "variables"),
    "a value that is no number": (put("sweep_points", 0, values={"w": "NaN"}), "sweep_points line 1", "values"),
    "a metric that is no number": (put("sweep_points", 0, metrics={"loss": "1"}), "sweep_points line 1", "metrics"),
    "a metric that is not finite": (put("sweep_points", 0, metrics={"loss": float("inf")}), "sweep_points line 1", "metrics"),
    "a point without metrics": (put("sweep_points", 0, metrics={}), "sweep_points line 1", "contradict"),
    "a point that failed well": (put("sweep_points", 0, error="x"), "sweep_points line 1", "contradict"),
    "unsaid alias": (put("aliases", 0, alias="latest"), "aliases line 1", "alias"),
}  # fmt: skip


@pytest.fixture
def bundle(other: Registry, tmp_path: Path) -> Path:
    other.add(make_lora(tmp_path / "a"), "a")
    other.add(make_lora(tmp_path / "b", seed=1), "b")
    other.add(make_lora(tmp_path / "b2", seed=2), "b")
    other.compose("mix", "a + b")
    other.sweep(
        "mix", "a + {w}*b", over={"w": "1,2,3"}, evaluate=lambda _, values: {"loss": float(values["w"])}, metric="loss",
        minimize=True, constrain=["loss < 9"],
    )  # fmt: skip
    other.set_alias("b", "prod", 1)
    other.add_base_model("other/base", base_path=tiny_llama(tmp_path / "llama"))
    other.set_base_alias("tiny", "other/base")
    path = tmp_path / "bundle.tar"
    other.export(path)
    return path


@pytest.mark.parametrize("name", UNSOUND)
def test_a_bundle_that_is_not_sound_is_refused_with_the_line(
    local: Registry, bundle: Path, tmp_path: Path, name: str
) -> None:
    change, *parts = UNSOUND[name]
    bad = rewritten(bundle, tmp_path / "bad.tar", change)
    with refused(local, Refused, *parts, code=7):
        local.import_bundle(bad)


def test_a_recipe_that_is_none_is_refused(local: Registry, bundle: Path, tmp_path: Path) -> None:
    text_ = '{"format":1}'
    digest = "sha256:" + hashlib.sha256(text_.encode()).hexdigest()

    def change(tables: dict[str, list[Line]]) -> None:
        tables["recipes"] = [{**tables["recipes"][0], "digest": digest, "canonical": text_}]

    with refused(local, Refused, "recipes line 1", "no recipe of a format", code=7):
        local.import_bundle(rewritten(bundle, tmp_path / "bad.tar", change))


def test_a_bundle_of_tomorrow_is_refused_with_what_to_do(
    local: Registry, bundle: Path, tmp_path: Path
) -> None:
    newer = rewritten(bundle, tmp_path / "newer.tar", lambda _: None, schema="9999")
    with refused(local, SchemaOutdated, "9999", "upgrade adapter-registry", code=1):
        local.import_bundle(newer)
    data = bundle.read_bytes().replace(b'"format": 3', b'"format": 4', 1)
    (tmp_path / "format.tar").write_bytes(data)
    with refused(local, Refused, "format 4", "upgrade adapter-registry", code=7):
        local.import_bundle(tmp_path / "format.tar")


NEWER = {
    "base_models": ("license",),
    "versions": ("source_revision", "origin"),
    "publications": ("pull_request", "tag", "tagged", "withdrawn_at", "withdrawn_by", "reason"),
}
"""The fields that lines of format 1 do not have, by table."""


def test_a_bundle_of_the_former_format_is_still_imported(catalog: Registry, tmp_path: Path) -> None:
    """Without the table of rules, and without the fields that came later."""
    busy(catalog, tmp_path)
    bundle = tmp_path / "today.tar"
    catalog.export(bundle)
    dropped: list[str] = []

    def former(tables: dict[str, list[Line]]) -> None:
        for table in ("rules", "sweeps", "sweep_points"):
            del tables[table]
        for table, fields in NEWER.items():
            for line in tables[table]:
                dropped.extend(name for name in fields if line.pop(name, self) is not self)

    self = object()
    old = rewritten(bundle, tmp_path / "old.tar", former, schema="0002", format=1)
    assert set(dropped) == {name for fields in NEWER.values() for name in fields}
    (tmp_path / "third").mkdir()
    with Registry.open(tmp_path / "third", database_url=f"sqlite:///{tmp_path / 'third' / 'r.db'}") as third:
        assert third.import_bundle(old).complete
        assert [third.log(version.name) for version in third.list().versions] == [
            tuple(each.model_copy(update={"sweep": None}) for each in catalog.log(version.name))
            for version in catalog.list().versions
        ]
        assert third.publications() == catalog.publications()
        again = third.import_bundle(old)
        assert not again.changed
    with_rules = tmp_path / "wrong.tar"
    rewritten(bundle, with_rules, lambda _: None, schema="0002", format=1)
    with refused(catalog, Refused, "other tables than format 1 has", code=7):
        catalog.import_bundle(with_rules)


def test_a_bundle_that_knows_no_sweeps_is_still_imported(
    local: Registry, bundle: Path, tmp_path: Path
) -> None:
    def former(tables: dict[str, list[Line]]) -> None:
        del tables["sweeps"], tables["sweep_points"]

    with_sweeps = rewritten(bundle, tmp_path / "wrong.tar", lambda _: None, format=2)
    with refused(local, Refused, "other tables than format 2 has", code=7):
        local.import_bundle(with_sweeps)
    assert local.import_bundle(rewritten(bundle, tmp_path / "old.tar", former, format=2)).complete
    assert (local.sweeps(), local.show("mix").sweep) == ((), None)


def members(bundle: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(bundle) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def tarred(path: Path, parts: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for member, data in parts:
            archive.addfile(member, io.BytesIO(data))
    return path


def _renamed(name: str, **fields: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(parts: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member, data = parts[-1]
        member.name = name
        for field, value in fields.items():
            setattr(member, field, value)
        if member.type != tarfile.REGTYPE:
            member.size, data = 0, b""
        parts[-1] = member, data

    return change


def _bigger(parts: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, data = parts[-1]
    member.size += 1
    parts[-1] = member, data + b"x"


TARS: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]] = {
    "a name that climbs": _renamed("../../../evil"),
    "an absolute name": _renamed("/tmp/evil"),
    "a long name": _renamed("x" * 300),
    "a symlink": _renamed("blobs/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": _renamed("blobs/x", type=tarfile.LNKTYPE, linkname="manifest.json"),
    "a device": _renamed("blobs/x", type=tarfile.CHRTYPE),
    "a folder": _renamed("blobs/x", type=tarfile.DIRTYPE),
    "a member twice": lambda parts: parts.append(parts[-1]),
    "a table twice": lambda parts: parts.insert(2, parts[1]),
    "a member too few": lambda parts: parts.__delitem__(-1),
    "no table": lambda parts: parts.__delitem__(3),
    "one more": lambda parts: parts.append((tarfile.TarInfo("extra"), b"")),
    "another order": lambda parts: parts.reverse(),
    "a blob that is longer": _bigger,
    "an empty tar": lambda parts: parts.clear(),
}  # fmt: skip


@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_is_not_just_so_is_refused(
    local: Registry, bundle: Path, tmp_path: Path, name: str
) -> None:
    parts = members(bundle)
    TARS[name](parts)
    bad = tarred(tmp_path / "bad.tar", parts)
    before = sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts)
    with refused(local, Refused, "bad.tar", code=7):
        local.import_bundle(bad)
    assert sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts) == before
    assert not Path("/tmp/evil").exists()


def test_a_size_that_the_file_does_not_back_is_refused(local: Registry, bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    at = data.rfind(b"blobs/sha256/")
    info = tarfile.TarInfo.frombuf(bytes(data[at : at + 512]), "utf-8", "strict")
    info.size = 1 << 60
    data[at : at + 512] = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "bad.tar").write_bytes(data)
    with refused(local, Refused, "bytes, not", code=7):
        local.import_bundle(tmp_path / "bad.tar")


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.8])
def test_a_bundle_that_was_cut_off_is_refused(
    local: Registry, bundle: Path, tmp_path: Path, fraction: float
) -> None:
    data = bundle.read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: int(len(data) * fraction)])
    with refused(local, IntegrityFailure, "cut.tar", "ends", code=5):
        local.import_bundle(tmp_path / "cut.tar")


@pytest.mark.parametrize("where", ["table", "blob"])
def test_one_flipped_bit_is_found(local: Registry, bundle: Path, tmp_path: Path, where: str) -> None:
    data = bytearray(bundle.read_bytes())
    at = data.find(b"importer") if where == "table" else data.rfind(b"blobs/sha256/") + 512
    data[at] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)
    before = state(local)["rows"]
    with pytest.raises(IntegrityFailure, match="damaged"):
        local.import_bundle(tmp_path / "bad.tar")
    assert state(local)["rows"] == before


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\0" * 20480, os.urandom(20480)])
def test_what_is_no_bundle_is_refused(local: Registry, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with refused(local, Refused, "is no bundle", "registry export", code=7):
        local.import_bundle(tmp_path / "x")


def test_what_is_no_file_is_refused(local: Registry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with refused(local, Refused, "not a regular file", code=7):
        local.import_bundle(tmp_path / "pipe")
    with refused(local, NotFound, "none.tar", code=3):
        local.import_bundle(tmp_path / "none.tar")


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (1e16, 10**16),
        (1.7976931348623157e308, 17976931348623157 * 10**292),
        (-0.0, 0.0),
        (1e-320, 1e-320),
        (3, 3),
    ],
)
def test_numbers_in_json_are_written_as_both_databases_give_them_back(value: float, same: float) -> None:
    assert json.dumps(_plain(value)) == json.dumps(_plain(same))


# -- crashes and company


def test_a_process_that_is_killed_leaves_a_catalog_that_can_be_imported_into(
    bundle: Path, other: Registry, sqlite_url: str, tmp_path: Path
) -> None:
    """At several moments, from before the first blob to after the last row."""
    script = tmp_path / "die.py"
    script.write_text(
        "import os, signal, sys\n"
        "import importlib\n"
        "module, name, after = sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
        "owner = importlib.import_module(module)\n"
        "*path, last = name.split('.')\n"
        "for part in path: owner = getattr(owner, part)\n"
        "real, left = getattr(owner, last), [after]\n"
        "def dying(*args, **options):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args, **options)\n"
        "setattr(owner, last, dying)\n"
        "from registry import Registry\n"
        "with Registry.open() as catalog: catalog.import_bundle(sys.argv[1])\n"
    )
    moments = [
        ("registry.blobs.local", "LocalBlobStore.put_many", 0),
        ("registry.blobs.local", "fsync", 3),
        ("registry.catalog.loading", "load", 0),
        ("registry.catalog.loading", "load", 12),
        ("sqlalchemy.engine.base", "Connection._commit_impl", 0),
    ]
    for module, name, after in moments:
        words = [sys.executable, str(script), str(bundle), module, name, str(after)]
        killed = subprocess.run(words, capture_output=True, check=False)
        assert killed.returncode == -9, (name, killed.stderr.decode())
        with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
            assert catalog.list().versions == ()
    with Registry.open(tmp_path / "home", database_url=sqlite_url) as catalog:
        assert catalog.import_bundle(bundle).complete
        catalog.export(tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()
    assert all(check.ok for check in other.verify())


def _writer(home: str, url: str, folder: str, start: Any) -> None:
    with Registry.open(home, database_url=url) as catalog:
        start.wait()
        for number in range(12):
            catalog.add(make_lora(Path(folder) / f"own{number}", seed=100 + number), f"own-{number % 3}")


def _importer(home: str, url: str, bundle: str, start: Any) -> None:
    with Registry.open(home, database_url=url) as catalog:
        start.wait()
        catalog.import_bundle(bundle)


def test_imports_and_writers_at_once(
    catalog: Registry, database_url: str, bundle: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    home = str(tmp_path / "home")
    working = [
        context.Process(target=_writer, args=(home, database_url, str(tmp_path), start)),
        context.Process(target=_importer, args=(home, database_url, str(bundle), start)),
        context.Process(target=_importer, args=(home, database_url, str(bundle), start)),
    ]
    for process in working:
        process.start()
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0, 0, 0]
    assert all(check.ok for check in catalog.verify())
    assert [version.version for version in catalog.log("own-0")] == [4, 3, 2, 1]
    assert [version.version for version in catalog.log("b")] == [2, 1]
    with catalog._database.read() as session:
        lines = "SELECT count(*), count(DISTINCT latest_of) FROM versions WHERE latest_of IS NOT NULL"
        latest, adapters = session.execute(text(lines)).one()
        cycles = session.execute(
            text("SELECT count(*) FROM lineage WHERE parent_id >= child_id")
        ).scalar_one()
    assert (latest, adapters, cycles) == (6, 6, 0)
