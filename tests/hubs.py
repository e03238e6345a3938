"""A local Hub for a test, the client that speaks to it, and nothing that speaks to anybody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from registry import Registry
from registry.results import Publication
from registry.testing.hub import LOCAL_TOKEN, HubServer, User
from tests.adapters import make_lora

OWNER = "hf_ownerownerownerownerownerownerowner"
TOKENS = {
    OWNER: User("ann", organizations=("team",)),
    LOCAL_TOKEN: User("local", organizations=("team",)),
    "hf_readreadreadreadreadreadreadreadread": User("ann", role="read", organizations=("team",)),
}
READER = list(TOKENS)[2]
WRITES = ("POST", "PUT", "DELETE")


@contextmanager
def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, xet: bool = False, **options: Any
) -> Iterator[HubServer]:
    """A server, with the environment of this process pointing to it as a user's would."""
    isolate(tmp_path, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", not xet)
    with HubServer(tmp_path / "hub", xet=xet, tokens=TOKENS, **options) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", OWNER)
        yield server


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def only_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in {"127.0.0.1", b"127.0.0.1"}, f"a request leaves this machine: {host}"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr("registry._hub_patience.sleep", lambda _: None)
    monkeypatch.setattr("registry._hub_patience.rest", lambda _: None)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def api(server: HubServer) -> HfApi:
    """Somebody else, who may write to the same repos."""
    return HfApi(endpoint=server.url, token=OWNER)


def push(server: HubServer, repo: str, files: dict[str, bytes], revision: str | None = None) -> str:
    """Somebody's commit; returns its id."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    done = api(server).create_commit(repo, operations, commit_message="a change", revision=revision)
    return str(done.oid)


def writes(server: HubServer) -> list[str]:
    """The requests so far that could have changed something."""
    return [f"{each}" for each in server.requests if each.method in WRITES]


def stock(catalog: Registry, tmp_path: Path) -> Registry:
    """Two adapters and a composition of them, ``detox``."""
    for seed, name in enumerate(("alpaca", "toxic")):
        catalog.add(make_lora(tmp_path / name, seed=seed), name, base="tiny/base")
    catalog.compose("detox", "alpaca - 0.4*toxic")
    return catalog


def rows(catalog: Registry, state: str | None = None) -> list[Publication]:
    """What is recorded of publications, of all or of those in one state."""
    return [each for each in catalog.publications() if state in {None, each.state}]
