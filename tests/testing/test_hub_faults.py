"""Trouble that the local Hub makes, on demand and by chance, as the real client meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, errors

from registry.testing.hub import LOCAL_TOKEN, HubServer

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/adapter"
WEIGHTS = bytes(range(256)) * (1 << 13)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub", xet=False) as server:
        yield server


def client(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=LOCAL_TOKEN)


def push(hub: HubServer, path: str, content: bytes) -> str:
    operations = [CommitOperationAdd(path, content)]
    return client(hub).create_commit(REPO, operations, commit_message="a change").oid


def test_a_connection_can_be_cut_instead_of_an_answer(hub: HubServer) -> None:
    client(hub).create_repo(REPO)
    hub.cut("POST .*/commit/")
    with pytest.raises(httpx2.TransportError):
        push(hub, "a.txt", b"a")
    assert len(hub.commits(REPO)) == 1
    push(hub, "a.txt", b"a")
    assert hub.faults == {"cut": 1}


def test_an_upload_survives_a_connection_that_is_cut_midway(hub: HubServer) -> None:
    client(hub).create_repo(REPO)
    hub.cut("PUT /_storage/", times=2)
    push(hub, "model.safetensors", WEIGHTS)
    assert hub.files(REPO)["model.safetensors"] == WEIGHTS
    assert hub.faults == {"cut": 2}


def test_trouble_by_chance_is_the_same_for_the_same_seed(hub: HubServer) -> None:
    def met(seed: int) -> list[int]:
        hub.unreliable(fail=0.3, slow=0.2, delay=0, seed=seed, pattern="whoami")
        statuses = []
        for _ in range(40):
            try:
                answer = httpx2.get(
                    f"{hub.url}/api/whoami-v2", headers={"Authorization": f"Bearer {LOCAL_TOKEN}"}
                )
                statuses.append(answer.status_code)
            except httpx2.TransportError:
                statuses.append(0)
        return statuses

    first = met(1)
    assert met(1) == first
    assert met(2) != first
    assert {0, 200, 429, 500, 503} == {*first, *met(2)}
    assert 0.1 < sum(status != 200 for status in first) / len(first) < 0.6
    hub.unreliable()
    assert httpx2.get(
        f"{hub.url}/api/whoami-v2", headers={"Authorization": f"Bearer {LOCAL_TOKEN}"}
    ).is_success


def test_other_requests_are_left_alone(hub: HubServer) -> None:
    hub.unreliable(fail=1, pattern="POST .*/commit/")
    client(hub).create_repo(REPO)
    with pytest.raises((errors.HfHubHTTPError, httpx2.TransportError)):
        push(hub, "a.txt", b"a")


def test_a_write_whose_answer_is_lost_is_done(hub: HubServer) -> None:
    client(hub).create_repo(REPO)
    hub.unreliable(lose=1, pattern="/commit/")
    for number in range(8):
        with pytest.raises((errors.HfHubHTTPError, httpx2.TransportError)):
            push(hub, f"{number}.txt", b"a")
    assert len(hub.commits(REPO)) == 9
    assert set(hub.faults) == {"lost", "cut after the work"}
    assert client(hub).repo_exists(REPO)  # a read loses nothing


def test_a_repository_takes_so_many_commits(tmp_path: Path) -> None:
    with HubServer(tmp_path / "small", xet=False, commit_quota=2) as hub:
        for repo in (REPO, "team/other"):
            client(hub).create_repo(repo)
        push(hub, "a.txt", b"a")
        push(hub, "b.txt", b"b")
        with pytest.raises(
            errors.HfHubHTTPError, match="exceeded our hourly quotas for action: commit"
        ) as caught:
            push(hub, "c.txt", b"c")
        assert caught.value.response.status_code == 429
        assert 3500 < int(caught.value.response.headers["Retry-After"]) <= 3600
        client(hub).create_commit(
            "team/other", [CommitOperationAdd("a.txt", b"a")], commit_message="a change"
        )


def test_rates_that_are_none(hub: HubServer) -> None:
    for rates in ({"fail": -0.1}, {"fail": 0.6, "lose": 0.6}):
        with pytest.raises(ValueError, match="rates are from 0 to 1"):
            hub.unreliable(**rates)  # type: ignore[arg-type]


def test_the_command_makes_trouble_too(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "registry.testing.hub",
        str(tmp_path),
        "--fail",
        "1",
        "--pattern",
        "whoami",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            found = dict(process.stdout.readline().strip().split("=", 1) for _ in range(2))
            api = HfApi(endpoint=found["HF_ENDPOINT"], token=found["HF_TOKEN"])
            with pytest.raises((errors.HfHubHTTPError, httpx2.TransportError)):
                api.whoami()
            api.create_repo(REPO)
        finally:
            process.terminate()
