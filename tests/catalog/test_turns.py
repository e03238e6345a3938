"""Turns: one at a time, whoever waits, and nothing left behind."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

from registry import Registry
from registry.catalog import migrate, turns
from registry.catalog.database import HEAD, Contended, Database
from registry.errors import StorageFailure
from tests.poolers import pooler


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "home").glob("*turn*"))


def test_one_at_a_time_and_everybody_in_the_end(catalog: Registry, tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait(60)
        for _ in range(3):
            with turns.turn(catalog._database, "the work", patient=True):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)  # the others come to it meanwhile
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == [1] * 12
    assert beside(tmp_path) == []


def test_who_has_no_patience_is_told(catalog: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST", 0.0)
    with ExitStack() as stack:
        stack.enter_context(turns.turn(catalog._database, "the work"))
        stack.enter_context(turns.turn(catalog._database, "other work"))
        with pytest.raises(Contended, match="somebody else is at the work"):
            stack.enter_context(turns.turn(catalog._database, "the work"))
    with turns.turn(catalog._database, "the work"):
        pass


def test_a_turn_ends_with_an_error(catalog: Registry, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turns.turn(catalog._database, "the work"):
        raise ZeroDivisionError
    with turns.turn(catalog._database, "the work", waiting=lambda: pytest.fail("it is free")):
        pass
    assert beside(tmp_path) == []


def test_a_file_that_a_killed_process_left_is_swept_unless_it_is_somebodys_turn(
    local: Registry, tmp_path: Path
) -> None:
    left, other = tmp_path / "home" / "registry.db.turn-0123456789abcdef", "registry.db.turn-mine"
    left.touch()
    (tmp_path / "home" / other).touch()
    with turns.turn(local._database, "the work"):
        assert len(beside(tmp_path)) == 3
        local.gc(apply=True)
        assert len(beside(tmp_path)) == 2
        assert not left.exists()
    assert beside(tmp_path) == [other]


def test_a_place_where_nothing_can_be_written_is_one_line(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "home").rename(tmp_path / "gone")
    with (
        pytest.raises(StorageFailure, match=r"cannot write .*turn-.*: No such file"),
        turns.turn(local._database, "it"),
    ):
        pass


def test_a_turn_and_an_upgrade_end_where_a_pooler_keeps_their_connections(postgres_url: str) -> None:
    """A lock of the session would be that of whoever is given the connection next, and nobody else's ever again."""
    url = make_url(postgres_url)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pooler(url, Path(folder)) as there:
        address = there.render_as_string(hide_password=False)
        for what in ("the work", "the work"):
            database = Database(address)
            with turns.turn(database, what, waiting=lambda: pytest.fail("nobody has it")):
                assert locks(postgres_url) == 1
            assert migrate.settled(database) == HEAD
            database.close()
            while locks(postgres_url):  # the server takes a moment to see that a transaction is left
                time.sleep(0.01)


def locks(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.scalar(
            text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
    engine.dispose()
    return int(found or 0)


def test_a_turn_that_lasts_keeps_no_rows_and_is_not_ended_for_its_silence(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_url(postgres_url).database
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        for setting in (
            "idle_in_transaction_session_timeout = '1h'",
            "default_transaction_isolation = 'serializable'",
        ):
            connection.execute(text(f'ALTER DATABASE "{name}" SET {setting}'))
    database, seen = Database(postgres_url), list[Connection]()
    apart = database.apart

    @contextmanager
    def watched() -> Iterator[Connection]:
        with apart() as found:
            seen.append(found)
            yield found

    monkeypatch.setattr(database, "apart", watched)
    monkeypatch.setattr(turns, "_GLANCE", 0.01)
    with ExitStack() as first, ExitStack() as second:  # who waited looked often
        first.enter_context(turns.turn(database, "the work"))
        end = threading.Timer(0.3, first.close)
        waited = turns.turn(database, "the work", waiting=end.start)
        second.enter_context(waited)
        connection = second.enter_context(engine.connect())
        held = connection.execute(
            text(
                "SELECT backend_xid, backend_xmin FROM pg_stat_activity JOIN pg_locks USING (pid) "
                "WHERE locktype = 'advisory' AND datname = current_database()"
            )
        ).all()
        assert held == [(None, None)]
        assert seen[1].scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"
    engine.dispose()
    database.close()
