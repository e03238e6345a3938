"""A Hub that answers as one did once, but for one answer, through the real client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.utils._http import close_session, default_client_factory, set_client_factory

from registry import hub
from registry.errors import RegistryError
from registry.publishers import hub as publisher
from registry.verbs import watch as _watch  # noqa: F401 (imported before memory is bounded)
from tests import hubs
from tests.adapters import make_lora
from tests.reliability.fuzz.target import Target

ADAPTER, MODEL, NEW = "team/adapter", "team/model", "team/new"
_HEADERS = {
    "x-repo-commit",
    "etag",
    "x-linked-etag",
    "x-linked-size",
    "location",
    "content-length",
    "link",
    "x-error-code",
    "retry-after",
}
_MOST = 400  # requests of one case: whoever asks more often goes round in circles


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Endless(BaseException):
    """A case asks on and on."""


class _Transport(httpx2.BaseTransport):
    """Asks a real server and keeps what it answered, or answers that again."""

    def __init__(self, real: httpx2.HTTPTransport | None) -> None:
        self._real = real
        self.heard: dict[tuple[str, str], Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.changed: dict[tuple[str, str], Answer] = {}

    def close(self) -> None:
        if self._real is not None:
            self._real.close()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        key = (request.method, request.url.raw_path.decode())
        self.asked.append(key)
        if self._real is not None:
            response = self._real.handle_request(request)
            self.heard[key] = Answer(response.status_code, dict(response.headers), response.read())
        elif len(self.asked) > _MOST:
            raise _Endless(f"more than {_MOST} requests, the last of them {key}")
        answer = (
            self.changed.get(key)
            or self.heard.get(key)
            or Answer(404, {"x-error-code": "EntryNotFound"}, b"")
        )
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body, request=request)


def _calls(folder: Path) -> list[Callable[[], object]]:
    """What is asked of a Hub, each for itself."""

    def fetched() -> object:
        found = hub.fetch_adapter(ADAPTER, None)
        return (found.folder / "adapter_config.json").read_bytes()

    def model() -> object:
        shutil.rmtree(folder / "into", ignore_errors=True)
        return hub.fetch_model(MODEL, None, folder / "into")

    def cached() -> object:
        shutil.rmtree(folder / "hf", ignore_errors=True)
        return hub.fetch_model(MODEL, None)

    return [
        lambda: hub.head(ADAPTER, "main"),
        lambda: hub.files(ADAPTER, "main"),
        lambda: hub.read(ADAPTER, hub.resolve(ADAPTER, None), "README.md"),
        lambda: hub.tags(ADAPTER),
        lambda: hub.license_of(ADAPTER, None),
        lambda: hub.landed(ADAPTER, "main", ["publish-id: 1"]),
        lambda: hub.pull_requests(ADAPTER, datetime(2020, 1, 1, tzinfo=UTC)),
        lambda: hub.pull_request(ADAPTER, 1),
        fetched,
        model,
        cached,
        lambda: hub.describe_model(MODEL, None),
        lambda: hub.model_config(MODEL, None),
        lambda: publisher.look(publisher.Place(ADAPTER)),
        lambda: hub.validate_card("---\nlicense: mit\n---\n"),
    ]


def _stock(server: Any, folder: Path) -> None:
    lora = make_lora(folder / "shelf", modules={"h.0.q": (6, 4)}, r=2)
    api = hubs.api(server)
    for repo in (ADAPTER, MODEL):
        api.create_repo(repo)
    files = {path.name: path.read_bytes() for path in lora.iterdir()}
    hubs.push(
        server, ADAPTER, {**files, "README.md": b"---\nlicense: mit\n---\nhello\n", "provenance.json": b"{}"}
    )
    weights = files["adapter_model.safetensors"]
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = dict.fromkeys(index["weight_map"].values(), weights)
    named = {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    hubs.push(server, MODEL, {**shards, **named, "tokenizer.json": b"{}", "sub/config.json": b"{}"})
    api.create_tag(ADAPTER, tag="v1")
    api.create_pull_request(ADAPTER, title="a change")


@contextmanager
def client(folder: Path) -> Iterator[Target]:
    """All calls of the Hub, with one answer changed."""
    with pytest.MonkeyPatch.context() as patch:
        recorded = _Transport(httpx2.HTTPTransport())
        with hubs.running(folder, patch) as server:
            _stock(server, folder)
            _use(recorded)
            seeds = [each for call, ask in enumerate(_calls(folder)) for each in _said(recorded, call, ask)]
        replayed = _Transport(None)
        replayed.heard = recorded.heard
        _use(replayed)
        calls = _calls(folder)

        def run(case: bytes) -> None:
            match json.loads(case):
                case {"at": str(at), "status": int(status), "headers": dict(headers), "body": body}:
                    pass
                case _:
                    return
            number, _, of = at.partition(" ")
            method, _, path = of.partition(" ")
            if (
                not number.isdecimal()
                or len(number) > 2
                or int(number) >= len(calls)
                or not 200 <= status < 600
            ):
                return
            told = {
                key: "".join(c for c in str(value) if c.isprintable())
                .encode("latin-1", "ignore")
                .decode("latin-1")
                for key, value in headers.items()
                if key.isascii() and key.isprintable() and key and " " not in key and ":" not in key
            }
            content = (
                body.encode("latin-1", "replace")
                if isinstance(body, str)
                else json.dumps(body).encode("utf-8", "surrogatepass")
            )
            told = {
                key: "".join(c for c in str(value) if c.isprintable())
                .encode("latin-1", "ignore")
                .decode("latin-1")
                for key, value in headers.items()
                if key.isascii() and key.isprintable() and key and " " not in key and ":" not in key
            }
            # How long it is, is told truly: whatever lies about that is no HTTP.
            told.pop("transfer-encoding", None)
            if method != "HEAD":
                told.pop("content-length", None)
            replayed.asked.clear()
            replayed.changed = {(method, path): Answer(status, told, content)}
            calls[int(number)]()

        try:
            yield Target(tuple(seeds), run, "only")
        finally:
            set_client_factory(default_client_factory)
            close_session()


def _use(transport: httpx2.BaseTransport) -> None:
    def factory() -> httpx2.Client:
        made = default_client_factory()
        made._transport = transport
        made._mounts = {}
        return made

    close_session()
    set_client_factory(factory)


def _said(transport: _Transport, number: int, call: Callable[[], object]) -> Iterator[bytes]:
    """A call's answers, each as a seed."""
    transport.asked.clear()
    try:
        call()
    except RegistryError as error:
        raise AssertionError(f"call {number} of the Hub: {error}") from error
    for key in dict.fromkeys(transport.asked):
        answer = transport.heard[key]
        body: Any = answer.body.decode("latin-1")
        if key[1].startswith("/api/") and answer.body[:1] in {b"{", b"["}:
            body = json.loads(answer.body)
        headers = {name: value for name, value in answer.headers.items() if name in _HEADERS}
        said = {"at": f"{number} {' '.join(key)}", "status": answer.status, "headers": headers, "body": body}
        yield json.dumps(said).encode()
