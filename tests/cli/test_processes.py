"""The command as a process: what it imports, pipes that close, a real terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "alembic", "huggingface_hub", "numpy", "safetensors", "transformers", "rich.progress")
CHECKOUT = str(Path(__file__).parents[2])
LOADED = """
import sys
from cli import root
try:
    root.main({words!r}, prog_name="registry")
finally:
    print(*sorted(set(sys.modules) & set({names!r})), file=sys.stderr)
"""
WITH_FAKE = """
import sys
from cli import main
from registry import Registry
from tests.cli import samples
from tests.cli.conftest import FakeRegistry
fake = FakeRegistry()
foreign = samples.RECIPE.model_copy(update={{"resolved": "\u65e5\u672c"}})
fake.answers = {{"show": samples.full(), "log": (samples.full(),) * 20000, "compose": samples.composed(recipe=foreign)}}
Registry.open = lambda: fake
sys.argv = ["registry", *{words!r}]
main()
"""


def environment(tmp_path: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return ours | {"REGISTRY_HOME": str(tmp_path), "REGISTRY_ACTOR": "ada", "PYTHONPATH": CHECKOUT}


def python(
    *words: str, env: dict[str, str], stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=env, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


def loaded(tmp_path: Path, words: list[str], names: tuple[str, ...]) -> tuple[int, set[str]]:
    done = python("-c", LOADED.format(words=words, names=names), env=environment(tmp_path))
    return done.returncode, set(done.stderr.splitlines()[-1].split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    names = (*HEAVY, "sqlalchemy", "rich", "registry.verbs", "registry.catalog")
    assert loaded(tmp_path, ["--help"], names) == (0, set())


def test_a_command_imports_only_itself(tmp_path: Path) -> None:
    assert loaded(tmp_path, ["show", "-h"], ("cli.show", "cli.list", "cli.publish")) == (0, {"cli.show"})


@pytest.mark.parametrize("form", ["human", "json", "quiet"])
def test_list_imports_neither_torch_nor_alembic_nor_the_hub(tmp_path: Path, form: str) -> None:
    words = ["list", "--format", form]
    python("-m", "registry", *words, env=environment(tmp_path))  # makes the catalog
    assert loaded(tmp_path, words, HEAVY) == (0, set())


@pytest.mark.parametrize("words", [["--version"], ["list", "--help"]])
def test_it_runs_as_a_module(tmp_path: Path, words: list[str]) -> None:
    done = python("-m", "registry", *words, env=environment(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith(("registry ", "Usage: registry list"))


@pytest.mark.parametrize("words", [["log", "toxic"], ["log", "toxic", "--format", "json"], ["show", "toxic"]])
def test_a_closed_pipe_is_quiet(tmp_path: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = python("-c", WITH_FAKE.format(words=words), env=environment(tmp_path), stdout=writer)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


def test_a_narrow_encoding_spells_characters_out(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    human = python("-c", WITH_FAKE.format(words=["compose", "x", "y"]), env=env)
    assert "日本".encode("unicode_escape").decode() in human.stdout
    as_json = python("-c", WITH_FAKE.format(words=["compose", "x", "y", "--format", "json"]), env=env)
    assert json.loads(as_json.stdout)["recipe"]["resolved"] == "日本"
    assert as_json.stdout.isascii()


def on_terminal(tmp_path: Path, words: list[str], **variables: str) -> str:
    """What a person sees: the command with stdout and stderr on a pseudo-terminal."""
    terminal, end = pty.openpty()
    env = environment(tmp_path) | {"TERM": "xterm-256color", "COLUMNS": "60"} | variables
    env = {name: value for name, value in env.items() if name != "NO_COLOR" or "NO_COLOR" in variables}
    script = WITH_FAKE.format(words=words)
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdin=end, stdout=end, stderr=end
    ) as process:
        os.close(end)
        seen = b""
        while chunk := _read(terminal):
            seen += chunk
        process.wait()
    os.close(terminal)
    return seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux reports that the other end is closed
        return b""


def test_a_terminal_gets_colours_unless_told_otherwise(tmp_path: Path) -> None:
    assert "\x1b[" in on_terminal(tmp_path, ["show", "toxic"])
    plain = on_terminal(tmp_path, ["show", "toxic"], NO_COLOR="1")
    assert "toxic@3" in plain
    assert "\x1b" not in plain


def test_an_error_label_is_coloured_on_a_terminal(tmp_path: Path) -> None:
    assert "\x1b[31m" in on_terminal(tmp_path, ["lst"])
    assert "\x1b" not in on_terminal(tmp_path, ["lst"], NO_COLOR="1")


def test_json_on_a_terminal_is_json(tmp_path: Path) -> None:
    assert "\x1b" not in on_terminal(tmp_path, ["show", "toxic", "--format", "json"])
