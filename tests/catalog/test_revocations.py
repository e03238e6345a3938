"""Revoked versions: marks on everything that was derived, whoever writes at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry import Registry
from registry.catalog import references, revocations, versions
from registry.catalog.database import Database
from registry.catalog.versions import Draft, Edge
from registry.errors import Conflict, NotFound, UsageError
from registry.reference import parse
from registry.results import BaseModelIdentity
from registry.verbs import revoke as verb
from tests.catalog.drafts import add, content, events, statements
from tests.catalog.test_concurrency import together
from tests.catalog.test_lineage import grow


@pytest.fixture
def diamond(catalog: Registry) -> Registry:
    """``d`` from ``b`` and ``c``, both from ``a``; ``e`` from ``d``; ``lone`` from nothing."""
    database = catalog._database
    for name, parents in {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"], "lone": []}.items():
        add(database, name, name, parents=parents)
    return catalog


def marks(catalog: Registry) -> set[tuple[str, str]]:
    """Which version is affected by which."""
    pairs = text(
        "SELECT a.name, b.name FROM affected JOIN versions v ON v.id = affected.version_id "
        "JOIN adapters a ON a.id = v.adapter_id JOIN versions w ON w.id = affected.revoked_id "
        "JOIN adapters b ON b.id = w.adapter_id"
    )
    with catalog._database.read() as session:
        return {(one, other) for one, other in session.execute(pairs)}


def test_all_that_was_derived_is_marked_at_any_depth(diamond: Registry) -> None:
    found = diamond.revoke("b", " leaked \n data ")
    assert (found.ref, found.reason, found.affected) == ("b@1", "leaked data", ("d@1", "e@1"))
    assert (found.changed, found.undone, found.revoked_by) == (True, False, "tester")
    assert marks(diamond) == {("d", "b"), ("e", "b")}
    last = events(diamond._database)[-1]
    assert last == ("tester", "revoke", "b@1", {"reason": "leaked data", "affected": 2})
    flags = {node.ref: (node.revoked, node.affected) for node in diamond.lineage("e").nodes}
    assert flags == {
        "e@1": (False, True), "d@1": (False, True), "b@1": (True, False), "c@1": (False, False), "a@1": (False, False),
    }  # fmt: skip


def test_what_is_derived_afterwards_is_marked_too(diamond: Registry) -> None:
    diamond.revoke("b", "bad")
    diamond.revoke("lone", "also bad")
    add(diamond._database, "f", "f", parents=["e", "lone"])
    add(diamond._database, "g", "g", parents=["f", "b"])
    assert {pair for pair in marks(diamond) if pair[0] in "fg"} == {
        ("f", "b"), ("f", "lone"), ("g", "b"), ("g", "lone"),
    }  # fmt: skip


def test_undoing_leaves_what_another_revocation_marks(diamond: Registry) -> None:
    diamond.revoke("b", "bad")
    diamond.revoke("c", "worse")
    found = diamond.unrevoke("b")
    assert (found.undone, found.reason, found.affected) == (True, "bad", ("d@1", "e@1"))
    assert marks(diamond) == {("d", "c"), ("e", "c")}
    assert events(diamond._database)[-1][1:3] == ("unrevoke", "b@1")
    diamond.unrevoke("c")
    assert marks(diamond) == set()
    with pytest.raises(NotFound, match="c@1 is not revoked"):
        diamond.unrevoke("c")
    assert diamond.revoke("b", "once more").changed


def test_what_is_only_affected_cannot_be_undone(diamond: Registry) -> None:
    diamond.revoke("b", "bad")
    with pytest.raises(NotFound, match="e@1 is not revoked") as caught:
        diamond.unrevoke("e")
    assert caught.value.hint == "it was derived from b@1, which is"


def test_revoking_again_says_so(diamond: Registry) -> None:
    diamond.revoke("b", "bad")
    before = events(diamond._database)
    again = diamond.revoke("b", "bad")
    assert (again.changed, again.affected) == (False, ("d@1", "e@1"))
    with pytest.raises(Conflict, match="b@1 was revoked by tester before: bad"):
        diamond.revoke("b", "worse")
    assert events(diamond._database) == before


def test_a_tombstone_can_be_revoked(diamond: Registry) -> None:
    diamond.delete("b")
    assert diamond.revoke("b@1", "bad").affected == ("d@1", "e@1")


@pytest.mark.parametrize("reason", ["", " \n", "x" * 301, "\x1b[31m"])
def test_a_reason_is_a_line_of_text(diamond: Registry, reason: str) -> None:
    with pytest.raises(UsageError):
        diamond.revoke("b", reason)
    assert marks(diamond) == set()


def test_copies_of_the_content_are_told(diamond: Registry) -> None:
    add(diamond._database, "twin", "b")
    add(diamond._database, "twin2", "b")
    assert diamond.revoke("b", "bad").copies == ("twin@1", "twin2@1")
    assert diamond.revoke("twin", "bad").copies == ("twin2@1",)


def test_causes_are_told_for_many_at_once(diamond: Registry) -> None:
    diamond.revoke("b", "bad")
    diamond.revoke("c", "worse")
    with diamond._database.read() as session:
        ids = {name: references.resolve(session, parse(name)).id for name in ("a", "b", "d")}
        found = revocations.causes(session, ids.values())
    assert {name: [str(cause) for cause in found[ids[name]]] for name in ids if ids[name] in found} == {
        "b": ["b@1 was revoked: bad"],
        "d": ["d@1 was derived from b@1, which was revoked: bad", "d@1 was derived from c@1, which was revoked: worse"],
    }  # fmt: skip


def test_marking_costs_the_same_statements_however_much_there_is(catalog: Registry) -> None:
    grow(catalog._database, 40_000, "SELECT i, 0, 1, 'declared' FROM n")
    with statements(catalog._database) as few:
        catalog.revoke("b2", "bad")
    with statements(catalog._database) as many:
        assert len(catalog.revoke("root", "bad").affected) == 39_999
    assert 0 < len(few) == len(many)


def while_open(database: Database, first: Callable[[Any], object], second: Callable[[], object]) -> None:
    """Begin ``second`` while the transaction of ``first`` is open, long enough that it could have ended."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            second()
        except BaseException as error:  # noqa: BLE001  (told by the test's own thread)
            failed.append(error)

    thread = threading.Thread(target=run)
    with database.write() as session:
        first(session)
        session.flush()
        thread.start()
        thread.join(0.5)
    thread.join()
    assert not failed


def test_a_child_that_is_being_written_is_seen_by_who_revokes(diamond: Registry) -> None:
    """Its edges are there, and not committed."""
    database = diamond._database

    def write(session: Any) -> None:
        parent = references.resolve(session, parse("d")).id
        base = BaseModelIdentity(repo="tiny/base")
        edges = [Edge(parent, "declared")]
        versions.write(session, Draft("new", content("new"), base, "tester", parents=edges))

    while_open(database, write, lambda: diamond.revoke("b", "bad"))
    assert ("new", "b") in marks(diamond)


def test_who_writes_a_child_sees_a_revocation_that_is_being_written(diamond: Registry) -> None:
    database = diamond._database

    def revoke(session: Any) -> None:
        revocations.exclude_edges(session)
        revocations.revoke(session, references.resolve(session, parse("b")), "bad", "tester")

    while_open(database, revoke, lambda: add(database, "new", "new", parents=["d"]))
    assert ("new", "b") in marks(diamond)


WRITE_AND_REVOKE = """
with Registry.open(home, database_url=url) as catalog:
    from tests.catalog.drafts import add
    from registry.verbs import revoke
    ready()
    for turn in range(12):
        if number == 0:
            catalog.revoke(f"root{turn}", "bad")
            if turn % 3 == 2:
                catalog.unrevoke(f"root{turn - 1}")
        else:
            for step in range(3):
                parents = [f"root{turn}", f"line{number}"] if turn + step else [f"root{turn}"]
                add(catalog._database, f"line{number}", f"{number} {turn} {step}", parents=parents)
    print(json.dumps([turn]))
"""


def test_whoever_writes_while_somebody_revokes_misses_nothing_and_does_not_fail(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    for turn in range(12):
        add(catalog._database, f"root{turn}", f"root{turn}")
    assert together(WRITE_AND_REVOKE, tmp_path, database_url, 4) == [[11]] * 4
    undone = {1, 4, 7, 10}
    for turn in range(12):
        derived = catalog.lineage(f"root{turn}", direction="down").nodes[1:]
        assert len(derived) >= 9
        with catalog._database.read() as session:
            ids = [references.resolve(session, parse(node.ref)).id for node in derived]
            found = revocations.causes(session, ids)
        marked = [any(cause.revoked == f"root{turn}@1" for cause in found.get(row_id, [])) for row_id in ids]
        assert set(marked) == {turn not in undone}


def test_a_revocation_is_one_transaction(diamond: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(revocations, "record", fail)
    with pytest.raises(KeyboardInterrupt):
        verb.revoke(diamond._database, "b", "bad", actor="tester")
    assert marks(diamond) == set()
    assert not diamond.lineage("b").nodes[0].revoked
