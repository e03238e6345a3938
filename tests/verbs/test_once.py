"""Of those who compute the same at the same time, one does."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.verbs._once import WAITING
from tests.adapters import make_lora
from tests.models import tiny_llama

PROJECT = Path(__file__).parents[2]
Q = "model.layers.0.self_attn.q_proj"
LONG = 120  # seconds after which something hangs
Work = Callable[[Registry, Any], Any]


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, modules={Q: (32, 32)}, seed=seed), name)
    return catalog


class Watcher:
    """Follows the progress of one who works; holds him at his first step of computing if it has to."""

    def __init__(self, *, hold: bool = False) -> None:
        self.steps: list[str] = []
        self.began, self.waits, self.go = threading.Event(), threading.Event(), threading.Event()
        if not hold:
            self.go.set()

    def __call__(self, what: str, _done: int, _total: int) -> None:
        self.steps.append(what)
        if what == WAITING:
            self.waits.set()
        elif what in {"composing", "merging"}:
            self.began.set()
            assert self.go.wait(LONG)


def opened(home: Path, url: str) -> Registry:
    return Registry.open(home, database_url=url)


@contextmanager
def at_work(work: Work, home: Path, url: str) -> Iterator[tuple[Watcher, Future[Any]]]:
    """Somebody who is computing, and is held there until the block, or the test, lets him go on."""

    def run() -> Any:
        with opened(home, url) as own:
            return work(own, watcher)

    watcher = Watcher(hold=True)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run)
        try:
            assert watcher.began.wait(LONG)
            yield watcher, result
        finally:
            watcher.go.set()


def compose(name: str, expression: str = "a + b") -> Work:
    return lambda catalog, progress: catalog.compose(name, expression, device="cpu", progress=progress)


def merge(base: Path) -> Work:
    return lambda catalog, progress: catalog.materialize(
        "a", into="model", base_path=base, device="cpu", progress=progress
    )


@pytest.mark.parametrize("what", ["adapter", "model"])
def test_of_two_who_compute_the_same_one_waits_and_finds_it(
    shelf: Registry, what: str, database_url: str, tmp_path: Path
) -> None:
    works = [compose("one"), compose("two")]
    if what == "model":
        works = [merge(tiny_llama(tmp_path / "base"))] * 2
    second = Watcher()
    with (
        at_work(works[0], tmp_path / "home", database_url) as (first, done),
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(works[1], shelf, second)
        assert second.waits.wait(LONG)
        first.go.set()
        assert (done.result().cached, waiting.result().cached) == (False, True)
        assert done.result().digest == waiting.result().digest
    assert not second.began.is_set()
    assert [each.ok for each in shelf.verify()] == [True] * len(shelf.list(latest=False).versions)
    assert list((tmp_path / "home").glob("*turn*")) == []


def test_who_composes_something_else_or_what_is_known_never_waits(
    shelf: Registry, database_url: str, tmp_path: Path
) -> None:
    shelf.compose("known", "a - b", device="cpu")
    other = Watcher()
    with at_work(compose("one"), tmp_path / "home", database_url):
        assert not compose("other", "a + 2*b")(shelf, other).cached
        assert compose("again", "a - b")(shelf, other).cached
    assert WAITING not in other.steps


WAITING_COMMAND = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have it ignored
sys.argv = ["registry", "compose", "two", "a + b"]
runpy.run_module("registry", run_name="__main__")
"""


def test_a_command_says_that_it_waits_and_can_be_interrupted(
    shelf: Registry, database_url: str, tmp_path: Path
) -> None:
    with at_work(compose("one"), tmp_path / "home", database_url) as (first, done):
        command = [sys.executable, "-c", WAITING_COMMAND]
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as waiter:
            assert waiter.stderr is not None
            assert waiter.stderr.readline() == f"{WAITING}\n"
            waiter.send_signal(signal.SIGINT)
            assert "Traceback" not in waiter.stderr.read()
        assert waiter.returncode != 0
        first.go.set()
        assert done.result().created
    assert compose("two")(shelf, Watcher()).cached


HELD = """
import sys, time
from pathlib import Path
from registry import Registry
home, url, began = sys.argv[1:]

def hold(*_):
    Path(began).touch()
    time.sleep(600)

with Registry.open(home, database_url=url) as catalog:
    catalog.compose("one", "a + b", device="cpu", progress=hold)
"""


def test_where_the_one_who_computes_is_killed_the_next_one_does(
    shelf: Registry, database_url: str, tmp_path: Path
) -> None:
    began, watcher = tmp_path / "began", Watcher()
    holder = subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path / "home"), database_url, str(began)], cwd=PROJECT
    )
    with holder, ThreadPoolExecutor(1) as pool:
        while not began.exists():
            assert holder.poll() is None
        waiting = pool.submit(compose("two"), shelf, watcher)
        assert watcher.waits.wait(LONG)
        holder.kill()
        assert not waiting.result().cached
    assert watcher.began.is_set()
    assert [version.name for version in shelf.list().versions] == ["a", "b", "two"]
    assert list((tmp_path / "home").glob("*turn*")) == []
