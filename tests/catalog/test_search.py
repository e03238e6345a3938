"""Listings: filters, orders, pages."""

from __future__ import annotations

import base64
import json
from itertools import pairwise, product
from typing import Any

import pytest

from registry import Registry
from registry.catalog import search
from registry.errors import NotFound, UsageError
from tests.catalog.drafts import add, content, statements

# As large as each other: then by content.
LARGE = [ref for _, ref in sorted(((content(label).digest, ref) for label, ref in
         [("3", "alpha@2"), ("4", "gamma@1"), ("5", "team/delta@1")]), reverse=True)]  # fmt: skip


@pytest.fixture
def shelf(catalog: Registry) -> Registry:
    database = catalog._database
    add(database, "Beta", "1", size=30, task="qa", tags={"team": "x", "lang": "en"})
    add(database, "alpha", "2", size=10, task="qa", tags={"team": "y"})
    add(database, "alpha", "3", size=20, task="nli", tags={"team": "x"}, revision="main")
    add(database, "gamma", "4", size=20, kind="ia3", base="other/base")
    add(database, "team/delta", "5", size=20, revision="abc")
    return catalog


def refs(catalog: Registry, **filters: Any) -> list[str]:
    return [version.ref for version in catalog.list(**filters).versions]


def test_the_latest_version_of_each_adapter_that_fits_every_filter(shelf: Registry) -> None:
    expected: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["alpha@2", "Beta@1", "gamma@1", "team/delta@1"]),
        ({"base": "tiny/base"}, ["alpha@2", "Beta@1", "team/delta@1"]),
        ({"base": "tiny/base@main"}, ["alpha@2"]),
        ({"base": "tiny"}, []),
        ({"task": "qa"}, ["Beta@1"]),
        ({"task": "QA"}, []),
        ({"kind": "ia3"}, ["gamma@1"]),
        ({"tags": {"team": "x"}}, ["alpha@2", "Beta@1"]),
        ({"tags": {"team": "x", "lang": "en"}}, ["Beta@1"]),
        ({"tags": {"team": "y"}}, []),
        ({"tags": {"team": "%"}}, []),
        ({"base": "tiny/base", "kind": "lora", "task": "nli", "tags": {"team": "x"}}, ["alpha@2"]),
        ({"sort": "created"}, ["team/delta@1", "gamma@1", "alpha@2", "Beta@1"]),
        ({"sort": "size"}, ["Beta@1", *LARGE]),
        ({"sort": "size", "limit": 2}, ["Beta@1", LARGE[0]]),
    ]
    for filters, found in expected:
        assert refs(shelf, **filters) == found, filters


def test_an_adapter_whose_latest_was_deleted_is_listed_by_the_one_before(shelf: Registry) -> None:
    shelf.delete("alpha@2")
    shelf.delete("gamma@1")
    assert refs(shelf) == ["alpha@1", "Beta@1", "team/delta@1"]
    assert refs(shelf, task="qa") == ["alpha@1", "Beta@1"]


def test_pages_put_together_are_the_whole_list(shelf: Registry) -> None:
    for sort, limit in product(["name", "created", "size"], [1, 2, 3, 4, 5]):
        page = shelf.list(sort=sort, limit=limit)
        collected = [version.ref for version in page.versions]
        while page.next is not None:
            assert len(page.versions) == limit
            page = shelf.list(sort=sort, limit=limit, after=page.next)
            collected += [version.ref for version in page.versions]
        assert collected == refs(shelf, sort=sort)


def test_a_page_goes_on_where_it_ended_whatever_came_or_went(shelf: Registry) -> None:
    page = shelf.list(limit=2)
    shelf.delete("Beta@1")
    add(shelf._database, "aaa", "new")
    add(shelf._database, "hotel", "new2")
    assert refs(shelf, after=page.next) == ["gamma@1", "hotel@1", "team/delta@1"]


def token(*state: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(state).encode()).decode()


def test_a_token_that_is_not_ours_is_a_usage_error(shelf: Registry) -> None:
    ours = shelf.list(limit=1).next
    assert ours is not None
    asked, name = json.loads(base64.urlsafe_b64decode(ours))
    assert shelf.list(after=token(asked, name)).versions
    for after in [
        "",
        "x",
        "é",
        "!!!!",
        "bnVsbA==",
        base64.b64encode(b"[" * 100_000).decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        token(),
        token("0123456789abcdef", "a", 1),
        *(token(asked, *keys) for keys in [(), (None, 1), ("a\0", 1), ("a", "1"), ("a", True), ("a", 1.5)]),
        *(
            token(asked, *keys)
            for keys in [("a", 2**63), ("a", -1), ("a", -(2**70)), ("a", 1, 1), (["a"], 1)]
        ),
    ]:
        with pytest.raises(UsageError, match="page token"):
            shelf.list(after=after)


def test_a_token_with_a_row_id_that_is_none_is_a_usage_error(shelf: Registry) -> None:
    ours = shelf.list(sort="created", limit=1).next
    assert ours is not None
    asked, row_id = json.loads(base64.urlsafe_b64decode(ours))
    assert shelf.list(sort="created", after=token(asked, row_id)).versions
    for wrong in ["1", True, 1.5, None, 2**63, -1, -(2**70)]:
        with pytest.raises(UsageError, match="page token"):
            shelf.list(sort="created", after=token(asked, wrong))


def test_a_token_belongs_to_its_order(shelf: Registry) -> None:
    for one, other in pairwise(["name", "created", "size", "name"]):
        after = shelf.list(sort=one, limit=1).next
        with pytest.raises(UsageError, match="page token"):
            shelf.list(sort=other, after=after)


def test_what_cannot_be_asked_for_is_a_usage_error(shelf: Registry) -> None:
    asked: list[dict[str, Any]] = [
        {"sort": "nosuch"},
        {"sort": ""},
        {"limit": 0},
        {"limit": -1},
        {"limit": 10**20},
        {"task": "a\0b"},
        {"base": "\udcff"},
        {"tags": {str(number): "x" for number in range(2000)}},
    ]
    for options in asked:
        with pytest.raises(UsageError):
            shelf.list(**options)


def test_a_page_costs_the_same_number_of_statements_whatever_its_size(catalog: Registry) -> None:
    database = catalog._database
    for number in range(40):
        parents = [f"a{number - 1}"] if number else []
        add(database, f"a{number}", str(number), tags={"k": "v"}, parents=parents)
        catalog.set_alias(f"a{number}", "prod", 1)
        catalog.add_evaluation(f"a{number}", "acc", 0.5, dataset="d")
    sent = {}
    for limit in (2, 40):
        with statements(database) as seen:
            assert len(catalog.list(limit=limit).versions) == limit
        sent[limit] = len(seen)
    assert sent[2] == sent[40] == 2


def test_a_log_is_the_whole_history_newest_first_with_tombstones(shelf: Registry) -> None:
    shelf.delete("alpha@1")
    log = shelf.log("ALPHA")
    assert [version.ref for version in log] == ["alpha@2", "alpha@1"]
    assert [version.deleted_at is None for version in log] == [True, False]
    with pytest.raises(NotFound):
        shelf.log("nosuch")
    with pytest.raises(UsageError):
        shelf.log("not a name")


def test_everything_that_lives_is_told_oldest_first(shelf: Registry) -> None:
    shelf.delete("alpha@2")
    with shelf._database.read() as session:
        assert [str(found) for found in search.live(session)] == [
            "Beta@1",
            "alpha@1",
            "gamma@1",
            "team/delta@1",
        ]
