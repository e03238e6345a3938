"""Writers that are made to collide: held until all have read what only one of them can change, then let go."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from registry import Registry
from registry.catalog import publications, references
from registry.errors import RegistryError
from registry.reference import parse
from registry.verbs._content import Swept
from registry.verbs.gc import gc
from tests.adapters import make_lora
from tests.reliability.invariants import broken, leftovers

SMALL = {"model.layers.0.self_attn.q_proj": (4, 4)}
WRITERS = 4
LONG = 100  # seconds after which something hangs
Work = Callable[[Registry, int], Any]
Pair = Callable[[Registry, str], Any]


def lora(folder: Path, seed: int) -> Path:
    return make_lora(folder / f"source{seed}", modules=SMALL, r=1, seed=seed)


def _writes(connection: Connection, statement: str) -> bool:
    """Whether this is where a writer takes what it needs: up to here everybody may have read the same."""
    if not connection.get_execution_options().get("registry_write", False):
        return False
    if connection.dialect.name == "sqlite":
        return statement == "BEGIN IMMEDIATE"
    words = statement.split(None, 1)[0].upper()
    return words in {"INSERT", "UPDATE", "DELETE", "LOCK"} or "FOR UPDATE" in statement.upper()


@contextmanager
def held_together(writers: int) -> Iterator[list[str]]:
    """Every thread waits where it first writes until all have come there; the list has a line for each."""
    gate, came = threading.Barrier(writers), list[str]()
    once = threading.local()

    def hold(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not hasattr(once, "came") and _writes(connection, statement):
            once.came = True
            came.append(statement)
            gate.wait(LONG)

    event.listen(Engine, "before_cursor_execute", hold)
    try:
        yield came
    finally:
        event.remove(Engine, "before_cursor_execute", hold)


def collide(work: Work, home: Path, url: str) -> list[Any]:
    """What each of the writers got: its result, or the code of its error."""

    def one(number: int) -> Any:
        with Registry.open(home, database_url=url, actor=f"writer {number}") as catalog:
            try:
                return work(catalog, number)
            except RegistryError as error:
                return error.code

    with held_together(WRITERS) as came, ThreadPoolExecutor(WRITERS) as pool:
        results = list(pool.map(one, range(WRITERS)))
    assert len(came) == WRITERS  # or nobody collided with anybody
    return results


@pytest.fixture
def crash(database_url: str, tmp_path: Path) -> Callable[[Work], list[Any]]:
    for seed in range(WRITERS):
        lora(tmp_path, seed)
    return lambda work: collide(work, tmp_path / "home", database_url)


def test_versions_of_a_new_line_on_a_new_base_model(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    made = crash(
        lambda own, number: own.add(tmp_path / f"source{number}", "line", base="new/base@main").version
    )
    assert sorted(made) == [1, 2, 3, 4]
    assert [version.version for version in catalog.log("line")] == [4, 3, 2, 1]
    assert [base.name for base in catalog.base_models()] == ["new/base@main"]
    assert broken(tmp_path, _url(catalog)) == []


def test_the_same_content_under_one_name(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    made = crash(lambda own, _: own.add(tmp_path / "source0", "line").created)
    assert sorted(made) == [False, False, False, True]
    assert catalog.show("line").version == 1


def test_the_same_bytes_under_many_names(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    made = crash(lambda own, number: own.add(tmp_path / "source0", f"line{number}").digest)
    assert len(made) == WRITERS
    assert len(set(made)) == 1
    assert len(list(catalog._blobs.digests())) == 2
    assert broken(tmp_path, _url(catalog)) == []


def test_names_that_differ_by_case_only(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    made = crash(lambda own, number: own.add(tmp_path / f"source{number}", ["line", "Line"][number % 2]).ref)
    assert made.count("CONFLICT") == 2
    assert len(catalog.list().versions) == 1
    assert catalog.show("line").version == 2


def test_a_composition_whose_content_is_known(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    catalog.add(tmp_path / "source0", "a")
    catalog.compose("known", "2*a", device="cpu")
    made = crash(lambda own, _: own.compose("line", "2*a", device="cpu").created)
    assert sorted(made) == [False, False, False, True]
    assert catalog.show("line").version == 1


@pytest.mark.parametrize("there", ["none", 1])
def test_an_alias_that_is_moved_by_who_saw_where_it_points(
    catalog: Registry, there: Any, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    for seed in range(WRITERS):
        catalog.add(tmp_path / f"source{seed}", "line")
    if there == 1:
        catalog.set_alias("line", "prod", 1)
    made = crash(lambda own, number: own.set_alias("line", "prod", 1 + number % 3 + 1, expect=there).ref)
    assert made.count("CONFLICT") == WRITERS - 1
    (won,) = [ref for ref in made if ref != "CONFLICT"]
    assert [alias.ref for alias in catalog.aliases("line")] == [won]
    assert len(catalog.events("line", action="alias")) == (2 if there == 1 else 1)


def test_a_rule(catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path) -> None:
    catalog.add(tmp_path / "source0", "line")
    made = crash(lambda own, number: own.add_rule("line", "team/{name}", private=number % 2 == 0).created)
    assert Counter(made) == {True: 1, False: 1, "CONFLICT": 2}
    assert len(catalog.rules()) == 1


def test_one_push_that_several_find_done(
    catalog: Registry, crash: Callable[[Work], list[Any]], tmp_path: Path
) -> None:
    catalog.add(tmp_path / "source0", "line")
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("line"))
        publications.begin(
            session,
            pin,
            publish_id="id",
            repo="team/line",
            revision="main",
            target="adapter",
            files={},
            actor="ann",
        )

    def finish(own: Registry, number: int) -> None:
        own._database.transact(
            lambda session: publications.finish(
                session, "id", commit="c" * 40, url="https://x.y", ref="line@1", actor=f"writer {number}"
            )
        )

    assert crash(finish) == [None] * WRITERS
    assert len(catalog.events(action="publish")) == 1
    assert [each.state for each in catalog.publications()] == ["done"]


def _url(catalog: Registry) -> str:
    return catalog._database.url.render_as_string(hide_password=False)


# -- two at a time, the second while the first is about to commit


def _compose(catalog: Registry, line: str) -> tuple[str, ...]:
    return catalog.compose(f"{line}-made", f"0.5*{line}@2 + {line}@1", device="cpu").warnings


OPERATIONS: Mapping[str, Pair] = {
    "alias": lambda catalog, line: catalog.set_alias(line, "prod", 2),
    "delete": lambda catalog, line: catalog.delete(f"{line}@2"),
    "revoke": lambda catalog, line: catalog.revoke(f"{line}@2", "bad"),
    "compose": _compose,
    "collect": lambda catalog, _: gc(
        catalog._database, catalog._blobs, apply=True, actor="sweeper", grace=timedelta(0)
    ),
}
REFUSED = {
    ("alias", "delete"): "CONFLICT",
    ("delete", "alias"): "NOT_FOUND",
    ("delete", "delete"): "NOT_FOUND",
    ("delete", "compose"): "CONFLICT",
    ("revoke", "alias"): "REFUSED",
}
"""What the second gets that had to wait for the first; all others succeed, and who need not wait came first."""


class Paused:
    """A writer that is held at its first commit, with every lock that it took, and another that comes then."""

    def __init__(self, database: str) -> None:
        self._sqlite = database == "sqlite"
        self._mine = threading.local()
        self.arrived, self.go, self.came = threading.Event(), threading.Event(), threading.Event()

    def first(self, work: Callable[[], Any]) -> Any:
        self._mine.first = True
        try:
            return work()
        finally:
            self.arrived.set()  # also where it had nothing to write

    def second(self, work: Callable[[], Any]) -> Any:
        self._mine.second = True
        try:
            return work()
        except RegistryError as error:
            return error.code
        finally:
            self.came.set()

    def commit(self, connection: Connection) -> None:
        if hasattr(self._mine, "first") and connection.get_execution_options().get("registry_write"):
            self.arrived.set()
            assert self.go.wait(LONG)

    def execute(self, _connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if self._sqlite and hasattr(self._mine, "second") and statement == "BEGIN IMMEDIATE":
            self.came.set()

    def wait_for_second(self, catalog: Registry) -> bool:
        """Until it is through, or waits for a lock; whether it does."""
        while not self.came.wait(0.01):
            if not self._sqlite:
                with catalog._database.glance() as session:
                    blocked = (
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    )
                    if session.scalar(text(blocked)):
                        return True
        return self._sqlite


def interleave(first: Pair, second: Pair, line: str, home: Path, url: str) -> tuple[Any, bool]:
    """What the second one got, and whether it had to wait for the first."""
    with (
        Registry.open(home, database_url=url) as one,
        Registry.open(home, database_url=url) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        pause = Paused(one._database.url.get_backend_name())
        event.listen(Engine, "commit", pause.commit)
        event.listen(Engine, "before_cursor_execute", pause.execute)
        try:
            leading: Future[Any] = pool.submit(pause.first, lambda: first(one, line))
            assert pause.arrived.wait(LONG)
            following = pool.submit(pause.second, lambda: second(two, line))
            waited = pause.wait_for_second(two)
            pause.go.set()
            leading.result()
            return following.result(), waited
        finally:
            pause.go.set()
            event.remove(Engine, "commit", pause.commit)
            event.remove(Engine, "before_cursor_execute", pause.execute)


def test_whoever_comes_while_another_is_about_to_commit_sees_what_it_did(
    catalog: Registry, database_url: str, tmp_path: Path
) -> None:
    pairs = [(one, other) for one in OPERATIONS for other in OPERATIONS]
    for each in ("compose", "collect"):  # of one recipe, and of one store: these take turns
        pairs.remove((each, each))
    for number, (one, other) in enumerate(pairs):
        line = f"line{number}"
        for seed in range(3):
            catalog.add(make_lora(tmp_path / "source", modules=SMALL, r=1, seed=3 * number + seed), line)
        catalog.delete(f"{line}@3")  # garbage, for a collection
        result, waited = interleave(OPERATIONS[one], OPERATIONS[other], line, tmp_path / "home", database_url)
        expected = REFUSED.get((one, other)) if waited else None
        assert (result if isinstance(result, str) else None) == expected, (one, other, result)
        if "revoke" in {one, other} and "compose" in {one, other}:
            assert catalog.show(f"{line}-made").affected_by, (one, other)
    assert broken(tmp_path, database_url) == []
    assert leftovers(tmp_path, database_url) == []


def test_a_collection_that_takes_what_is_being_added_makes_it_stored_again(
    catalog: Registry, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer stored its bytes and is about to record them, when a collection without grace takes them."""
    source, retried = lora(tmp_path, 1), list[str]()
    waits, go = threading.Event(), threading.Event()

    class Noted(Swept):
        def __init__(self, message: str, *, hint: str | None = None) -> None:
            retried.append(message)
            super().__init__(message, hint=hint)

    def add() -> Any:
        with Registry.open(tmp_path / "home", database_url=database_url) as own:
            return own.add(source, "kept")

    def hold(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and _writes(connection, statement):
            waits.set()
            assert go.wait(LONG)

    monkeypatch.setattr("registry.verbs._content.Swept", Noted)
    event.listen(Engine, "before_cursor_execute", hold)
    try:
        with ThreadPoolExecutor(1) as pool:
            added = pool.submit(add)
            assert waits.wait(LONG)
            taken = OPERATIONS["collect"](catalog, "").blobs
            go.set()
            assert added.result().created
    finally:
        go.set()
        event.remove(Engine, "before_cursor_execute", hold)
    assert (len(taken), len(retried)) == (2, 1)
    assert [each.ok for each in catalog.verify()] == [True]
    assert broken(tmp_path, database_url) == []
