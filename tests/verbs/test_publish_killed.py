"""A publish that is killed at any request, and between any two writes, is finished by the next, with one commit."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.responses import Response

from registry import Registry
from registry.testing.hub import HubServer
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NURSERY = """
import json, os, signal, sys, traceback
from contextlib import contextmanager
import huggingface_hub, torch  # paid for once
from registry import Registry
from registry.catalog.database import Database
from registry.verbs import publish, unpublish

home, url = sys.argv[1:]
real, writes = Database.write, 0

def die_around(number):
    @contextmanager
    def write(self):
        global writes
        here, writes = writes, writes + 1
        if 2 * here == number:
            os.kill(os.getpid(), signal.SIGKILL)
        with real(self) as session:
            yield session
        if 2 * here + 1 == number:
            os.kill(os.getpid(), signal.SIGKILL)
    Database.write = write

for line in sys.stdin:
    wish = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            if wish["write"] is not None:
                die_around(wish["write"])
            with Registry.open(home, database_url=url) as catalog:
                getattr(catalog, wish["verb"])(*wish["args"], **wish["options"])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Stall:
    """Holds the request with a number until it is released, before or after doing what it asks."""

    def __init__(self, server: HubServer) -> None:
        self._real = server._answer
        self._left: int | None = None
        self._after = False
        self.reached, self._released = threading.Event(), threading.Event()
        vars(server)["_answer"] = self._answer

    def arm(self, number: int, *, after: bool) -> None:
        self.reached, self._released = threading.Event(), threading.Event()
        self._left, self._after = number, after

    def release(self) -> None:
        self._left = None
        self._released.set()

    async def _answer(self, *call: Any) -> Response:
        if self._left is None:
            return await self._real(*call)
        self._left -= 1
        if self._left >= 0:
            return await self._real(*call)
        if self._after:
            await self._real(*call)
        self.reached.set()
        await asyncio.to_thread(self._released.wait)
        return Response(status_code=503)


class Nursery:
    """Processes that do one thing each, and are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def run(
        self, stall: Stall | None, verb: str, *args: str, write: int | None = None, **options: Any
    ) -> int:
        """The exit status of a process that is killed where it stalls."""
        wish = {"verb": verb, "args": args, "options": options, "write": write}
        print(json.dumps(wish), file=self._process.stdin, flush=True)
        child = int(self._lines.get(timeout=60))
        while True:
            try:
                return int(self._lines.get(timeout=0.01))
            except queue.Empty:
                if stall is not None and stall.reached.is_set():
                    os.kill(child, signal.SIGKILL)
                    status = int(self._lines.get(timeout=60))
                    stall.release()
                    return status

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)


@contextmanager
def nursery(home: Path, url: str, *, xet: bool) -> Iterator[Nursery]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    environment |= {} if xet else {"HF_HUB_DISABLE_XET": "1"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", NURSERY, str(home), url],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(params=[("sqlite", False), ("postgresql", True)], ids=["sqlite-lfs", "postgresql-xet"])
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Registry, HubServer, Nursery]]:
    backend, xet = request.param
    url = request.getfixturevalue("sqlite_url" if backend == "sqlite" else "postgres_url")
    home = tmp_path / "home"
    with (
        Registry.open(home, database_url=url) as catalog,
        hubs.running(tmp_path, monkeypatch, xet=xet) as server,
        nursery(home, url, xet=xet) as children,
    ):
        yield hubs.stock(catalog, tmp_path), server, children


def published(catalog: Registry, repo: str) -> int:
    with catalog._database.read() as session:
        found = session.execute(text("SELECT detail FROM events WHERE action = 'publish'")).scalars().all()
    details = [json.loads(each) if isinstance(each, str) else each for each in found]
    return sum(each["repo"] == repo for each in details)


def check_pushed(catalog: Registry, server: HubServer, repo: str, tag: str) -> None:
    """One commit, one record of it, its tag on it, and the Hub holds what is recorded."""
    done = catalog.publish("detox", repo, tag=tag)
    commits = server.commits(repo)
    assert [each.title for each in commits] == ["Publish detox@1", "initial commit"]
    rows = [each for each in catalog.publications() if each.repo == repo]
    assert [each for each in rows if each.state != "failed"] == [done.model_copy(update={"created": True})]
    assert (done.commit, done.tag, done.tagged) == (commits[0].oid, tag, True)
    tags = hubs.api(server).list_repo_refs(repo).tags
    assert [(each.name, each.target_commit) for each in tags] == [(tag, done.commit)]
    assert set(server.files(repo)) == {*done.files, ".gitattributes"}
    assert published(catalog, repo) == 1


def check_proposed(catalog: Registry, server: HubServer, repo: str, tag: None) -> None:
    """One pull request with one commit, one record of it, and an untouched branch."""
    done = catalog.publish("detox", repo, propose=True, tag=tag)
    assert [each.num for each in hubs.api(server).get_repo_discussions(repo)] == [1]
    assert [each.title for each in server.commits(repo, "refs/pr/1")] == ["Publish detox@1", "initial commit"]
    assert set(server.files(repo)) == {".gitattributes"}
    assert (done.pull_request, done.commit) == (1, server.commits(repo, "refs/pr/1")[0].oid)
    rows = [each for each in catalog.publications() if each.repo == repo]
    assert [each.pull_request for each in rows if each.state != "failed"] == [1]
    assert published(catalog, repo) == 1


KINDS = [(check_pushed, {"tag": "v1"}), (check_proposed, {"propose": True})]


@pytest.mark.parametrize(("check", "options"), KINDS, ids=["push-and-tag", "proposal"])
def test_killed_at_any_request(
    check: Any, options: dict[str, Any], scene: tuple[Registry, HubServer, Nursery]
) -> None:
    catalog, server, children = scene
    stall = Stall(server)
    killed = 0
    for number in range(100):
        for after in (False, True):
            repo = f"team/at{number}-{after}".lower()
            stall.arm(number, after=after)
            status = children.run(stall, "publish", "detox", repo, **options)
            stall.release()
            assert status in {0, signal.SIGKILL}
            killed += status == signal.SIGKILL
            check(catalog, server, repo, options.get("tag"))
        if status == 0:
            break
    assert killed >= 20
    assert status == 0


@pytest.mark.parametrize(("check", "options"), KINDS, ids=["push-and-tag", "proposal"])
def test_killed_around_any_write(
    check: Any, options: dict[str, Any], scene: tuple[Registry, HubServer, Nursery]
) -> None:
    catalog, server, children = scene
    for write in range(20):
        status = children.run(None, "publish", "detox", f"team/at{write}", write=write, **options)
        assert status in {0, signal.SIGKILL}
        check(catalog, server, f"team/at{write}", options.get("tag"))
        if status == 0:
            break
    assert status == 0
    assert write == (6 if "tag" in options else 4)


@pytest.mark.parametrize("delete", [False, True], ids=["tombstone", "delete"])
def test_unpublish_killed_at_any_request(delete: bool, scene: tuple[Registry, HubServer, Nursery]) -> None:
    catalog, server, children = scene
    stall = Stall(server)
    killed = 0
    for number in range(100):
        for after in (False, True):
            repo = f"team/at{number}-{after}".lower()
            catalog.publish("detox", repo)
            stall.arm(number, after=after)
            status = children.run(stall, "unpublish", repo, delete=delete, reason="leaked")
            stall.release()
            assert status in {0, signal.SIGKILL}
            killed += status == signal.SIGKILL
            catalog.unpublish(repo, delete=delete, reason="leaked")
            (row,) = [each for each in catalog.publications() if each.repo == repo]
            assert row.state == "withdrawn"
            if delete:
                with pytest.raises(KeyError):
                    server.commits(repo)
            else:
                titles = [each.title for each in server.commits(repo)]
                assert titles == ["Withdraw detox@1", "Publish detox@1", "initial commit"]
        if status == 0:
            break
    assert killed >= (4 if delete else 10)
    assert status == 0
