"""Several processes on one catalog: nothing lost, nothing doubled, nobody failing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from tests.adapters import make_lora

ROOT = Path(__file__).parents[2]
START = """
import json, sys, time
from datetime import timedelta
from pathlib import Path
home, url, number, start = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
from registry import Registry
from registry.errors import RegistryError
from registry.verbs import add as _a, compose as _c, gc  # imported before the start, so that all begin together
from registry.recipe import Recipe
def ready():
    Path(f"{start}.{number}").touch()
    while not start.exists():
        time.sleep(0.002)
"""
ADD = """
with Registry.open(home, database_url=url) as catalog:
    from tests.catalog.drafts import add
    ready()
    print(json.dumps([add(catalog._database, "line", f"{number} {turn}").version for turn in range(50)]))
"""
COMPOSE = """
with Registry.open(home, database_url=url) as catalog:
    catalog.check("a - 0.5*b", rank=1)
    ready()
    shared = [catalog.compose("shared", f"a - 0.{turn + 1}*b", device="cpu").version for turn in range(3)]
    made = [catalog.compose("line", f"a - {number + 1}.{turn}1*b", device="cpu").version for turn in range(10)]
    print(json.dumps(made))
"""
ALIAS = """
with Registry.open(home, database_url=url) as catalog:
    ready()
    won = []
    for turn in range(10):
        try:
            catalog.set_alias("a", f"prod-{turn}", 1 + number % 2, expect="none")
            won.append(turn)
        except RegistryError as error:
            assert error.exit_code == 4, error
    print(json.dumps(won))
"""
MOVE = """
with Registry.open(home, database_url=url) as catalog:
    seen = catalog.aliases("a")[0].ref
    ready()  # all have looked and seen the same: of the first attempts all but one lose
    lost = won = 0
    while won < 50:
        current = int(seen.partition("@")[2])
        try:
            catalog.set_alias("a", "prod", 1 + (current + number) % 9, expect=current)
            won += 1
        except RegistryError as error:
            assert error.exit_code == 4, error
            lost += 1
        seen = catalog.aliases("a")[0].ref
    print(json.dumps([won, lost]))
"""
OPEN = """
ready()
with Registry.open(home, database_url=url) as catalog:
    print(json.dumps([len(catalog.list().versions), catalog.schema(home, database_url=url).ok]))
"""
SWEEP = """
from registry.verbs.gc import gc as collect
with Registry.open(home, database_url=url) as catalog:
    ready()
    count = 0
    if number < 2:
        try:
            for turn in range(25):
                made = catalog.add(Path(home).parent / f"adapter{turn % 2}", f"fleeting{number}")
                count += catalog.verify([made])[0].ok
                catalog.delete(made)
        finally:
            Path(f"{start}.done{number}").touch()
    while number >= 2 and len(list(start.parent.glob("start.done*"))) < 2:
        found = collect(catalog._database, catalog._blobs, apply=True, actor="gc", grace=timedelta(hours=1))
        count += len(found.blobs)
    print(json.dumps([count]))
"""


def together(program: str, tmp_path: Path, url: str, processes: int) -> list[Any]:
    """Run the program in so many processes, let them begin at the same moment, and return what each printed."""
    script, start = tmp_path / "program.py", tmp_path / "start"
    script.write_text(START + program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "home"), url, str(number), str(start)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    while len(list(tmp_path.glob("start.*"))) < processes and all(one.poll() is None for one in running):
        pass
    start.touch()
    outcomes = [one.communicate() for one in running]
    assert [one.returncode for one in running] == [0] * processes, outcomes
    return [json.loads(out) for out, _ in outcomes]


def numbers(answers: Sequence[Sequence[int]]) -> list[int]:
    return sorted(number for answer in answers for number in answer)


def test_numbers_are_dense_and_unique_whoever_writes(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    answers = together(ADD, tmp_path, database_url, 8)
    assert numbers(answers) == list(range(1, 401))
    assert all(answer == sorted(answer) for answer in answers)
    log = catalog.log("line")
    assert [version.version for version in log] == list(range(400, 0, -1))
    assert len({version.digest for version in log}) == 400
    assert catalog.show("line").version == 400
    assert len(catalog.events("line", action="import", limit=1000)) == 400


def test_compositions_are_all_there_and_the_same_one_is_one_version(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    answers = together(COMPOSE, tmp_path, database_url, 3)
    assert numbers(answers) == list(range(1, 31))
    assert len({version.recipe.digest for version in catalog.log("line") if version.recipe}) == 30
    assert sorted(version.version for version in catalog.log("shared")) == [1, 2, 3]
    assert all(found.ok for found in catalog.verify())


def test_an_alias_that_must_not_exist_is_created_by_exactly_one(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    for seed in range(2):
        catalog.add(make_lora(tmp_path / "a", seed=seed), "a")
    answers = together(ALIAS, tmp_path, database_url, 4)
    assert numbers(answers) == list(range(10))
    assert len(catalog.aliases("a")) == 10


def test_aliases_moved_by_compare_and_set_leave_one_chain(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    """Nobody's move is overwritten by somebody who had not seen it: each event begins where the last one ended."""
    from tests.catalog.drafts import add

    for label in range(10):
        add(catalog._database, "a", str(label))
    catalog.set_alias("a", "prod", 10, protect=True)
    answers = together(MOVE, tmp_path, database_url, 8)
    assert [won for won, _ in answers] == [50] * 8
    assert sum(lost for _, lost in answers) >= 7
    moves = [event.detail for event in reversed(catalog.events("a", action="alias", limit=1000))]
    moved = [(move["from"], move["to"]) for move in moves]
    # A move to where it points already changes nothing and is no event.
    assert moved[0] == (None, 10)
    assert all(before[1] == after[0] for before, after in pairwise(moved))
    assert catalog.aliases("a")[0].ref == f"a@{moved[-1][1]}"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_an_empty_catalog_opened_by_several_at_once_is_created_once(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/home/registry.db"
    if backend == "postgresql":
        url = request.getfixturevalue("empty_postgres_url")
    assert together(OPEN, tmp_path, url, 4) == [[0, True]] * 4


def test_collecting_garbage_never_takes_bytes_that_are_just_being_added(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    """Two processes add and delete the same contents while two others collect."""
    for seed in range(2):
        make_lora(tmp_path / f"adapter{seed}", seed=seed)
    answers = together(SWEEP, tmp_path, database_url, 4)
    assert answers[:2] == [[25], [25]]
    assert sum(answers[2] + answers[3]) > 0
    made = catalog.add(tmp_path / "adapter0", "kept")
    catalog.gc(apply=True)
    assert all(found.ok for found in catalog.verify())
    assert catalog.verify([made])[0].ok
