"""Errors on the terminal: one line, or one JSON object, and an exit code; secrets are never shown."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, NamedTuple

import click
from click.exceptions import NoArgsIsHelpError

from registry._secrets import redact
from registry.errors import RegistryError

from ._text import clean, tint

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 2100  # characters; what an error of ours says is shorter


class Line(NamedTuple):
    """What is said about an error."""

    code: str
    exit_code: int
    message: str
    hint: str | None


def report(error: BaseException, words: Sequence[str]) -> int:
    """Print an error to stderr as the command line in ``words`` asks for; return the exit code."""
    as_json = _asked_format(words) == "json"
    if isinstance(error, NoArgsIsHelpError) and not as_json:
        click.echo(error.format_message(), err=True)
        return 2
    line = describe(error)
    message, hint = _one_line(line.message), line.hint and _one_line(line.hint)
    if _debugging(words):
        _trace(error)
        hint = "please report it" if line.code == "INTERNAL" else hint
    if as_json:
        fields = {"code": line.code, "message": message, "hint": hint}
        click.echo(json.dumps({"error": fields}, indent=2), err=True)
        return line.exit_code
    click.echo(f"{tint('error:', 'red')} {clean(message)}", err=True)
    if hint:
        click.echo(f"{tint('hint:', 'cyan')} {clean(hint)}", err=True)
    return line.exit_code


def describe(error: BaseException) -> Line:
    """The table from error to sentence."""
    hint = None
    match error:
        case RegistryError():
            code, exit_code, message, hint = error.code, error.exit_code, error.message, error.hint
        case NoArgsIsHelpError():
            code, exit_code, message, hint = "USAGE", 2, "missing command", "try 'registry --help'"
        case click.UsageError():
            code, exit_code, message = "USAGE", 2, _quiet_case(error.format_message())
            hint = f"try '{error.ctx.command_path if error.ctx else 'registry'} --help'"
        case click.ClickException():
            code, exit_code, message = "FAILURE", 1, _quiet_case(error.format_message())
        case click.Abort() | KeyboardInterrupt() | EOFError():
            code, exit_code, message = "INTERRUPTED", 130, "interrupted"
        case OSError():
            code, exit_code, message = "STORAGE", 1, error.strerror or type(error).__name__
            message += f": {error.filename}" if error.filename else ""
        case _:
            code, exit_code, message = "INTERNAL", 1, f"internal error: {type(error).__name__}: {error}"
            hint = "run it again with --debug to see where, and please report it"
    return Line(code, exit_code, message, hint)


def _one_line(text: str) -> str:
    line = " ".join(redact(text[: 10 * _LONGEST]).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


def _quiet_case(message: str) -> str:
    """Click's sentences in our style: no capital, no full stop."""
    return message[:1].lower() + message[1:].rstrip(".")


def _options(words: Sequence[str]) -> list[str]:
    return list(words[: words.index("--")] if "--" in words else words)


def _asked_format(words: Sequence[str]) -> str | None:
    """The last ``--format`` on a command line, which may be one that does not parse."""
    found = None
    given = _options(words)
    for word, following in zip(given, [*given, ""][1:], strict=True):
        if word == "--format":
            found = following
        elif word.startswith("--format="):
            found = word.partition("=")[2]
    return found


def _debugging(words: Sequence[str]) -> bool:
    return "--debug" in _options(words)


def _trace(error: BaseException) -> None:
    for line in redact("".join(traceback.format_exception(error))).splitlines():
        click.echo(clean(line), err=True)
