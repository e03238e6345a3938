"""The help is complete: every command and option says what it is for, every command shows an example."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from cli import root
from tests.cli.conftest import Run


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


ALL = [pytest.param(words, command, id=" ".join(words)) for words, command in commands(root)]


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_command_and_option_has_help(run: Run, words: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert not command.get_short_help_str(62).endswith("..."), "the first sentence is too long for the list"
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{param.opts} has no help"
    for flag in ("--help", "-h"):
        done = run(*words, flag)
        assert done.exit_code == 0
        assert done.stdout.startswith(f"Usage: registry {' '.join(words)} ")


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_command_takes_format_and_debug(words: tuple[str, ...], command: click.Command) -> None:
    names = {name for param in command.params for name in param.opts}
    assert {"--format", "--debug"} <= names, words


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_command_shows_an_example_of_itself(words: tuple[str, ...], command: click.Command) -> None:
    if not isinstance(command, click.Group):
        assert f"registry {' '.join(words)}" in (command.help or "")


def test_every_command_of_the_contract_is_there() -> None:
    names = {" ".join(words) for words, _ in commands(root)}
    assert names >= {
        "add", "show", "list", "log", "compose", "check", "materialize", "checkout", "lineage", "diff", "alias set",
        "alias list", "alias delete", "tag set", "tag delete", "eval add", "eval list", "publish", "publications",
        "verify", "delete", "gc", "db upgrade", "db current", "db check", "convert", "extract", "methods",
        "stale", "rebuild", "revoke", "impact",
        "export", "import", "sync-dir",
    }  # fmt: skip


def test_version(run: Run) -> None:
    assert run("--version").stdout == "registry 0.1.0\n"
