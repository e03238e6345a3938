"""docs/testing-hub.md: every example in it runs, and what it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-hub.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = str(Path(sys.executable).parent)
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_page_has_the_examples_that_are_run_here() -> None:
    assert [len(examples(language)) for language in ("python", "sh")] == [2, 1]


def test_the_fixture_and_its_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(examples("python")[0])
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_trouble_is_what_the_page_says(tmp_path: Path) -> None:
    done = run(sys.executable, "-c", examples("python")[1], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the client says" in done.stdout


def test_the_commands_go_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    done = run("bash", "-euc", examples("sh")[0], folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "copy" / "a.txt").read_text() == "hello"


def test_every_option_on_the_page_is_one_of_the_command() -> None:
    done = run(sys.executable, "-m", "registry.testing.hub", "--help", folder=ROOT)
    named = set(re.findall(r"`(--[a-z-]+)`", PAGE)) - {"--help"}
    assert named
    assert named <= set(re.findall(r"--[a-z-]+", done.stdout))
