"""``python -m tests.reliability``: everything that is tried in small by the tests, in full, and the counts.

Prints every finding and how far it is, on stdout; ends with a table, and with exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from registry.testing.hub import HubServer
from tests import hubs, postgres
from tests.reliability.kills import Trials
from tests.reliability.nursery import nursery
from tests.reliability.places import Copies
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.steps import FAULTS, TERMINATED, Fault

DATABASES = ("sqlite", "postgresql")
HARNESSES = ("kills", "faults", "crowd", "model", "rot", "fuzz")
KILL = FAULTS[:1]
Counts = dict[str, Counter[str]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=HARNESSES, help="One of the harnesses; all by default.")
    add("--database", action="append", choices=DATABASES, help="Only this one.")
    add("--scenario", action="append", choices=list(SCENARIOS), help="Of kills and faults.")
    add("--fault", action="append", choices=FAULTS[1:], help="Of faults.")
    add("--most", type=int, help="Steps of each scenario at which each fault is tried; all by default.")
    add("--seed", type=int, default=0, help="Of what is chosen by chance.")
    add("--processes", type=int, default=8, help="Of the crowd.")
    add("--operations", type=int, default=500, help="Of each process of the crowd.")
    add("--sequences", type=int, default=500, help="Of changes, that the model is compared over.")
    add("--flips", type=int, default=10_000, help="Bits of a database, one at a time.")
    add("--cases", type=int, default=1_000_000, help="Of hostile input.")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # what was started is stopped
    counts: Counts = {}
    for harness in wanted.only or HARNESSES:
        for title, counted in _run(harness, wanted):
            counts[title] = counted
            print(f"{title}: {_told(counted)}", flush=True)
    print("\n" + "\n".join(f"{title:24}{_told(counted)}" for title, counted in counts.items()), flush=True)
    return 1 if any(counted["findings"] for counted in counts.values()) else 0


def _told(counted: Counter[str]) -> str:
    rest = [f"{count:,} {what}" for what, count in counted.items() if what != "findings"]
    return ", ".join([*rest, f"{counted['findings']:,} findings"])


def _run(harness: str, wanted: argparse.Namespace) -> Iterator[tuple[str, Counter[str]]]:
    databases = wanted.database or DATABASES
    match harness:
        case "kills" | "faults":
            faults = KILL if harness == "kills" else tuple(wanted.fault or FAULTS[1:])
            for database in databases:
                yield f"{harness}, {database}", stopped(database, wanted, faults)
        case "crowd":
            for database in databases:
                at_once = {"processes": wanted.processes, "operations": wanted.operations}
                yield f"crowd, {database}", _full("crowd", seed=wanted.seed, database=database, **at_once)
        case "model":
            for database in databases:
                asked = {"number": wanted.seed, "sequences": wanted.sequences}
                yield f"model, {database}", _full("machine", database=database, **asked)
        case "rot":
            yield "rot, sqlite", _full("rot", seed=wanted.seed, cases=wanted.flips)
        case _:
            yield "fuzz", _full("fuzz", seed=wanted.seed, cases=wanted.cases)


def _full(module: str, **options: Any) -> Counter[str]:
    """What is asked of each harness that is a module of its own. What it takes is imported only where it is run."""
    counted: Counter[str] = importlib.import_module(f"tests.reliability.{module}").full(**options)
    return counted


def stopped(database: str, wanted: argparse.Namespace, faults: tuple[Fault, ...]) -> Counter[str]:
    """Every scenario on this database, with these faults at its steps."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with _catalogs(database) as (processes, catalogs):
        for scenario in wanted.scenario or SCENARIOS:
            trials = Trials(processes, catalogs, scenario)
            counts["undisturbed"] += 1
            for fault in faults:
                for tried in trials.of(fault, wanted.most, wanted.seed):
                    counts[fault] += 1
                    where = f"{database} {scenario}, {fault} at {tried.ended.last}"
                    _report(where, tried.findings, counts)
            _report(f"{database} {scenario}, undisturbed", trials.whole.findings, counts)
            print(
                f"{database} {scenario}: {len(trials.whole.ended.steps)} steps; so far {_told(counts)}",
                flush=True,
            )
    counts["seconds"] = round(time.monotonic() - began)
    return counts


def _report(where: str, findings: tuple[str, ...], counts: Counter[str]) -> None:
    counts["findings"] += len(findings)
    for finding in findings:
        print(f"FOUND {where}: {finding}", flush=True)


@contextmanager
def _catalogs(database: str) -> Iterator[tuple[Any, Copies]]:
    # In memory where there is room: no disk is asked to keep what is thrown away, and nothing is cut from the power.
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="reliability-", dir=place) as name,
        HubServer(Path(name) / "hub", xet=False, tokens=hubs.TOKENS) as hub,
        nursery(hub.url, hubs.OWNER) as processes,
        ExitStack() as stack,
    ):
        copies = Path(name) / "copies"
        if database == "sqlite":
            yield processes, Copies(copies, None, hub, processes)
        else:
            server = stack.enter_context(postgres.started(place or "/tmp"))
            revive = server.ensure_postgres_running
            yield processes, Copies(copies, postgres.address(server), hub, processes, revive)


if __name__ == "__main__":
    raise SystemExit(main())
