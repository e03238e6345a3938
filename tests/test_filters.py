"""The grammar of filters: what it takes, and what it says of what it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.errors import ExpressionError, UsageError
from registry.filters import Among, And, Compare, Key, Missing, Node, Not, Or, Words, leaves, mentions, parse
from registry.reference import Reference


def tag(key: str, value: str) -> Compare:
    return Compare(Key("tag", key), "=", value)


A, B, C = tag("a", "1"), tag("b", "2"), tag("c", "3")
READ: dict[str, Node] = {
    "tag.a = '1'": A,
    "tags.a='1'": A,
    'TAGS.a = "1"': A,
    "tag.`odd key` = 'x'": tag("odd key", "x"),
    "tag.'odd.key' = 'x'": tag("odd.key", "x"),
    "tag.x.y-z = 'x'": tag("x.y-z", "x"),
    "tag.a = 'it''s'": tag("a", "it's"),
    'tag.a = "say ""hi"""': tag("a", 'say "hi"'),
    "tag.a = 'say \"hi\"'": tag("a", 'say "hi"'),
    "tag.a = ''": tag("a", ""),
    "tag.a = '1' AND tag.b = '2' OR tag.c = '3'": Or((And((A, B)), C)),
    "tag.a = '1' tag.b = '2' or tag.c = '3'": Or((And((A, B)), C)),
    "tag.a = '1' AND (tag.b = '2' OR tag.c = '3')": And((A, Or((B, C)))),
    "(tag.a = '1' AND tag.b = '2') tag.c = '3'": And((A, B, C)),
    "NOT tag.a = '1' AND tag.b = '2'": And((Not(A), B)),
    "not (tag.a = '1' and tag.b = '2')": Not(And((A, B))),
    "NOT NOT tag.a = '1'": A,
    "tag.a != '1'": Not(A),
    "NOT tag.a != '1'": A,
    "task NOT LIKE 'a%'": Not(Compare(Key("task"), "LIKE", "a%")),
    "task not  ilike 'a%'": Not(Compare(Key("task"), "ILIKE", "a%")),
    "kind IN ('a', 'b')": Among(Key("kind"), ("a", "b")),
    "kind\nnot\nin('a')": Not(Among(Key("kind"), ("a",))),
    "task IS NULL": Missing(Key("task")),
    "task is not null": Not(Missing(Key("task"))),
    "rank >= 1e1": Compare(Key("rank"), ">=", 10),
    "version_number<3": Compare(Key("version"), "<", 3),
    "size = 999999999999999999999999": Compare(Key("size"), "=", 2**62),
    "size = 9007199254740993": Compare(Key("size"), "=", 9007199254740993),
    "eval.f1 > .8": Compare(Key("eval", "f1"), ">", 0.8),
    "eval.`top 1`['imdb'] > -1": Compare(Key("eval", "top 1", "imdb"), ">", -1.0),
    "eval.f1['a', 'b'] IS NULL": Missing(Key("eval", "f1", "a", "b")),
    "stale = TRUE": Compare(Key("stale"), "=", True),
    "stale != true": Not(Compare(Key("stale"), "=", True)),
    "parent = 'a@3'": Compare(Key("parent"), "=", Reference(name="a", version=3)),
    "created_at > '2026-11-01'": Compare(Key("created_at"), ">", datetime(2026, 11, 1, tzinfo=UTC)),
    "created_at > '2026-11-01T02:00+02:00'": Compare(Key("created_at"), ">", datetime(2026, 11, 1, tzinfo=UTC)),
    "created_at < '36h'": Compare(Key("created_at"), "<", timedelta(hours=36)),
    "creation_timestamp = 17": Compare(Key("created_at"), "=", 17),
    "source_path = 'x'": Compare(Key("source"), "=", "x"),
    "attributes.name = 'x'": Compare(Key("name"), "=", "x"),
    "toxic": Words("toxic"),
    "toxic-2 'a b'": And((Words("toxic-2"), Words("a b"))),
    "NOT toxic bad": And((Not(Words("toxic")), Words("bad"))),
    "android orchid nothing island": And(tuple(map(Words, ["android", "orchid", "nothing", "island"]))),
    "toxic AND tag.a = '1'": And((Words("toxic"), A)),
}  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_what_is_read(text: str) -> None:
    assert parse(text) == READ[text]


REFUSED = {
    "": (1, "empty"),
    "teem = 'x'": (1, "no key"),
    "tagg.a = 'x'": (1, "no key"),
    "tag = 'x'": (1, "needs a name"),
    "name.first = 'x'": (1, "no parts"),
    "task = qa": (8, "not quoted"),
    "task = 'qa": (8, "not closed"),
    "rank = '4'": (8, "not a number"),
    "rank = 1.5": (8, "whole"),
    "rank = 1e999": (8, "not a number"),
    "eval.a = nan": (10, "not a number"),
    "rank LIKE '4'": (1, "LIKE"),
    "base < 'x'": (1, "<"),
    "stale > true": (1, ">"),
    "stale = 1": (9, "true or false"),
    "stale IS NULL": (1, "never NULL"),
    "stale IN (true)": (1, "IN"),
    "task['x'] = 'y'": (1, "datasets"),
    "created_at > 'soon'": (14, "not a time"),
    "created_at > '9999-12-31T23:59-23:00'": (14, "not a time"),
    "created_at > 1e18": (14, "not a time"),
    "created_at > 1.5": (14, "whole"),
    "parent = 'a@@'": (10, "alias"),
    "parent = 'sha256:x'": (10, "digest"),
    "note LIKE 'a\\'": (11, "backslash"),
    "task = 'a' AND": (15, "too early"),
    "(task = 'a'": (12, "too early"),
    "task = 'a')": (11, "unexpected"),
    "AND task = 'a'": (1, "unexpected"),
    "toxic OR or": (10, "unexpected"),
    "toxic null": (7, "unexpected"),
    "task = 'a' ! b": (12, "unexpected"),
    "task IN ()": (10, "unexpected"),
    "task = ": (7, "too early"),
    "--- ": (1, "no word"),
    "task = 'a' AND NOT revoked": (20, "compared with nothing"),
    "toxic tag.team": (7, "compared with nothing"),
    "EVAL.f1": (1, "compared with nothing"),
    "task = 'a\0'": (10, "character"),
    "a \udcff": (3, "character"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_error_says_what_and_where(text: str) -> None:
    column, what = REFUSED[text]
    with pytest.raises(ExpressionError, match=what) as raised:
        parse(text)
    assert raised.value.column == column + (text == "task = ")


_SLIPS = (
    ("nmae = 'x'", "name"),
    ("tags_.x = 'y'", "tag"),
    ("created > 1", "write created_at"),
    ("base_model = 'x'", "write base"),
    ("task == 'a'", "write ="),
    ("task = 'b' OR task <> 'a'", "write !="),
    ("rank = 4 && task = 'a'", "write AND"),
    ("task = 'a' || task = 'b'", "write OR"),
    ("task = NULL", "IS NULL"),
    ("NOT stale", "write stale = true, or 'stale'"),
    ("tags.team", "write tags.team IS NOT NULL"),
)


def test_half_a_condition_in_quotes_is_a_word() -> None:
    assert parse("'stale' \"tag.team\"") == And((Words("stale"), Words("tag.team")))


def test_a_slip_of_the_pen_is_guessed() -> None:
    for text, meant in _SLIPS:
        with pytest.raises(ExpressionError) as raised:
            parse(text)
        assert raised.value.hint is not None
        assert meant in raised.value.hint


def test_what_is_too_much_is_refused() -> None:
    fine: Any = parse(" ".join(["a"] * 200))
    assert len(fine.operands) == 200
    for text in (
        "a" * 10_001,
        " ".join(["a"] * 201),
        "(" * 51 + "a" + ")" * 51,
        "NOT (" * 51 + "a" + ")" * 51,
        "rank IN (" + ", ".join("1" * 501) + ")",
    ):
        with pytest.raises(UsageError):
            parse(text)
    assert parse("(" * 50 + "a" + ")" * 50) == Words("a")
    assert parse("NOT " * 1000 + "a") == Words("a")


def test_nothing_takes_long_to_refuse() -> None:
    for text in (
        "'" + "''" * 4_000,
        "(" * 9_999,
        "not " * 2_400,
        "a.'" * 3_000,
        "1" * 9_990 + " =",
        "tag." + "`" * 9_000,
    ):
        with pytest.raises(UsageError):
            parse(text)


def test_the_parts_of_a_tree() -> None:
    node = parse("a AND NOT (deleted = true OR tag.b IS NULL)")
    assert [type(leaf) for leaf in leaves(node)] == [Words, Compare, Missing]
    assert mentions(node, "deleted")
    assert not mentions(node, "latest")
    assert str(Key("eval", "f1", "imdb")) == "eval.f1['imdb']"
