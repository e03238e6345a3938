"""Whatever is in the catalog, nothing reaches the terminal as a control character."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from cli import _graph, _tables, _text, _views
from cli._text import UNSAFE, clean, escape_json, plural, shown, size
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

HOSTILE = "a\x1b]0;owned\x07b\u202ec\x9b31md\ne\x00[bold]f[/bold]:smile:\udcff\U000e0041"


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain äöü 日本 🙂", "plain äöü 日本 🙂"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("lone \udcff", "lone \\udcff"),
        (12, "12"),
    ],
)
def test_clean_spells_out_what_a_terminal_would_obey(raw: Any, safe: str) -> None:
    assert clean(raw) == safe


def test_json_is_equal_and_harmless() -> None:
    value = {"note": HOSTILE, "name": "ä"}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    safe = escape_json(text)
    assert not UNSAFE.search(safe.replace("\n", ""))
    assert "ä" in safe
    assert json.loads(safe) == value
    assert escape_json(text, only_ascii=True).isascii()
    assert json.loads(escape_json(text, only_ascii=True)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456789, "0.123457"),
        ({"a": "b", "c": "d"}, "a=b, c=d"),
        (("x", "y"), "x, y"),
        (samples.NOW, "2026-08-01 12:30:00 UTC"),
    ],
)
def test_values_are_shown_as_people_write_them(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_999, "1.0 MB"),
        (5 * 10**12, "5.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_plurals() -> None:
    assert (plural(1, "module"), plural(1000, "module")) == ("1 module", "1,000 modules")


def poisoned(result: BaseModel) -> Any:
    """The same result with every free text made hostile."""
    fields = {name: _poison(getattr(result, name)) for name in type(result).model_fields}
    return type(result).model_construct(**fields)


def _poison(value: Any) -> Any:
    if hasattr(value, "model_fields_set"):
        return poisoned(value)
    match value:
        case "input" | "declared" | "done" | "up" | "down" | "same":
            return value
        case str():
            return value + HOSTILE
        case tuple():
            return tuple(_poison(item) for item in value)
        case dict():
            return {_poison(key): _poison(item) for key, item in value.items()}
        case _:
            return value


SINGLE: list[tuple[Callable[..., Any], BaseModel]] = [
    (_views.version, samples.full()),
    (_views.added, samples.added()),
    (_views.composed, samples.composed()),
    (_views.check, samples.check()),
    (_views.materialized, samples.materialized()),
    (_views.plan, samples.plan()),
    (_views.checkout, samples.checkout()),
    (_views.difference, samples.difference(not_compared="because")),
    (_views.publication, samples.publication()),
    (_views.schema, samples.schema()),
    (_graph.tree, samples.lineage()),
]
MANY: list[tuple[Callable[..., Any], BaseModel]] = [
    (_tables.versions, samples.full()),
    (_tables.history, samples.full()),
    (_tables.aliases, samples.alias()),
    (_tables.evaluations, samples.evaluation()),
    (_tables.publications, samples.publication(remote="same")),
    (_tables.verifications, samples.verification(problems=("broken",), rebuilt=samples.OTHER)),
]


def screen(width: int, *, terminal: bool) -> Console:
    return Console(
        file=StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("view", "result"), SINGLE)
def test_no_view_lets_data_through(view: Callable[..., Any], result: BaseModel, *, terminal: bool) -> None:
    console = screen(100_000, terminal=terminal)
    for part in view(poisoned(result), console):
        console.print(part)
    text = printed(console)
    assert not UNSAFE.search(text.replace("\n", ""))
    assert "\\x1b]0;owned" in text
    assert "[bold]f[/bold]:smile:" in text


@pytest.mark.parametrize(("table", "result"), MANY)
def test_no_table_lets_data_through(table: Callable[..., Any], result: BaseModel) -> None:
    console = screen(100_000, terminal=False)
    console.print(table([poisoned(result)], console))
    assert not UNSAFE.search(printed(console).replace("\n", ""))
    assert "\\x1b]0;owned" in printed(console)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize(("table", "result"), MANY)
def test_a_table_fits_the_terminal(table: Callable[..., Any], result: BaseModel, width: int) -> None:
    console = screen(width, terminal=True)
    console.print(table([result, result], console))
    assert all(len(line) <= width for line in printed(console).splitlines())


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize(("view", "result"), SINGLE)
def test_a_view_fits_the_terminal(view: Callable[..., Any], result: BaseModel, width: int) -> None:
    console = screen(width, terminal=True)
    for part in view(result, console):
        console.print(part)
    assert all(len(line) <= width for line in printed(console).splitlines())


def test_a_narrow_list_keeps_the_reference_whole() -> None:
    console = screen(40, terminal=True)
    console.print(_tables.versions([samples.full()], console))
    assert "toxic@3" in printed(console)


def test_digests_are_short_only_for_people() -> None:
    shortened, whole = screen(200, terminal=True), screen(200, terminal=False)
    for console in (shortened, whole):
        console.print(_tables.history([samples.version()], console))
    assert samples.DIGEST not in printed(shortened)
    assert samples.DIGEST[:19] in printed(shortened)
    assert samples.DIGEST in printed(whole)


def test_a_diff_on_a_terminal_shows_the_most_changed_and_says_what_is_left() -> None:
    console = screen(100, terminal=True)
    for part in _views.difference(samples.difference(), console):
        console.print(part)
    assert "layers.29.q" in printed(console)
    assert "layers.0.q" not in printed(console)
    assert "20 modules that changed less" in printed(console)


def test_hostile_text_in_each_format(fake: FakeRegistry, run: Run) -> None:
    fake.answers["show"] = samples.version(name="toxic", note=HOSTILE.replace("\udcff", ""))
    for form in ("human", "json", "quiet"):
        done = run("show", "toxic", "--format", form)
        assert done.exit_code == 0
        assert not UNSAFE.search(done.stdout.replace("\n", ""))


def test_labels_are_plain_without_a_terminal() -> None:
    assert _text.tint("error:", "red") == "error:"
