"""mergekit in a process of its own: its pins exclude the versions that this project is tested with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
UNREACHED = "(from versions: none)"
"""What pip says of a package that no index it can reach has ever heard of."""


class Mergekit:
    """mergekit's ``merge_tensors``, called in another process; tensors go there and back as safetensors files."""

    def __init__(self, packages: Path, folder: Path) -> None:
        self._source, self._target = folder / "source.safetensors", folder / "target.safetensors"
        self._process = subprocess.Popen(
            [sys.executable, HERE / "mergekit_worker.py"],
            env={**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def merge(
        self,
        method: str,
        inputs: Sequence[Tensor],
        *,
        base_index: int | None = None,
        draws: Sequence[Tensor] = (),
        **parameters: Any,
    ) -> Tensor:
        """One tensor of the merged model. ``draws`` are the uniform numbers of its random masks, in order."""
        given = {str(i): tensor.contiguous() for i, tensor in enumerate(inputs)}
        given |= {f"draw{i}": drawn.contiguous() for i, drawn in enumerate(draws)}
        save_file(given, self._source)
        request = {
            "source": str(self._source),
            "target": str(self._target),
            "inputs": len(inputs),
            "draws": len(draws),
            "method": method,
            "parameters": parameters,
            "base_index": base_index,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        error = json.loads(self._process.stdout.readline())
        assert error is None, error
        return load_file(self._target)["merged"]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def mergekit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mergekit]:
    """mergekit, installed once into pytest's cache; skips where pip reaches no index that has it."""
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    folder = cache.mkdir("mergekit") if cache else tmp_path_factory.mktemp("mergekit")
    packages = folder / REQUIREMENTS.read_text().split("sha256:")[1][:12]
    with FileLock(folder / "lock"):
        if not packages.exists():
            install(folder / "fresh")
            (folder / "fresh").rename(packages)
    peer = Mergekit(packages, tmp_path_factory.mktemp("tensors"))
    yield peer
    peer.close()


def install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    pip += ["--retries", "1", "--timeout", "15", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run(
        [*pip, "--target", folder, "--requirement", REQUIREMENTS], capture_output=True, text=True, check=False
    )
    if UNREACHED in done.stderr:
        pytest.skip("mergekit 0.1.5 is not installed: pip reaches no package index that has it")
    assert done.returncode == 0, done.stderr
