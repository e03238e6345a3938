"""MLflow's registry store on the content of ``benchmarks.catalog``, run by an interpreter that has MLflow.

``python _mlflow_catalog.py URL VERSIONS RUNS`` prints JSON: operation to ``[milliseconds …]`` and statements.
"""

import json
import os
import sys
import time
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

MODELS = 17
VALUES = 20
CHUNK = 20_000


def main(url: str, versions: int, runs: int) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event

    store = SqlAlchemyStore(url)
    for number in range(MODELS):
        store.create_registered_model(f"m{number}")
    load(store, versions)
    sent = [0]
    event.listen(store.engine, "before_cursor_execute", lambda *_: sent.__setitem__(0, sent[0] + 1))
    found: dict[str, Any] = {}
    for name, (times, call) in operations(store, runs).items():
        call()
        sent[0] = 0
        call()
        statements, taken = sent[0], []
        for _ in range(times):
            began = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - began))
        found[name] = {"ms": taken, "statements": statements}
    print(json.dumps(found))


def load(store: Any, versions: int) -> None:
    engine, now = store.engine, int(time.time() * 1000)
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    kinds = {
        "model_versions": (
            "workspace, name, version, creation_time, last_updated_time, current_stage, source, status",
            8,
        ),
        "model_version_tags": ("workspace, name, version, key, value", 5),
    }
    insert = {
        table: f"INSERT INTO {table} ({columns}) VALUES ({', '.join([mark] * count)})"  # noqa: S608
        for table, (columns, count) in kinds.items()
    }
    for start in range(0, versions, CHUNK):
        several = range(start, min(versions, start + CHUNK))
        rows, tags = [], []
        for i in several:
            name, version = f"m{i % MODELS}", i // MODELS + 1
            rows.append(("default", name, version, now + i, now + i, "None", f"s3://b/{i}", "READY"))
            tags += [
                ("default", name, version, "base_model", f"b{i % VALUES}"),
                ("default", name, version, "task", f"t{i // VALUES % VALUES}"),
                ("default", name, version, "run", f"r{i}"),
            ]
        with engine.begin() as connection:
            connection.exec_driver_sql(insert["model_versions"], rows)
            connection.exec_driver_sql(insert["model_version_tags"], tags)
    for number in range(MODELS):
        store.set_registered_model_alias(f"m{number}", "prod", "7")
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")


def operations(store: Any, runs: int) -> dict[str, tuple[int, Any]]:
    from mlflow.entities.model_registry import ModelVersionTag

    def search(text: str) -> Any:
        return lambda: store.search_model_versions(text, max_results=50)

    tags = [ModelVersionTag("base_model", "b3"), ModelVersionTag("task", "t7")]
    counter = iter(range(10**9))
    flip = iter(range(10**9))
    return {
        "alias get": (runs, lambda: store.get_model_version_by_alias("m3", "prod")),
        "version get": (runs, lambda: store.get_model_version("m3", "7")),
        "latest": (max(5, runs // 10), lambda: store.get_model_version_by_alias("m3", "latest")),
        "create, two tags": (
            runs,
            lambda: store.create_model_version("m5", f"s3://new/{next(counter)}", None, tags),
        ),
        "alias set": (
            runs,
            lambda: store.set_registered_model_alias("m3", "prod", str(7 + next(flip) % 2)),
        ),
        "page of one line": (max(5, runs // 10), search("name = 'm3'")),
        "page, no filter": (max(5, runs // 10), search("")),
        "page, one tag": (max(5, runs // 10), search("tags.task = 't7'")),
        "page, two tags": (
            max(5, runs // 10),
            search("tags.base_model = 'b3' AND tags.task = 't7'"),
        ),
        "page of adapters": (max(5, runs // 20), lambda: store.search_registered_models("", max_results=100)),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
