"""Publishing by rules to a Hub that fails, as jobs do it: ``registry sync``, again until nothing is pending.

``python -m benchmarks publishing [--rules N] [--pending N] [--fail RATE] [--lose RATE] [--mode lfs|xet …] [--idle N]
[--kills N]``. The Hub is the local one of ``registry.testing.hub``; the client is the unmodified one, in processes of its
own. Whatever does not come out as it has to ends it with what it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from benchmarks.week import write_adapter
from registry import Registry
from registry.results import SyncReport
from registry.testing.hub import LOCAL_TOKEN, HubServer

FILES = {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "provenance.json"}
Sync = Callable[[], SyncReport]


@dataclass(frozen=True)
class Verdict:
    """What the Hub holds beside what it should: all but ``commits`` have to be 0."""

    commits: int
    duplicates: int
    missing: int
    wrong: int

    @property
    def good(self) -> bool:
        return not (self.duplicates or self.missing or self.wrong)


@dataclass(frozen=True)
class Stormed:
    """What it took until nothing was pending."""

    syncs: int
    seconds: float
    requests: int
    faults: Mapping[str, int]
    failed: int
    verdict: Verdict


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks publishing")
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--pending", type=int, default=50)
    parser.add_argument("--fail", type=float, default=0.1)
    parser.add_argument("--lose", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", nargs="*", choices=["lfs", "xet"], default=["lfs", "xet"])
    parser.add_argument("--idle", type=int, default=1_000, help="publications of a sync with nothing to do")
    parser.add_argument(
        "--kills", type=int, default=40, help="syncs that are killed, each at another request"
    )
    options = parser.parse_args(arguments)
    for mode in options.mode:
        print(f"\n{options.rules} rules, {options.pending} pending, {mode}")
        with tempfile.TemporaryDirectory() as folder:
            _storm(Path(folder), options, xet=mode == "xet")
    if options.idle:
        print(f"\nnothing to do, {options.idle:,} publications")
        with tempfile.TemporaryDirectory() as folder:
            _idle(Path(folder), options.idle)
    if options.kills:
        print(f"\n{options.kills} syncs killed")
        with tempfile.TemporaryDirectory() as folder:
            _kills(Path(folder), options.kills, options.seed)


def _storm(place: Path, options: argparse.Namespace, *, xet: bool) -> None:
    with HubServer(place / "hub", xet=xet) as hub, _opened(place) as catalog:
        environment = client(place, hub, xet=xet)
        sync = as_command(environment, place / "report.json", "--backoff", "0.5")
        began = time.perf_counter()
        stock(catalog, place, options.rules)
        calm(catalog, sync, place, pending=options.pending)
        print(f"{'made ready in':24}{time.perf_counter() - began:10.0f} s")
        found = storm(catalog, hub, sync, fail=options.fail, lose=options.lose, seed=options.seed)
    for what, value in (
        ("syncs", found.syncs),
        ("seconds", round(found.seconds)),
        ("requests", found.requests),
        ("faults met", f"{sum(found.faults.values())} {dict(sorted(found.faults.items()))}"),
        ("failed, tried again", found.failed),
        ("commits", found.verdict.commits),
        ("duplicates", found.verdict.duplicates),
        ("missing", found.verdict.missing),
        ("wrong content", found.verdict.wrong),
    ):
        print(f"{what:24}{value:>10}" if isinstance(value, int) else f"{what:24}{value}")
    _insist(found.verdict)


def stock(catalog: Registry, place: Path, count: int) -> None:
    """Adapters, and for each a rule."""
    for number in range(count):
        write_adapter(place / "adapters" / name(number), number)
    catalog.add_all(place / "adapters")
    for number in range(count):
        catalog.add_rule(name(number), "team/{name}")


def calm(catalog: Registry, sync: Sync, place: Path, *, pending: int) -> None:
    """Publish all while the Hub is well, but for half of what is to be pending; the other half gets another version."""
    rules = [rule.id for rule in catalog.rules()]
    late = rules[: pending - pending // 2]
    for number in late:
        catalog.delete_rule(number)
    report = sync()
    if report.counts != {"published": len(rules) - len(late)}:
        raise SystemExit(f"it began with {report.counts}")
    for number in range(len(late)):
        catalog.add_rule(name(number), "team/{name}")
    for number in range(len(late), pending):
        write_adapter(place / "better" / name(number), -1 - number)
        catalog.add(place / "better" / name(number), name(number))


def storm(
    catalog: Registry,
    hub: HubServer,
    sync: Sync,
    *,
    fail: float,
    lose: float,
    seed: int = 0,
    retry_after: int = 1,
    most: int = 20,
) -> Stormed:
    """Sync to a Hub in trouble until nothing is pending."""
    began, before, met = time.perf_counter(), len(hub.requests), hub.faults
    hub.unreliable(fail=fail, lose=lose, seed=seed, retry_after=retry_after)
    reports = [sync()]
    while reports[-1].pending:
        if len(reports) == most:
            raise SystemExit(f"still pending after {most} syncs: {reports[-1].counts}")
        reports.append(sync())
    failed = sum(report.counts.get("failed", 0) for report in reports)
    seconds = time.perf_counter() - began
    hub.unreliable()
    requests, faults = len(hub.requests) - before, hub.faults - met
    return Stormed(len(reports), seconds, requests, faults, failed, verdict(catalog, hub))


def verdict(catalog: Registry, hub: HubServer) -> Verdict:
    """Compare every repo with the catalog: one commit for each version, and the bytes of the latest."""
    commits = duplicates = missing = wrong = 0
    for rule in catalog.rules():
        versions = catalog.log(rule.selector)
        repo = rule.repo.format(name=rule.selector.rpartition("/")[2])
        try:
            titles = Counter(each.title for each in hub.commits(repo) if each.title.startswith("Publish "))
        except KeyError:
            titles = Counter()
        commits += titles.total()
        duplicates += titles.total() - len(titles)
        # Of what was pending no more than the latest is asked for.
        missing += f"Publish {versions[0].ref}" not in titles
        if titles:
            wrong += _is_wrong(catalog, hub, repo, versions[0].ref)
    return Verdict(commits, duplicates, missing, wrong)


def _is_wrong(catalog: Registry, hub: HubServer, repo: str, ref: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        catalog.checkout(ref, Path(folder) / "out")
        held = hub.files(repo)
        weights = (Path(folder) / "out" / "adapter_model.safetensors").read_bytes()
    told = json.loads(held["provenance.json"])
    digests = {each["name"]: each["digest"]["sha256"] for each in told["subject"]}
    done = [each for each in catalog.publications(ref) if each.state == "done"]
    recorded = len(done) == 1 and done[0].commit == hub.commits(repo)[0].oid
    return set(held) != FILES or held["adapter_model.safetensors"] != weights or not digests or not recorded


def _idle(place: Path, count: int) -> None:
    with HubServer(place / "hub", xet=False) as hub, _opened(place) as catalog:
        sync = as_command(client(place, hub, xet=False), place / "report.json", "--jobs", "4")
        for number in range(count):
            write_adapter(place / "adapters" / name(number), number)
        catalog.add_all(place / "adapters")
        catalog.add_rule("kind = 'lora'", "team/{name}")
        began = time.perf_counter()
        if sync().counts != {"published": count}:
            raise SystemExit("not everything was published")
        print(f"{'publish all':24}{time.perf_counter() - began:10.1f} s")
        before, began = len(hub.requests), time.perf_counter()
        if sync().counts != {"unchanged": count}:
            raise SystemExit("there was something to do")
        print(f"{'sync, as a command':24}{time.perf_counter() - began:10.1f} s")
        print(f"{'requests per repo':24}{(len(hub.requests) - before) / count:10.2f}")
        os.environ.update(client(place, hub, xet=False))
        statements: list[str] = []
        event.listen(Engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
        began = time.perf_counter()
        catalog.sync()
        print(f"{'sync, from Python':24}{time.perf_counter() - began:10.1f} s")
        print(f"{'statements':24}{len(statements):10}")


def _kills(place: Path, count: int, seed: int) -> None:
    """Sync, killed at some request; then a sync that ends it."""
    with _opened(place) as catalog:
        stock(catalog, place, 3)
    dice = random.Random(seed)  # noqa: S311  (chance, not secrecy)
    survived = Counter[str]()
    for number in range(count):
        xet = number % 4 == 3
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            shutil.copytree(place / "home", copy / "home")
            with HubServer(copy / "hub", xet=xet) as hub, _opened(copy) as catalog:
                survived[killed(copy, hub, at=1 + number % 36, xet=xet, delay=dice.uniform(0, 0.02))] += 1
                found = verdict(catalog, hub)
                _insist(found)
                if found.commits != len(catalog.rules()):
                    raise SystemExit(f"{found.commits} commits for {len(catalog.rules())} rules")
    print(f"{'killed with nothing recorded, begun, all done':48}{dict(survived)}")


def killed(place: Path, hub: HubServer, *, at: int, xet: bool, delay: float = 0.0) -> str:
    """Kill a sync once it made so many requests, and run another one to its end; what the first had recorded."""
    environment = client(place, hub, xet=xet)
    with subprocess.Popen(
        command("--jobs", "2"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and len(hub.requests) < at:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
    with _opened(place) as catalog:
        states = Counter(each.state for each in catalog.publications())
    report = as_command(environment, place / "report.json")()
    if report.pending:
        reasons = {each.reason for each in report.results if each.reason}
        raise SystemExit(f"killed at request {at}: {report.counts} {reasons}")
    again = as_command(environment, place / "report.json")()
    if set(again.counts) != {"unchanged"}:
        raise SystemExit(f"killed at request {at}, and then not at rest: {again.counts}")
    return ", ".join(f"{states[state]} {state}" for state in ("pending", "done"))


def as_command(environment: Mapping[str, str], report: Path, *options: str) -> Sync:
    """A sync in a process of its own. Its exit code is 0, or 1 where something failed."""

    def sync() -> SyncReport:
        report.unlink(missing_ok=True)
        done = subprocess.run(
            command("--report", str(report), *options),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stdout + done.stderr
        if done.returncode not in {0, 1} or not report.exists():
            raise SystemExit(f"sync ended with {done.returncode}:\n{told[-2000:]}")
        if LOCAL_TOKEN in told + report.read_text():
            raise SystemExit("the token was told")
        return SyncReport.model_validate_json(report.read_text())

    return sync


def command(*options: str) -> Sequence[str]:
    return [sys.executable, "-m", "registry", "sync", *options]


def client(place: Path, hub: HubServer, *, xet: bool) -> dict[str, str]:
    """The environment of a job that publishes to this Hub from this catalog."""
    return {
        **os.environ,
        "REGISTRY_HOME": str(place / "home"),
        "REGISTRY_ACTOR": "job",
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": LOCAL_TOKEN,
        "HF_HOME": str(place / "hf"),
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def name(number: int) -> str:
    return f"team/a{number}"


@contextmanager
def _opened(place: Path) -> Iterator[Registry]:
    with Registry.open(place / "home", actor="ann") as catalog:
        yield catalog


def _insist(found: Verdict) -> None:
    if not found.good:
        raise SystemExit(f"the Hub does not hold what it should: {found}")


if __name__ == "__main__":
    run(sys.argv[1:])
