"""Processes that are made to be stopped: forked from one that has imported everything, so that many are cheap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reliability.steps import Fault

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: by which signal (0 for none), how many steps it came, the last of them, and its error.

    ``expected`` says that the error was one of ours, or an interrupt.
    """

    signal: int
    steps: int
    last: str
    error: str | None
    expected: bool


class Nursery:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, scenario: str, folder: Path, url: str, *, at: int | None = None, fault: Fault = "kill"
    ) -> Ended:
        """Run a scenario in a process of its own, with a fault at one step."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        wanted = {"scenario": scenario, "folder": str(folder), "url": url, "at": at, "fault": fault}
        print(json.dumps(wanted), file=stdin, flush=True)
        status = int(stdout.readline())
        steps = (folder / "steps").read_text(errors="replace").splitlines()
        said = folder / "error.json"
        told: dict[str, Any] = json.loads(said.read_text()) if said.exists() else {}
        return Ended(
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            steps=len(steps),
            last=steps[-1] if steps else "",
            error=told.get("error"),
            expected=bool(told.get("expected", True)),
        )


@contextmanager
def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.nursery"],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "REGISTRY_ACTOR": "tester"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


def _work(wanted: dict[str, Any]) -> None:
    from registry import Registry
    from registry.errors import RegistryError
    from tests.reliability.scenarios import SCENARIOS
    from tests.reliability.steps import Steps

    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started this may have it ignored
    folder = Path(wanted["folder"])
    (folder / "error.json").unlink(missing_ok=True)
    steps = Steps(folder, folder / "steps", wanted["at"], wanted["fault"])
    error: BaseException | None = None
    try:
        steps.install()
        with Registry.open(folder / "home", database_url=wanted["url"]) as catalog:
            SCENARIOS[wanted["scenario"]](catalog, folder)
    except (Exception, KeyboardInterrupt) as caught:  # noqa: BLE001 (what it is, is what is asked)
        error = caught
    steps.rest()
    if error is not None:
        said = {
            "error": f"{type(error).__name__}: {error}",
            "expected": isinstance(error, RegistryError | KeyboardInterrupt),
            "traceback": traceback.format_exception(error),
        }
        (folder / "error.json").write_text(json.dumps(said))


def main() -> None:
    import torch  # noqa: F401 (paid for once)

    import tests.reliability.scenarios  # noqa: F401
    from registry.verbs import add, checkout, compose, export, import_, materialize, rebuild, sync_dir  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _work(json.loads(line))
            finally:
                os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
