"""Killed in the middle: the catalog opens, every live version is whole, and the rest is garbage that goes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from registry import Registry
from registry.verbs.gc import gc
from tests.adapters import make_lora
from tests.models import tiny_llama

Q = "model.layers.0.self_attn.q_proj"
NURSERY = """
import itertools, os, sys, traceback
from pathlib import Path
import torch  # paid for once: the start is not what is to be killed
from registry import Registry
from registry.verbs import add, checkout, compose, materialize
home, url, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def work(first):
    with Registry.open(home, database_url=url) as catalog:
        for turn in itertools.count(first):
            catalog.add(folder / f"source{turn % 3}", f"added{turn}")
            print("did", flush=True)
            made = catalog.compose("line", f"a - 0.{turn + 1}*b", device="cpu")
            print("did", flush=True)
            catalog.set_alias("line", "newest", made.version)
            catalog.materialize(made, into="model", base_path=folder / "base", out=folder / f"model{turn}", device="cpu")
            print("did", flush=True)
            catalog.materialize(made, into="model", base_path=folder / "base", device="cpu")
            print("did", flush=True)
            catalog.checkout(made, folder / f"out{turn}")
            catalog.delete(f"added{turn}")
            print("did", flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(int(line))
        finally:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
ROUNDS = 18


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_process_killed_at_any_moment_leaves_a_catalog_that_holds(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("sqlite_url" if backend == "sqlite" else "postgres_url")
    chance = random.Random(backend)  # noqa: S311 (any moments will do, the same in each run)
    tiny_llama(tmp_path / "base")
    with Registry.open(tmp_path / "home", database_url=url) as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(tmp_path / name, modules={Q: (32, 32)}, seed=seed), name)
    for seed in range(3):
        make_lora(tmp_path / f"source{seed}", modules={Q: (32, 32)}, seed=10 + seed)
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(tmp_path / "home"), url, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for turn in range(ROUNDS):
            print(100 * turn, file=nursery.stdin, flush=True)
            child = int(nursery.stdout.readline())
            for _ in range(turn % 6):
                assert nursery.stdout.readline() == "did\n"
            time.sleep(chance.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            while (said := nursery.stdout.readline()) == "did\n":
                pass
            assert int(said) == signal.SIGKILL
            check(tmp_path, url)
        nursery.stdin.close()
    with Registry.open(tmp_path / "home", database_url=url) as catalog:
        assert len(catalog.log("line")) > 1
        leave_only_what_lives(catalog)


def check(tmp_path: Path, url: str) -> None:
    """What holds after every kill."""
    with Registry.open(tmp_path / "home", database_url=url) as catalog:
        assert [found.problems for found in catalog.verify() if not found.ok] == []
        names = {version.name for version in catalog.list(limit=1000).versions}
        for name in names:
            log = catalog.log(name)
            assert [version.version for version in log] == list(range(len(log), 0, -1))
        with catalog._database.read() as session:
            changes = session.execute(
                text("SELECT count(*) FROM events WHERE action IN ('import', 'compose')")
            )
            assert changes.scalar_one() == session.execute(text("SELECT count(*) FROM versions")).scalar_one()
    for folder in tmp_path.glob("model*"):
        assert (folder / "config.json").stat().st_size > 0
        assert (folder / "model.safetensors").stat().st_size > 0
    for folder in tmp_path.glob("out*"):
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }


def leave_only_what_lives(catalog: Registry) -> None:
    gc(catalog._database, catalog._blobs, apply=True, actor="tester", grace=timedelta(0))
    assert catalog._blobs.leftovers(timedelta(0)) == []
    with catalog._database.read() as session:
        recorded = set(session.scalars(text("SELECT digest FROM blobs")))
    assert recorded == {digest for digest, _ in catalog._blobs.digests()}
    assert all(found.ok for found in catalog.verify(rebuild=True))
