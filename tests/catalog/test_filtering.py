"""Filters: what the databases answer is what the words mean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import Registry
from registry.catalog import _postings
from registry.errors import ExpressionError, NotFound, UsageError
from registry.filters import Key, Node, mentions, parse
from tests.catalog.shelf import EPOCH, START, Shelf, fill

TEXTS = [
    "qa",
    "QA",
    "nli",
    "x",
    "y",
    "mit",
    "MIT",
    "en",
    "it's",
    "",
    "Toxic words",
    "lora",
    "ia3",
    "tester",
    "zz",
]
PATTERNS = [
    "%",
    "q_",
    "Q%",
    "%o%",
    "mit",
    "%\\%%",
    "%*%",
    "%[c]%",
    "___",
    "",
    "%ß%",
    "%\\\\%",
    "%ö%",
    "t%s",
    "%?",
]
NAMES = ["alpha", "ALPHA", "team/beta", "delta", "nosuch", "Zeta"]
REFS = ["Alpha@1", "Alpha@2", "Alpha@3", "epsilon@1", "delta@1", "zeta@2"]
METRICS = [
    "eval.acc",
    "eval.acc['imdb']",
    "eval.acc['imdb', 'test']",
    "eval.acc['imdb', '']",
    "eval.'top 1'",
    "eval.no",
]
ORDERS = ["=", "!=", "<", "<=", ">", ">="]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def drawn(keys: list[str], operators: list[str], values: list[str]) -> st.SearchStrategy[str]:
    """``key operator value``, ``key [NOT] IN (…)`` or ``key IS [NOT] NULL``."""
    pick = st.sampled_from
    compared = st.builds(lambda *parts: " ".join(parts), pick(keys), pick(operators), pick(values))
    several = st.lists(pick(values), min_size=1, max_size=3).map(", ".join)
    among = st.builds(lambda k, o, v: f"{k} {o} ({v})", pick(keys), pick(["IN", "not in"]), several)
    missing = st.builds(lambda k, o: f"{k} {o}", pick(keys), pick(["IS NULL", "is not null"]))
    return compared | among | missing


def instants() -> list[str]:
    hours = [0, 3, 7, 12]
    moments = [START + hour * timedelta(hours=1, microseconds=1) for hour in hours]
    numbers = [str((moment - EPOCH) // timedelta(milliseconds=1)) for moment in moments]
    return [*(quoted(moment.isoformat()) for moment in moments), *numbers, "'2026-01-01'", "'7d'", "'2000w'"]


LEAVES = st.one_of(
    drawn(["task", "kind", "license", "created_by", "note", "source_path", "tag.team", "tags.`odd key`", "run_id"],
          ORDERS, [quoted(text) for text in TEXTS]),
    drawn(["task", "license", "note", "source", "tag.lang", "name", "alias", "base", "expression"],
          ["LIKE", "ILIKE", "NOT LIKE", "not ilike", "=", "!="], [quoted(text) for text in PATTERNS]),
    drawn(["name"], ORDERS, [quoted(name) for name in NAMES]),
    drawn(["alias"], ["=", "!="], ["'prod'", "'STABLE'", "'nosuch'"]),
    drawn(["base"], ["=", "!="], ["'tiny/base'", "'tiny/base@main'", "'OTHER'", "'copied/base'", "'tiny'"]),
    drawn(["rank", "parameters", "size", "version_number"], ORDERS, ["1", "2", "4", "10", "20", "1e30", "-1"]),
    drawn(["created_at", "creation_timestamp"], ORDERS, instants()),
    drawn(METRICS, ORDERS, ["0.5", "0.9", "-1", ".25"]),
    drawn(["parent", "ancestor"], ["=", "!="], [quoted(ref) for ref in REFS]),
    st.builds(lambda k, o, v: f"{k} {o} {v}",
              st.sampled_from(["derived", "stale", "revoked", "affected", "latest", "deleted"]),
              st.sampled_from(["=", "!="]), st.sampled_from(["true", "FALSE"])),
    st.sampled_from(["toxic", "tox", "'less toxicity'", "STRASSE", "straße", "alp", "team", "x", "yes en", "100"]),
)  # fmt: skip
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda text: f"NOT ({text})"),
        st.lists(inner, min_size=2, max_size=4).map(lambda texts: "(" + " AND ".join(texts) + ")"),
        st.lists(inner, min_size=2, max_size=4).map(lambda texts: "(" + " or ".join(texts) + ")"),
    ),
    max_leaves=8,
)


@pytest.fixture
def shelf(catalog: Registry) -> Shelf:
    fill(catalog)
    found = catalog.list("deleted = true OR deleted = false").versions
    assert len(found) == 13
    return Shelf({version.ref: version for version in found})


def expected(shelf: Shelf, node: Node) -> list[str]:
    shown = [each for each in shelf.versions.values() if mentions(node, "deleted") or not each.deleted_at]
    return [each.ref for each in shown if shelf.fits(each, node) is True]


@pytest.fixture(params=["as they are", "as with many rows"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where versions are read from depends on how many a term picks; with low bounds these few are many."""
    if request.param == "as with many rows":
        for name, value in {"_AHEAD": 1, "_FEW": 3, "_FEWER": 1, "_DEARER": 1}.items():
            monkeypatch.setattr(_postings, name, value)


@pytest.mark.usefixtures("bounds")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=FILTERS, limit=st.sampled_from([1, 3, 100]), latest=st.booleans())
def test_a_filter_means_the_same_in_the_database_and_in_memory(
    catalog: Registry, shelf: Shelf, text: str, limit: int, latest: bool
) -> None:
    node = parse(text)
    refs = expected(shelf, node)
    if latest:
        refs = [ref for ref in refs if shelf.value(shelf.versions[ref], Key("latest"))]
    page = catalog.list(text, limit=limit, latest=latest)
    assert [each.ref for each in page.versions] == refs[:limit]
    if page.next:
        rest = catalog.list(text, latest=latest, limit=limit, after=page.next)
        assert [each.ref for each in rest.versions] == refs[limit : 2 * limit]
    assert (page.next is not None) == (len(refs) > limit)


def test_every_single_condition_and_its_negation(catalog: Registry, shelf: Shelf) -> None:
    for text in SINGLE:
        for each in (text, f"NOT ({text})", f"({text}) OR task = 'qa'", f"({text}) AND size > 5"):
            assert [one.ref for one in catalog.list(each).versions] == expected(shelf, parse(each)), each


SINGLE = [
    *(f"{key} IS NULL" for key in ("task", "license", "note", "alias", "base", "tag.team", "eval.acc", "parent", "run_id")),
    *(f"{flag} = true" for flag in ("derived", "stale", "revoked", "affected", "latest", "deleted")),
    *(f"{metric} {order} 0.9" for metric in METRICS for order in ORDERS),
    *(f"created_at {order} {instant}" for order in ORDERS for instant in instants()),
    *(f"note {like} {quoted(pattern)}" for like in ("LIKE", "ILIKE") for pattern in PATTERNS),
    *(f"{key} = {quoted(ref)}" for key in ("parent", "ancestor") for ref in REFS),
]  # fmt: skip


@pytest.mark.usefixtures("shelf")
def test_what_mlflow_is_asked_is_answered(catalog: Registry) -> None:
    milliseconds = (START - EPOCH) // timedelta(milliseconds=1)
    asked = {
        "name = 'Alpha'": ["Alpha@4", "Alpha@3", "Alpha@2", "Alpha@1"],
        "name LIKE 'team/%'": ["team/gamma@1", "team/beta@2"],
        "name IN ('delta', 'zeta') and version_number = 2": ["zeta@2", "delta@2"],
        "tags.team = 'x' AND tags.lang = 'en'": ["Alpha@1"],
        "tag.team != 'x'": ["delta@1", "team/gamma@1", "Alpha@2"],
        'tags.`odd key` = "it\'s"': ["Alpha@3"],
        'tags."odd key" ILIKE "IT%"': ["Alpha@3"],
        "run_id = 'abc'": [],
        "run_id IN ('abc')": [],
        "source_path = '/tmp/a_b'": ["Alpha@2"],
        f"creation_timestamp = {milliseconds}": ["Alpha@1"],
        f"creation_timestamp <= {milliseconds} AND last_updated_timestamp > 0": ["Alpha@1"],
        "attributes.name = 'zeta'": ["zeta@2", "zeta@1"],
    }
    for text, refs in asked.items():
        assert [each.ref for each in catalog.list(text).versions] == refs, text


@pytest.mark.usefixtures("shelf")
def test_a_listing_with_a_filter_searches_every_live_version_unless_it_is_told(catalog: Registry) -> None:
    def refs(*args: Any, **options: Any) -> list[str]:
        return [each.ref for each in catalog.list(*args, **options).versions]

    assert refs("task = 'qa'") == ["Alpha@4", "epsilon@2", "epsilon@1", "Alpha@1"]
    assert refs("task = 'qa'", latest=True) == ["Alpha@4", "epsilon@2"]
    assert refs("task = 'qa'", latest=True, sort="name") == ["Alpha@4", "epsilon@2"]
    assert refs() == ["Alpha@4", "delta@2", "epsilon@2", "team/beta@2", "team/gamma@1", "zeta@2"]
    assert refs(latest=True, sort="created")[0] == "Alpha@4"
    assert len(refs(latest=False)) == 12
    assert refs("toxic", tags={"team": "x"}, task="qa") == ["Alpha@1"]
    assert refs("toxic", base="copied/base", kind="lora") == refs("toxic base = 'tiny/base' kind = 'lora'")
    assert refs("deleted = true") == ["team/beta@1"]
    assert refs("deleted = true", latest=True) == []


@pytest.mark.usefixtures("shelf", "bounds")
def test_pages_of_any_order_put_together_are_the_whole_list(catalog: Registry) -> None:
    for text in (None, "size >= 10", "toxic OR tag.team IS NOT NULL", "tag.team = 'x'"):
        for sort in ("name", "created", "size", "parameters"):
            for limit in (1, 2, 5):
                options: dict[str, Any] = {"filter": text, "sort": sort, "latest": False}
                page = catalog.list(**options, limit=limit)
                collected = [*page.versions]
                while page.next is not None:
                    page = catalog.list(**options, limit=limit, after=page.next)
                    collected += page.versions
                assert collected == [*catalog.list(**options).versions]
                key: Callable[[Any], Any] = {
                    "name": lambda each: (each.name.lower(), -each.created_at.timestamp()),
                    "created": lambda each: -each.created_at.timestamp(),
                    "size": lambda each: -each.size,
                    "parameters": lambda each: -each.parameters,
                }[sort]
                assert all(key(one) <= key(other) for one, other in pairwise(collected))


@pytest.mark.usefixtures("shelf")
def test_a_page_token_belongs_to_what_was_asked(catalog: Registry) -> None:
    token = catalog.list("size >= 10", limit=1).next
    assert catalog.list("size  >=  10", limit=3, after=token).versions
    for options in (
        {"filter": "size >= 11"},
        {"filter": "size >= 10", "task": "qa"},
        {"filter": "size >= 10", "sort": "name"},
        {"filter": "size >= 10", "latest": True},
        {},
    ):
        with pytest.raises(UsageError, match="page token"):
            catalog.list(**options, after=token)


def test_a_version_that_a_filter_names_has_to_be_there(catalog: Registry, shelf: Shelf) -> None:
    for text in ("parent = 'nosuch@1'", "ancestor IN ('Alpha@1', 'Alpha@9')", "NOT parent = 'Alpha@nosuch'"):
        with pytest.raises(NotFound):
            catalog.list(text)
    digest = shelf.versions["Alpha@3"].digest
    assert [each.ref for each in catalog.list(f"parent = '{digest}'").versions] == ["epsilon@1", "delta@1"]
    assert catalog.list("parent = 'Alpha@prod'").versions == catalog.list("parent = 'Alpha@1'").versions
    assert [each.ref for each in catalog.list("ancestor = 'epsilon@1'").versions] == ["zeta@1"]


@pytest.mark.usefixtures("shelf")
def test_what_is_revoked_and_what_it_affects_is_told(catalog: Registry) -> None:
    bad = catalog.show("Alpha@3")
    assert bad.revoked is not None
    assert (bad.revoked.reason, bad.revoked.by, bad.revoked.at) == ("leaks", "eve", START)
    assert bad.affected_by == ()
    assert catalog.show("delta@2").affected_by == ("Alpha@3",)
    assert catalog.show("Alpha@1").revoked is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40) | st.lists(st.sampled_from(
    ["name", "tag.k", "eval.m['d']", "=", "!=", "LIKE", "IN", "(", ")", ",", "'x'", '"', "`", "AND", "or", "NOT", "is", "null",
     "1", "-1e9", "true", "parent", "'a@1'", "created_at", "'7d'", "[", "]", "%", "\\", "base", "'%\\'", "alias", "derived"],
), max_size=12).map(" ".join))  # fmt: skip
def test_any_text_is_answered_or_refused(local: Registry, text: str) -> None:
    with contextlib.suppress(UsageError, NotFound):
        local.list(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_an_error_points_into_the_text(text: str) -> None:
    try:
        parse(text)
    except ExpressionError as error:
        column = error.column
    else:
        column = 1
    assert 1 <= column <= len(text) + 1
