"""One result, three ways: tables for people, JSON, or one reference per line. Data goes to stdout.

A view is a function from a result and a console to what rich prints; ``_views`` and ``_tables`` hold them.
Everything in a view passes :func:`_text.clean`, so that no data reaches the terminal as an escape sequence.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from ._options import FORMAT
from ._parts import Pipe
from ._text import clean, escape_json, tint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TextIO

    from rich.console import Console, RenderableType

    from registry.api import Progress
    from registry.results import Result

    from ._parts import Screen

R = TypeVar("R", bound="Result")

_UNBOUNDED = 1_000_000
"""The width of what is not a terminal: nothing there is ever cut or wrapped."""


def mode() -> str:
    """``human``, ``json`` or ``quiet``, as the command line says."""
    return str(click.get_current_context().meta.get(FORMAT, "human"))


def emit(
    result: R,
    view: Callable[[R, Console], Iterable[RenderableType]],
    *,
    quiet: Callable[[R], Iterable[str]],
) -> None:
    """Print one result. ``quiet`` gives its references."""
    match mode():
        case "json":
            _echo_json(_json(result))
        case "quiet":
            _echo_lines(quiet(result))
        case _:
            screen = console()
            for part in view(result, screen):
                screen.print(part)


def emit_all(
    results: Sequence[R],
    table: Callable[[Sequence[R], Screen], RenderableType],
    *,
    quiet: Callable[[R], str],
    empty: str,
) -> None:
    """Print many results: a JSON array, or a table (or, on stderr, ``empty``)."""
    match mode():
        case "json":
            emit_json(results)
        case "quiet":
            _echo_lines(quiet(result) for result in results)
        case _ if results and not _is_terminal(sys.stdout):
            click.echo(table(results, Pipe()))
        case _ if results:
            screen = console()
            screen.print(table(results, screen))
        case _:
            say(empty)


def emit_json(results: Sequence[Result]) -> None:
    """Print results of several sorts as one JSON array."""
    _echo_json(_json(results))


def console(*, stderr: bool = False) -> Console:
    """Plain and unbounded unless a person is looking; markup in data is never interpreted."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = _is_terminal(stream)
    return Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else _UNBOUNDED,
        markup=False,
        emoji=False,
        highlight=False,
    )


def echo(text: str) -> None:
    """Text that is made for machines (Mermaid, DOT, a revision), to stdout."""
    click.echo(text)


def say(text: str) -> None:
    """A remark for people, to stderr."""
    if mode() == "human":
        click.echo(clean(text), err=True)


def hint(text: str) -> None:
    """What can be done next, to stderr."""
    click.echo(f"{tint('hint:', 'cyan')} {clean(text)}", err=True)


def warn(warnings: Iterable[str]) -> None:
    """Warnings to stderr; in JSON they are part of the result."""
    if mode() != "json":
        for warning in warnings:
            click.echo(f"{tint('warning:', 'yellow')} {clean(warning)}", err=True)


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A bar on stderr while something is computed, where stderr is a terminal; else a line for what has no measure."""
    if mode() == "quiet":
        yield None
        return
    if not _is_terminal(sys.stderr):
        yield lambda what, _, total: None if total else say(what)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        tasks = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(clean(what), total=None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield advance


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _json(value: Result | Sequence[Result]) -> str:
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    try:
        return to_json(value, indent=2, inf_nan_mode="null").decode()
    except PydanticSerializationError:  # half a character, as in the name of a file that is no text
        import json

        return json.dumps(to_jsonable_python(value, inf_nan_mode="null"), indent=2)


def _echo_json(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(escape_json(text, only_ascii="utf" not in encoding.lower()))


def _echo_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(clean(line))
