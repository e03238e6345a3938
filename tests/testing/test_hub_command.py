"""The local Hub as a command, and without the packages it needs."""

import os
import subprocess
import sys
from pathlib import Path

from huggingface_hub import HfApi


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "registry.testing.hub", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = dict(process.stdout.readline().strip().split("=", 1) for _ in range(2))
            assert HfApi(endpoint=found["HF_ENDPOINT"], token=found["HF_TOKEN"]).whoami()["name"] == "local"
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('gone', name='starlette')")
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    result = subprocess.run(
        [sys.executable, "-c", "import registry.testing.hub"],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        "ImportError: the local Hub needs starlette: pip install 'adapter-registry[testing]'" in result.stderr
    )
