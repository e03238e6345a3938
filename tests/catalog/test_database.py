"""Transactions: what the database refuses is one line, and what it ends for another's sake is done again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.orm import Session

from registry import Registry, settings
from registry.catalog import database as databases
from registry.catalog import references, versions
from registry.catalog.database import Contended, Database, open_database
from registry.catalog.versions import Draft, Edge
from registry.errors import (
    Conflict,
    DatabaseDamaged,
    RegistryError,
    SchemaOutdated,
    StorageFailure,
    UsageError,
)
from registry.reference import parse
from registry.results import BaseModelIdentity
from tests.adapters import make_lora
from tests.catalog.drafts import add, content


@pytest.fixture
def shared(postgres_url: str) -> Iterator[Database]:
    """The database that several write to at once; SQLite has one writer at a time."""
    opened = open_database(postgres_url)
    yield opened
    opened.close()


@contextmanager
def meeting(database: Database, start: str, table: str) -> Iterator[None]:
    """The second of two threads comes to such a statement before the first goes on; or a second is over."""
    gate = threading.Barrier(2)

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(start) and table in statement:
            try:
                gate.wait(1)
            except threading.BrokenBarrierError:
                gate.reset()

    event.listen(database._writer, "before_cursor_execute", wait)
    try:
        yield
    finally:
        event.remove(database._writer, "before_cursor_execute", wait)


def both(*works: Callable[[], object]) -> list[object]:
    """What each of them returned or raised, when they ran at the same time."""
    outcomes: list[object] = [None] * len(works)

    def run(number: int) -> None:
        try:
            outcomes[number] = works[number]()
        except RegistryError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def write(database: Database, name: str, edges: list[Edge], *, base: str = "tiny/base") -> int:
    draft = Draft(
        name=name,
        content=content(f"{name} of {edges}"),
        base_model=BaseModelIdentity(repo=base),
        actor="tester",
        parents=edges,
    )
    with database.write() as session:
        return versions.write(session, draft)[0]


def test_two_that_add_with_the_other_as_parent_do_not_lock_one_another_out(shared: Database) -> None:
    """On two base models, else one would wait for the other's base."""
    edges = {}
    for name in "ab":
        add(shared, name, name, base=f"base/{name}")
        with shared.read() as session:
            edges[name] = [Edge(references.resolve(session, parse(name)).id, "declared")]
    with meeting(shared, "INSERT", "lineage"):
        made = both(
            lambda: write(shared, "a", edges["b"], base="base/a"),
            lambda: write(shared, "b", edges["a"], base="base/b"),
        )
    assert all(isinstance(each, int) for each in made), made


def test_deleting_the_latest_and_composing_from_it_do_not_lock_one_another_out(shared: Database) -> None:
    for label in "12":
        add(shared, "a", label)
    second = threading.Event()
    seen: list[str] = []

    def pause(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        """The deletion has changed ``a@2`` and not yet ``a@1``."""
        if statement.startswith("UPDATE versions"):
            seen.append(statement)
            if len(seen) == 2:
                second.set()
                threading.Event().wait(0.7)

    def delete() -> list[str]:
        with shared.write() as session:
            return versions.tombstone(session, references.resolve(session, parse("a@2")), "tester")

    def compose() -> int:
        second.wait(10)
        return write(shared, "s", edges)

    with shared.read() as session:
        edges = [Edge(references.resolve(session, parse(ref)).id, "input") for ref in ("a@1", "a@2")]
    event.listen(shared._writer, "before_cursor_execute", pause)
    deleted, composed = both(delete, compose)
    event.remove(shared._writer, "before_cursor_execute", pause)
    assert deleted == []
    assert isinstance(composed, Conflict), composed
    assert composed.message == "a@2 was deleted meanwhile"


def test_what_a_deadlock_ended_is_done_again(shared: Database) -> None:
    for name in "ab":
        add(shared, name, name)
    gate = threading.Barrier(2)
    tries: list[int] = []

    def crossing(first: int, then: int) -> Callable[[Session], int]:
        def work(session: Session) -> int:
            tries.append(first)
            session.execute(
                text("UPDATE adapters SET last_version = last_version + 1 WHERE id = :id"), {"id": first}
            )
            if len(tries) <= 2:
                gate.wait(10)
            session.execute(
                text("UPDATE adapters SET last_version = last_version + 1 WHERE id = :id"), {"id": then}
            )
            return first

        return work

    assert both(lambda: shared.transact(crossing(1, 2)), lambda: shared.transact(crossing(2, 1))) == [1, 2]
    assert len(tries) == 3
    with shared.read() as session:
        assert list(session.scalars(text("SELECT last_version FROM adapters ORDER BY id"))) == [3, 3]


def test_what_stays_contended_is_told_in_the_end(shared: Database) -> None:
    tries: list[int] = []

    def hopeless(session: Session) -> None:
        tries.append(1)
        session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(Contended, match="busy with others: lost") as caught:
        shared.transact(hopeless)
    assert (caught.value.hint, len(tries)) == ("try again", 5)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO recipes VALUES (NULL, NULL, NULL)", "SELECT * FROM nosuch", "SELECT 1 +"],
)
def test_what_the_database_refuses_is_one_line_without_its_password(
    database: Database, statement: str
) -> None:
    with pytest.raises(StorageFailure) as caught, database.write() as session:
        session.execute(text(statement))
    assert "\n" not in caught.value.message


def test_text_that_postgresql_cannot_hold_is_one_line(shared: Database) -> None:
    with pytest.raises(StorageFailure, match=r"refused this: .*NUL") as caught, shared.write() as session:
        session.execute(text("SELECT :value"), {"value": "\0"})
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@host:abc/db", "postgresql://u:secret@[::1/db", "secret"]
)
def test_a_url_that_is_none_is_a_usage_error_without_the_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_database(url)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:other.db?uri=true",
        "sqlite:///file::memory:?uri=true",
    ],
)
def test_a_url_of_no_ordinary_file_is_a_usage_error(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="names no file"):
        open_database(url)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_file_is_where_it_was_when_the_catalog_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the locks beside it, which others look for there."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Registry.open("home", database_url="sqlite:///own.db") as catalog:
        monkeypatch.chdir("elsewhere")
        catalog.add(make_lora(tmp_path / "a", modules={"q_proj": (8, 8)}), "a")
        catalog.compose("half", "0.5*a", device="cpu")
        assert [event.action for event in catalog.events()]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "own.db").is_file()


def test_a_password_is_hidden_wherever_a_url_has_it() -> None:
    url = make_url("postgresql://u:secret@host/db?password=secret&sslpassword=secret&sslmode=require")
    assert databases.shown(url) == "postgresql://u:***@host/db?sslmode=require"


@pytest.mark.parametrize("actor", ["a\0", "a\nb", "\x1b[31m", "\ud800", " ", "x" * 201])
def test_who_changes_something_has_a_name_that_can_be_shown(catalog: Registry, actor: str) -> None:
    add(catalog._database, "a", "a")
    with pytest.raises(UsageError, match="cannot be the name") as caught:
        Registry(settings.load(actor=actor), catalog._database).set_tags("a", {"k": "v"})
    assert caught.value.message.isprintable()
    assert catalog.show("a").tags == {}
    Registry(settings.load(actor="Zoë van der Berg"), catalog._database).set_alias("a", "prod", 1)
    assert catalog.aliases("a")[0].updated_by == "Zoë van der Berg"


def cut_off(url: str) -> None:
    """End every other connection to the database, as a server does that is restarted."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        connection.execute(text(f"{end} WHERE datname = current_database() AND pid <> pg_backend_pid()"))
    engine.dispose()


@pytest.mark.parametrize("begin", ["glance", "read", "write"])
def test_a_connection_that_the_server_closed_is_replaced(
    shared: Database, postgres_url: str, begin: str
) -> None:
    add(shared, "a", "a")
    used = [shared.read(), shared.glance()]  # two connections, side by side
    with used[0] as one, used[1] as other:
        for session in (one, other):
            assert session.scalar(text("SELECT count(*) FROM adapters")) == 1
    cut_off(postgres_url)
    for _ in range(3):
        with getattr(shared, begin)() as session:
            assert session.scalar(text("SELECT count(*) FROM adapters")) == 1


def test_a_connection_that_rested_long_is_asked_before_it_is_used(
    shared: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_LONG_REST", -1.0)
    monkeypatch.setattr(
        databases, "_says_something", lambda _socket: False
    )  # as when a network drops it in silence
    for _ in range(2):
        with shared.read() as session:
            assert session.scalar(text("SELECT 1")) == 1
        cut_off(postgres_url)


def test_a_glance_is_no_transaction(database: Database) -> None:
    """Neither begun nor ended: one statement is one round trip."""
    add(database, "a", "a")
    begun: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda _c, _u, sql, *_: begun.append(sql))
    with database.glance() as session:
        assert references.resolve(session, parse("a")).ref == "a@1"
        driver: Any = session.connection().connection.dbapi_connection
        open_transaction = (
            driver.info.transaction_status if hasattr(driver, "info") else driver.in_transaction
        )
        assert not open_transaction
    assert len(begun) == 1
    add(database, "a", "b")
    with database.read() as session:  # the connection is as it was for those who come after
        session.execute(text("SELECT 1"))
        driver = session.connection().connection.dbapi_connection
        assert driver.info.transaction_status if hasattr(driver, "info") else driver.in_transaction


def test_what_the_first_look_at_an_open_catalog_meets_is_one_line(database_url: str) -> None:
    """The schema's revision is what is asked first, past SQLAlchemy, and so meets whatever became of the catalog."""
    database = open_database(database_url)
    try:
        with database.write() as session:
            session.execute(text("DROP TABLE alembic_version"))
        for begin in (database.read, database.write):
            with pytest.raises(SchemaOutdated, match="not a registry's"), begin() as session:
                session.execute(text("SELECT 1"))
    finally:
        database.close()


def test_an_open_catalog_whose_first_page_to_be_read_is_damaged_says_so(sqlite_url: str) -> None:
    database, file = open_database(sqlite_url), Path(str(make_url(sqlite_url).database))
    with database.read() as session:
        asked = text("SELECT rootpage FROM sqlite_master WHERE name = 'alembic_version'")
        page = int(session.scalar(asked) or 0)
        size = int(session.scalar(text("PRAGMA page_size")) or 0)
    database.close()
    with file.open("r+b") as written:
        written.seek((page - 1) * size)
        written.write(b"\xff" * size)
    for begin in (database.read, database.write):
        with pytest.raises(DatabaseDamaged, match="malformed"), begin() as session:
            session.execute(text("SELECT 1"))
    database.close()
