"""Processes that are made to be stopped: forked from one that has imported everything, so that many are cheap."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reliability.steps import TERMINATED, Fault

PROJECT = Path(__file__).parents[2]
FURNISH = "furnish"
"""What makes the catalog that the scenarios begin with."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: by which signal (0 for none), after which steps, and with which error.

    ``expected`` says that the error was one of ours, or an interrupt; ``outside``, what was written anywhere but in the
    folder of the scenario, or started.
    """

    signal: int
    steps: tuple[str, ...]
    error: str | None
    expected: bool
    outside: tuple[str, ...]

    @property
    def last(self) -> str:
        return self.steps[-1] if self.steps else ""


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
        said = folder / "error.json"
        told: dict[str, Any] = json.loads(said.read_text()) if said.exists() else {}
        return Ended(
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            steps=tuple((folder / "steps").read_text(errors="replace").splitlines()),
            error=told.get("error"),
            expected=bool(told.get("expected", True)),
            outside=tuple(told.get("outside", ())),
        )


@contextmanager
def nursery(hub: str, token: str) -> Iterator[Nursery]:
    """``hub`` is the address of the one Hub that the processes know."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.reliability.nursery"],
        cwd=PROJECT,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "OMP_NUM_THREADS": "1",
            "REGISTRY_ACTOR": "tester",
            "HF_ENDPOINT": hub,
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


def _work(wanted: dict[str, Any]) -> None:
    import registry._hub_patience
    from registry.errors import RegistryError
    from tests.reliability.furniture import furnish
    from tests.reliability.fuzz.walls import watched
    from tests.reliability.scenarios import SCENARIOS
    from tests.reliability.steps import Steps

    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started this may have it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # as the command line does
    vars(registry._hub_patience)["rest"] = lambda _: None
    folder = Path(wanted["folder"])
    (folder / "error.json").unlink(missing_ok=True)
    tempfile.tempdir = str(folder / "tmp")
    os.environ["HF_HOME"] = str(folder / "hf")
    steps = Steps(folder, folder / "steps", wanted["at"], wanted["fault"])
    error: BaseException | None = None
    seen: list[str] = []
    try:
        steps.install()
        run = furnish if wanted["scenario"] == FURNISH else SCENARIOS[wanted["scenario"]].run
        with watched(folder) as seen:
            run(folder, wanted["url"])
    except BaseException as caught:  # noqa: BLE001 (what it is, is what is asked)
        error = caught
    steps.rest()
    said: dict[str, Any] = {"outside": [each for each in seen if not each.startswith("socket.connect")]}
    if error is not None:
        told_to = isinstance(error, SystemExit) and error.code == TERMINATED
        said |= {
            "error": f"{type(error).__name__}: {error}",
            "expected": isinstance(error, RegistryError | KeyboardInterrupt) or told_to,
            "traceback": traceback.format_exception(error),
        }
    (folder / "error.json").write_text(json.dumps(said))


def main() -> None:
    sys.dont_write_bytecode = True  # which is nothing that a command writes
    # Paid for once, as everything here.
    import torch  # noqa: F401

    import tests.reliability.furniture
    import tests.reliability.scenarios  # noqa: F401
    from registry.verbs import (  # noqa: F401
        add,
        add_many,
        annotate,
        backup,
        bases,
        checkout,
        compose,
        export,
        fetch,
        import_,
        materialize,
        publish,
        rebuild,
        revoke,
        rules,
        sync,
        sync_dir,
        unpublish,
        verify,
    )

    gc.freeze()  # what all share is not copied for being looked through
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
