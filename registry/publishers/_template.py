"""The template of a card: text of the team's, in which everybody else's text stays text.

Sections are Markdown already; any other value is escaped when it is written out, whatever was done to it before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from registry._paths import open_regular
from registry.errors import UsageError
from registry.publishers._markup import code, plain

_LARGEST = 1 << 20
_FRONT = re.compile(r"\A\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BUILT_IN = "card.md.jinja"


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


@dataclass(frozen=True)
class Template:
    """A template's text, and what errors call it."""

    name: str
    text: str


def read(path: Path) -> Template:
    """Raises ``UsageError`` for what cannot be read, or is no template."""
    try:
        with open_regular(path) as file:
            raw = file.read(_LARGEST + 1)
        text = raw.decode()
    except OSError as error:
        raise UsageError(f"cannot read the card template {path!s:.200}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the card template {path!s:.200} is not UTF-8 text") from None
    if len(raw) > _LARGEST:
        raise UsageError(f"the card template {path!s:.200} is larger than {_LARGEST} bytes")
    found = Template(str(path)[:200], text.replace("\r\n", "\n"))
    _compiled(found)
    return found


@cache
def built_in() -> Template:
    return Template(_BUILT_IN, resources.files("registry.publishers").joinpath(_BUILT_IN).read_text("utf-8"))


def render(template: Template, values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The front matter that the template sets, and its text."""
    try:
        page = _compiled(template).render(**values)
    except _errors() as error:
        raise _failed(template, error, _line(error.__traceback__, template.name)) from None
    front: Any = {}
    if match := _FRONT.match(page):
        page = page[match.end() :]
        try:
            front = yaml.safe_load(match[1]) or {}
        except (yaml.YAMLError, ValueError, RecursionError):
            front = None
        if not isinstance(front, dict) or not all(isinstance(key, str) for key in front):
            raise UsageError(f"{template.name}: the front matter is no YAML mapping")
    return front, re.sub(r"\n{3,}", "\n\n", page).strip("\n") + "\n"


def _compiled(template: Template) -> Any:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = lambda value: Markdown(code(str(value)))
    try:
        # The name makes tracebacks tell the template's lines from others.
        compiled = environment.compile(template.text, name=template.name, filename=template.name)
    except (TemplateSyntaxError, RecursionError) as error:
        raise _failed(template, error, getattr(error, "lineno", None)) from None
    return environment.template_class.from_code(environment, compiled, environment.globals)


def _shown(value: object) -> str:
    if isinstance(value, Markdown):
        return str(value)
    return "" if value is None else plain(str(value))


def _errors() -> tuple[type[Exception], ...]:
    from jinja2 import TemplateError

    # A template can do with values what Python can.
    kinds = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
    return TemplateError, *kinds


def _failed(template: Template, error: Exception, line: int | None) -> UsageError:
    place = template.name if line is None else f"{template.name}, line {line}"
    what = " ".join(str(error).split()) or type(error).__name__
    return UsageError(f"{place}: {what:.200}", hint="mend the card template; its variables: docs/cards.md")


def _line(traceback: TracebackType | None, name: str) -> int | None:
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == name:
            found = traceback.tb_lineno
        traceback = traceback.tb_next
    return found
