"""What docs/automation.md shows parses: commands against the command line, YAML, JSON and Python."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from cli import root
from registry.results import SyncReport

PAGE = (Path(__file__).parents[1] / "docs" / "automation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


WORKFLOW = yaml.safe_load(blocks("yaml")[0])
COMMANDS = sorted(
    {
        *re.findall(
            r"(?:^|run: |~/\.hf-publish-token\) )(registry .*)$",
            "\n".join(blocks("") + blocks("yaml")),
            re.MULTILINE,
        ),
        *re.findall(r"`(registry [^`]*)`", PAGE),
    }
)


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = root
    ctx = click.Context(root, info_name="registry", **root.context_settings)  # -h is decided once for all
    while isinstance(command, click.Group):
        found = command.get_command(ctx, words[0])
        assert found is not None, line
        command, words = found, words[1:]
        ctx = click.Context(command, parent=ctx, info_name=command.name)
    if words:  # the bare name of a command is a word about it
        command.make_context(command.name, words, parent=ctx.parent)


def test_the_workflow_publishes_and_only_looks_on_pull_requests() -> None:
    assert set(WORKFLOW[True]) == {"schedule", "workflow_dispatch", "pull_request"}  # YAML reads "on" as true
    steps = WORKFLOW["jobs"]["sync"]["steps"]
    when = {step["run"]: step.get("if") for step in steps if "registry sync" in step.get("run", "")}
    assert when == {
        "registry sync --check --report sync.json": "github.event_name == 'pull_request'",
        "registry sync --report sync.json": "github.event_name != 'pull_request'",
    }
    assert {"HF_TOKEN", "REGISTRY_DATABASE_URL"} <= set(WORKFLOW["jobs"]["sync"]["env"])


def test_the_report_is_one() -> None:
    report = SyncReport.model_validate_json(blocks("json")[0])
    assert set(report.results[0].model_dump()) == set(type(report.results[0]).model_fields)


def test_the_python_parses() -> None:
    for text in blocks("python"):
        ast.parse(text)
