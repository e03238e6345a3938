"""Waiting for a Hub that is busy: as it says, up to a bound, and never for one that says no."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from registry import Registry, _hub_patience, hub
from registry._hub_errors import Busy, translate, translated, waiting
from registry.errors import HubUnavailable, NotFound, RegistryError
from registry.testing.hub import HubServer
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/adapter"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    told: list[float] = []
    monkeypatch.setattr(_hub_patience, "sleep", told.append)
    monkeypatch.setattr("random.uniform", lambda low, _: low)
    return told


def test_a_hub_that_stops_answering_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SILENCE", 0.05)
    monkeypatch.setattr(_hub_patience, "sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", hubs.OWNER)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        silent.listen(64)  # connections are made, and nobody reads from them
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        calls = [
            lambda: hub.head(REPO, "main"),
            lambda: hub.license_of(REPO, None),
            lambda: hub.create(REPO, private=True),
            lambda: hub.tags(REPO),
            lambda: hub.files(REPO, "main"),
            lambda: hub.pull_request(REPO, 1),
            lambda: hub.pull_requests(REPO, datetime.now(UTC)),
            lambda: hub.landed(REPO, "main", ["x"]),
            lambda: hub.validate_card("---\n---\n"),
        ]
        running = [pool.submit(call) for call in calls]
        done, left = wait(running, timeout=60)
        silent.close()  # which ends what still waits
    assert not left
    assert {type(each.exception()) for each in done} == {Busy}


def test_who_is_stopped_does_not_wait_to_the_end() -> None:
    stopped = threading.Event()
    threading.Timer(0.05, stopped.set).start()
    with _hub_patience.until(stopped):
        assert not _hub_patience.Patience().waits(Busy("busy", wait=20))
        assert not _hub_patience.Patience().waits(Busy("busy", wait=20))
        _hub_patience.gate.close(20)
        _hub_patience.gate.enter()
    _hub_patience.gate._opens = 0.0


def test_repos_are_made_one_at_a_time(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0
    real = HfApi.create_repo

    def create(self: HfApi, *args: Any, **options: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return real(self, *args, **options)
        finally:
            inside -= 1

    monkeypatch.setattr(HfApi, "create_repo", create)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: hub.create(f"team/r{number}", private=True), range(16)))
    assert most == 1
    assert len([each for each in server.requests if each.path == "/api/repos/create"]) == 16


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "9" * 400}, 999_999_999),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"ratelimit": '"api";r=0;t=55', "retry-after": "3"}, 55),
        ({"ratelimit": '"api";r=9;t=55'}, None),
        ({"ratelimit": "nonsense"}, None),
    ],
)
def test_the_hub_says_how_long(headers: dict[str, str], seconds: float | None) -> None:
    assert waiting(httpx2.Headers(headers)) == seconds


def test_a_date_is_a_time_to_wait_too() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = waiting(httpx2.Headers({"retry-after": until}))
    assert found is not None
    assert 50 < found <= 60


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_the_client_does_not_repeat_is_repeated(
    status: int, server: HubServer, waits: list[float]
) -> None:
    server.fail("POST /api/repos/create", status=status, times=2)
    hub.create(REPO, private=True)
    server.fail(f"GET /api/models/{REPO}/revision", status=status, times=2)
    head = hub.head(REPO, hub.MAIN)
    assert head is not None
    server.fail("POST .*/branch/", status=status, times=2)
    hub.create_branch(REPO, "next")
    server.fail("POST .*/tag/", status=status, times=2)
    hub.tag(REPO, "v1", head.commit)
    server.fail("GET .*/refs", status=status, times=2)
    assert hub.tags(REPO) == {"v1": head.commit}
    server.fail("POST /api/validate-yaml", status=status, times=2)
    hub.validate_card("---\ntags: []\n---\n")
    server.fail("DELETE /api/repos", status=status, times=2)
    hub.delete(REPO)
    assert waits == [1.0, 2.0] * 7
    with pytest.raises(NotFound):
        hub.head(REPO, hub.MAIN)


def test_it_waits_as_long_as_it_is_told(server: HubServer, waits: list[float]) -> None:
    hub.create(REPO, private=True)
    server.fail("GET /api/models", status=429, headers={"Retry-After": "120"})
    server.fail("GET /api/models", status=429, headers={"RateLimit": '"api";r=0;t=299'})
    server.fail("GET /api/models", status=503)
    assert hub.head(REPO, hub.MAIN) is not None
    assert waits == [121.0, 300.0, 4.0]


def test_it_does_not_wait_longer_than_that(server: HubServer, waits: list[float]) -> None:
    hub.create(REPO, private=True)
    server.fail("GET /api/models", status=429, headers={"Retry-After": "301"})
    with pytest.raises(HubUnavailable) as refusal:
        hub.head(REPO, hub.MAIN)
    assert refusal.value.hint == "the Hub is busy or down; try again in 301 s"
    assert waits == []
    server.fail("GET /api/models", status=429, headers={"Retry-After": "250"}, times=50)
    with pytest.raises(HubUnavailable):
        hub.head(REPO, hub.MAIN)
    assert waits == [251.0] * 3
    assert sum(waits) <= _hub_patience.LONGEST


def test_one_that_stays_down_is_given_up(server: HubServer, waits: list[float]) -> None:
    server.fail("GET /api/models", status=503, times=50)
    with pytest.raises(HubUnavailable):
        hub.head(REPO, hub.MAIN)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 422])
def test_a_refusal_is_final(status: int, server: HubServer, waits: list[float]) -> None:
    server.fail("GET /api/models", status=status)
    with pytest.raises(RegistryError):
        hub.head(REPO, hub.MAIN)
    assert waits == []


def test_one_that_cannot_be_reached_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float]
) -> None:
    hubs.isolate(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnavailable):
        hub.head(REPO, hub.MAIN)
    assert waits == []


@pytest.mark.parametrize(
    "met",
    [
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        ValueError("not json"),
        RuntimeError("Cannot send a request, as the client has been closed."),
    ],
)
def test_what_was_cut_off_is_worth_another_try(met: Exception) -> None:
    if isinstance(met, ValueError):
        with pytest.raises(ValueError, match="Expecting value") as raised:
            httpx2.Response(502, text="<html>").json()
        met = raised.value
    assert isinstance(translate(met, "push"), Busy)


def test_a_commit_waits_and_is_made_once(
    local: Registry, server: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hubs.stock(local, tmp_path)
    server.fail("POST .*/commit/main", status=429, headers={"Retry-After": "60"})
    server.lose_answer("POST .*/commit/main")
    done = local.publish("detox", REPO)
    assert (done.created, done.commit) == (True, server.commits(REPO)[0].oid)
    assert len(server.commits(REPO)) == 2
    assert waits == [61.0, 2.0]


def test_large_files_are_sent_once_before_the_commit(
    local: Registry, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(hub, "_LARGE", 1000)
    hubs.stock(local, tmp_path)
    told: list[int] = []
    server.fail("POST .*/commit/main", status=503, times=20)
    with pytest.raises(HubUnavailable):
        local.publish("detox", REPO, progress=lambda _, done, __: told.append(done))
    uploads = [each for each in hubs.writes(server) if each.startswith("PUT /_storage")]
    assert len(uploads) == 1
    assert len(set(told)) > 2
    server._faults._waiting.clear()
    assert local.publish("detox", REPO).created
    assert [each for each in hubs.writes(server) if each.startswith("PUT /_storage")] == uploads
    assert waits


def test_bars_stay_hidden_until_the_last_thread_is_out() -> None:
    assert not are_progress_bars_disabled()
    inside, leave = threading.Barrier(3), threading.Event()

    def short() -> None:
        with translated("look"):
            inside.wait()

    def long() -> bool:
        with translated("look"):
            inside.wait()
            leave.wait()
            return are_progress_bars_disabled()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(short), pool.submit(long)
        inside.wait()
        first.result()
        leave.set()
        assert second.result()
    assert not are_progress_bars_disabled()


def test_repos_are_published_to_from_many_threads_at_once(
    catalog: Registry, server: HubServer, tmp_path: Path
) -> None:
    hubs.stock(catalog, tmp_path)

    def bring(number: int) -> str | None:
        return catalog.publish("detox", f"team/r{number}", tag="v1").commit

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(bring, range(16)))
    assert done == [server.commits(f"team/r{number}")[0].oid for number in range(16)]
    assert {len(server.commits(f"team/r{number}")) for number in range(16)} == {2}
    assert {(each.state, each.tagged) for each in hubs.rows(catalog)} == {("done", True)}
    assert not are_progress_bars_disabled()
