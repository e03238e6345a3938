"""Cold start of a command that only queries the catalog, beside importing the libraries that it rests on.

Each case is a whole process, interleaved with the others; processor time (user and system) is what is compared,
because it says the same on a busy machine.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile

RUNS = 15
CASES = {
    "import sqlalchemy, click, pydantic": ["-c", "import sqlalchemy, click, pydantic"],
    "the same, with what an ORM model and a pydantic model need": [
        "-c",
        "import click; from sqlalchemy.orm import DeclarativeBase; from pydantic import BaseModel, Field",
    ],
    "registry list": ["-m", "registry", "list", "--format", "quiet"],
}


def run(arguments: list[str]) -> None:
    if arguments:
        raise SystemExit("startup takes no options")
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "REGISTRY_HOME": home}
        _seconds(CASES["registry list"], environment)  # makes the catalog
        taken: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(RUNS):
            for name, command in CASES.items():
                taken[name].append(_seconds(command, environment))
    base = statistics.median(taken[next(iter(CASES))])
    print(f"{'case':62}{'min':>8}{'median':>8}{'max':>8}{'beyond':>8}  seconds of processor time, n={RUNS}")
    for name, values in taken.items():
        middle = statistics.median(values)
        print(f"{name:62}{min(values):8.3f}{middle:8.3f}{max(values):8.3f}{middle - base:+8.3f}")


def _seconds(arguments: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
