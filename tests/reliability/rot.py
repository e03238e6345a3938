"""A catalog with a row in every table, and what it means for one of its values, or one of its bits, to change by itself."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry import Registry
from registry.base_layout import BaseLayout
from registry.catalog import bases, publications, references, versions
from registry.catalog.tables import Base, SketchRow, SweepPointRow, SweepRow
from registry.errors import RegistryError
from registry.reference import parse
from registry.results import BaseModelIdentity
from tests.adapters import make_ia3, make_lora

FINE = ("found", "refused", "unchanged")
SMALL = {"model.layers.0.self_attn.q_proj": (8, 8)}
COMMIT = "c" * 40
FINGERPRINT = "sha256:" + "f" * 64


def furnish(catalog: Registry, folder: Path) -> None:
    """At least one row in every table, and a value in every column that can have one."""
    for seed, name in enumerate(("a", "b", "team/other")):
        source = make_lora(folder / name.replace("/", "-"), modules=SMALL, seed=seed)
        catalog.add(source, name, task="chat", tags={"k": "v", "l": "w"}, note="the first", license="mit")
    catalog.add(make_ia3(folder / "i"), "i", parents=["a"])
    catalog.set_alias("a", "prod", 1)
    catalog.compose("c", "a@prod - 0.4*b", device="cpu")
    catalog.compose("d", "0.5*c", device="cpu")
    catalog.add_evaluation("c", "accuracy", 0.75, dataset="imdb", split="test")
    catalog.set_base_alias("short", "tiny/base")
    catalog.set_base_license("tiny/base", "mit")
    catalog.add_rule("a", "team/{name}", alias="prod", tag="v{version}", license="mit")
    catalog.revoke("b", "poisoned")
    catalog.add(make_lora(folder / "gone", modules=SMALL, seed=9), "gone")
    catalog.delete("gone")
    _publish(catalog)
    _sweep(catalog)
    with catalog._database.write() as session:
        found = BaseModelIdentity(repo="tiny/base", fingerprint=FINGERPRINT)
        bases.save_layout(
            session, FINGERPRINT, BaseLayout({"w": ("float32", (8, 8))}, {"model_type": "tiny"})
        )
        versions.set_fingerprint(session, 1, found)


def _sweep(catalog: Registry) -> None:
    """A sweep with a point that was measured and one that was not, and a sketch."""
    made = catalog.show("c")
    assert made.recipe is not None
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("c"))
        sweep = SweepRow(
            digest=pin.digest, name="Swept", name_key="swept", expression="a - {w}*b", pins={"a": "a@1"},
            variables={"w": "0:1:0.5"}, evaluator="eval {path}", evaluator_digest=pin.digest,
            objectives=[["loss", "min"]], constraints=["ppl < 21"], search="bayes", budget=2, seed=3, dataset="d",
            split="s", state="done", version_id=pin.id, created_at=at, created_by="tester", finished_at=at,
        )  # fmt: skip
        session.add(sweep)
        session.flush()
        for position, error in enumerate((None, "it failed"), 1):
            session.add(
                SweepPointRow(
                    sweep_id=sweep.id,
                    position=position,
                    values={"w": "0.5"},
                    expression="a - 0.5*b",
                    recipe_digest=made.recipe.digest,
                    state="failed" if error else "ok",
                    metrics={} if error else {"loss": 0.5},
                    attempts=1,
                    seconds=0.5,
                    error=error,
                    created_at=at,
                )
            )
        session.add(SketchRow(artifact_digest=pin.digest, version=1, vector=b"\x00\xff1234"))


def _publish(catalog: Registry) -> None:
    """What the Hub would have been told, without one."""
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("c"))
        for publish_id in ("first", "second"):
            publications.begin(
                session, pin, publish_id=publish_id, repo="team/c", revision="main", target="adapter",
                files={"adapter_config.json": pin.digest}, actor="tester", proposed=True, tag="v1",
            )  # fmt: skip
            publications.finish(
                session,
                publish_id,
                commit=COMMIT,
                url="https://hub/team/c",
                ref=pin.ref,
                actor="tester",
                pull_request=4,
            )
            publications.tagged(session, publish_id, ref=pin.ref, actor="tester")
            publications.merged(session, publish_id, commit=COMMIT, url="u", ref=pin.ref, actor="tester")
        publications.withdraw(
            session, "first", ref=pin.ref, reason="poisoned", actor="tester", commit=COMMIT, deleted=False
        )


def columns() -> list[tuple[str, str]]:
    return [(table.name, column.name) for table in Base.metadata.sorted_tables for column in table.c]


def changed(value: Any) -> Any:
    """Another value of the same sort."""
    match value:
        case bool():
            other: Any = not value
        case int():
            other = value ^ 64  # nobody else's: a small catalog has no such numbers
        case float():
            other = value + 0.5
        case str():
            other = f"{value[:-1]}{chr(ord(value[-1]) ^ 16)}" if value else "x"
        case bytes():
            other = value[:-1] + bytes([value[-1] ^ 16])
        case dict():
            other = {**value, "x": 1}
        case list():
            other = [*value, "x"]
        case _:
            other = value.replace(microsecond=value.microsecond ^ 1)
    return other


def dump(file: Path) -> list[Any]:
    """Everything that a database holds, as it is stored."""
    with closing(sqlite3.connect(file)) as connection:
        connection.text_factory = bytes
        schema = sorted(map(repr, connection.execute("SELECT type, name, sql FROM sqlite_master")))
        names = [*sorted(table.name for table in Base.metadata.sorted_tables), "alembic_version"]
        tables = {name: connection.execute(f'SELECT * FROM "{name}"') for name in names}  # noqa: S608
        return [schema, *((name, sorted(map(repr, rows))) for name, rows in tables.items())]


def flips(file: Path, home: Path, chance: random.Random, count: int) -> Iterator[tuple[int, str]]:
    """Flip bits of a database one at a time: the bit, and what came of each.

    ``found`` by verify, ``refused`` in a line when it was opened, ``unchanged`` where it holds what it held; anything
    else is a finding.
    """
    whole, before = file.read_bytes(), dump(file)
    target = home / "registry.db"
    for _ in range(count):
        bit = chance.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        for beside in home.glob("registry.db*"):
            beside.unlink()
        target.write_bytes(flipped)
        yield bit, _outcome(home, before)


def _outcome(home: Path, before: list[Any]) -> str:
    target = home / "registry.db"
    try:
        with Registry.open(home, database_url=f"sqlite:///{target}") as catalog:
            if not catalog.verify_database().ok:
                return "found"
    except RegistryError as error:
        return "refused" if "\n" not in error.message else f"refused in several lines: {error.message!r}"
    except Exception as error:  # noqa: BLE001 (a finding)
        return f"{type(error).__name__}: {error}"
    try:
        return "unchanged" if dump(target) == before else "overlooked"
    except (sqlite3.Error, UnicodeError) as error:
        return f"overlooked, though it cannot be read: {error}"


def template(folder: Path) -> Path:
    """A furnished catalog's database, in one file; its blobs lie beside it."""
    home = folder / "home"
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}") as catalog:
        furnish(catalog, folder)
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        connection.execute("PRAGMA journal_mode = delete")
        connection.execute("PRAGMA page_size = 512")  # so that few bits are of no meaning
        connection.execute("VACUUM")
    file = folder / "template.db"
    shutil.copyfile(home / "registry.db", file)
    return file


def full(seed: int, cases: int) -> Counter[str]:
    """Flip that many random bits of a database; what came of them. What should not have is printed, and counted."""
    with tempfile.TemporaryDirectory(prefix="rot-") as name:
        folder = Path(name)
        file = template(folder)
        chance = random.Random(seed)  # noqa: S311 (any bits will do)
        counts: Counter[str] = Counter()
        for bit, outcome in flips(file, folder / "home", chance, cases):
            counts[outcome if outcome in FINE else "findings"] += 1
            if outcome not in FINE:
                print(f"FOUND seed {seed}, bit {bit}: {outcome}", flush=True)
        return counts
