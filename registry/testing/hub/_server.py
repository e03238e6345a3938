"""The server: sockets on loopback, a thread, and the way of a request through it."""

import asyncio
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from registry.testing.hub import _files, _refs, _repos, _uploads
from registry.testing.hub._access import LOCAL_USERS, User
from registry.testing.hub._faults import Fault, Faults, Quota, Rates, Request, lost_answer
from registry.testing.hub._objects import Objects, Spool
from registry.testing.hub._routing import Call, Routes, Site
from registry.testing.hub._store import Commit, Entry, Store

_ROUTES = Routes(_repos.routes, _files.routes, _uploads.routes, _refs.routes)
_STORAGE = "/_storage/"
_START_LIMIT = 30.0


class HubServer:
    """A Hub on 127.0.0.1 that keeps its repositories under `root`.

    `xet=False` offers plain LFS only: a client that has `hf_xet` then needs `HF_HUB_DISABLE_XET=1`.
    `multipart_chunk` cuts LFS uploads above that many bytes into parts. `cdn=True` moves large files to a second
    port, another origin, where a request that carries a token is refused. `commit_quota` commits may be made to a
    repository in an hour (`quota_seconds`); more are answered 429, as the Hub does.

    Trouble comes as it is asked for: `fail`, `lose_answer` and `cut` hit the next requests of a kind, one after another,
    and `unreliable` hits any of them by chance:

        hub.fail("POST .*/commit/", status=429, headers={"Retry-After": "2"})
        hub.lose_answer("POST .*/commit/")
        hub.cut("PUT /_storage/", times=3)
        hub.unreliable(fail=0.1, lose=0.05, seed=7)

    `requests` records what arrived, `faults` counts what trouble it met.
    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: Mapping[str, User] | None = None,
        xet: bool = True,
        multipart_chunk: int | None = None,
        cdn: bool = False,
        port: int = 0,
        commit_quota: int | None = None,
        quota_seconds: float = 3600.0,
    ) -> None:
        root = Path(root).resolve()
        self.requests: list[Request] = []
        self._store = Store(root / "repos")
        self._objects = Objects(root)
        self._users = dict(LOCAL_USERS if tokens is None else tokens)
        self._xet = xet
        self._multipart_chunk = multipart_chunk
        self._cdn = cdn
        self._port = port
        self._faults = Faults()
        self._quota = Quota(commit_quota, quota_seconds)
        self._running: tuple[Site, uvicorn.Server, threading.Thread] | None = None

    @property
    def url(self) -> str:
        """The endpoint to give to clients, while the server runs."""
        return self._site.url

    def fail(
        self,
        pattern: str,
        *,
        status: int | None = 503,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        error: str | None = None,
        delay: float = 0.0,
    ) -> None:
        """Refuse the next `times` requests whose "METHOD /path" the regular expression is found in.

        `error` is the sentence of the refusal, `delay` the seconds before it; `status=None` delays only.
        """
        message = error or "injected failure"
        self._faults.add(Fault(re.compile(pattern), times, status, headers or {}, message, delay))

    def lose_answer(self, pattern: str, times: int = 1) -> None:
        """Do what the next matching requests ask, but answer 502 as if the answer had got lost."""
        self._faults.add(Fault(re.compile(pattern), times, lost=True))

    def cut(self, pattern: str, times: int = 1) -> None:
        """Close the connection of the next matching requests without an answer, and of uploads midway."""
        self._faults.add(Fault(re.compile(pattern), times, cut=True))

    def unreliable(
        self,
        *,
        fail: float = 0.0,
        lose: float = 0.0,
        slow: float = 0.0,
        delay: float = 0.1,
        retry_after: int = 1,
        seed: int = 0,
        pattern: str = "",
    ) -> None:
        """From now on, fail this share of the requests in which the regular expression is found, by chance.

        A failure is, in equal shares, a 503, a 500, a 429 that asks to wait `retry_after` seconds, or a connection that
        is cut. Of the writes, the share `lose` is done, and then answered 502 or cut. `slow` ones take `delay` seconds
        more. For the same `seed` and sequence of requests it is the same trouble; all rates 0 end it.
        """
        if min(fail, lose, slow) < 0 or fail + lose + slow > 1:
            raise ValueError("rates are from 0 to 1, also together")
        dice = random.Random(seed)  # noqa: S311  (chance, not secrecy)
        self._faults.rates = Rates(re.compile(pattern), fail, lose, slow, delay, retry_after, dice)

    @property
    def faults(self) -> Counter[str]:
        """How often requests met trouble, by what it was: "503", "cut", "lost" …"""
        return Counter(self._faults.met)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The content of every file of a repository."""
        return {path: self._read(entry) for path, entry in self._commits(repo, revision)[0].tree.items()}

    def commits(self, repo: str, revision: str = "main") -> list[Commit]:
        """The history of a repository, newest first."""
        return self._commits(repo, revision)

    def turn_to(self, root: Path) -> None:
        """Serve what is below another folder from now on, at the same address; nothing may be in progress."""
        root = Path(root).resolve()
        self._store, self._objects = Store(root / "repos"), Objects(root)
        if self._running is not None:
            site, server, thread = self._running
            self._running = replace(site, store=self._store, objects=self._objects), server, thread

    def start(self) -> None:
        """Listen and serve, in a thread of its own."""
        api = _listen(self._port)
        sockets = [api, _listen(0)] if self._cdn else [api]
        url, storage_url = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (sockets[0], sockets[-1]))
        site = Site(
            store=self._store,
            objects=self._objects,
            users=self._users,
            url=url,
            storage_url=storage_url,
            cdn=self._cdn,
            xet=self._xet,
            multipart_chunk=self._multipart_chunk,
        )
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            proxy_headers=False,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=(sockets,), name="local-hub", daemon=True)
        self._running = site, server, thread
        thread.start()
        _wait_until_started(server, thread)

    def stop(self) -> None:
        """Finish the requests in progress and close the port."""
        if self._running is not None:
            _, server, thread = self._running
            server.should_exit = True
            thread.join()
            self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _site(self) -> Site:
        if self._running is None:
            raise RuntimeError("the server is not running")
        return self._running[0]

    def _commits(self, repo: str, revision: str) -> list[Commit]:
        found = self._store.get(repo)
        history = [] if found is None else found.history(revision)
        if not history:
            raise KeyError(f"{repo}@{revision}")
        return history

    def _read(self, entry: Entry) -> bytes:
        path = self._objects.blob(entry.oid) if entry.sha256 is None else self._objects.large(entry.sha256)
        return path.read_bytes()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        request = Request(
            http.method, scope["raw_path"].decode("ascii"), "authorization" in http.headers, http.url.query
        )
        self.requests.append(request)
        fault = self._faults.take(request)
        spool: Spool | None = None
        try:
            # The body is read in any case: a refusal that cuts an upload short would not reach the client.
            if fault is not None and fault.cut and not fault.lost:
                await receive()  # the first piece of the body
                await _cut(receive)
                return
            if request.method == "PUT" and request.path.startswith(_STORAGE):
                spool = await self._spooled(http)
            body = b"" if spool else await http.body()
            response = await self._answer(request, http, body, spool, fault)
            if fault is not None and fault.cut:
                await _cut(receive)
                return
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            if spool is not None:
                spool.discard()

    async def _answer(
        self, request: Request, http: HttpRequest, body: bytes, spool: Spool | None, fault: Fault | None
    ) -> Response:
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if (refusal := fault.answer()) is not None:
                return refusal
        if (refusal := self._quota.refusal(request)) is not None:
            return refusal
        site = self._site
        if site.cdn and (refusal := _wrong_origin(site, request, http)) is not None:
            return refusal
        query = parse_qs(request.query, keep_blank_values=True)
        call = Call(site, request.method, request.path, query, http.headers, body, spool, {})
        response = await run_in_threadpool(_ROUTES.answer, call)
        return lost_answer() if fault is not None and fault.lost else response

    async def _spooled(self, http: HttpRequest) -> Spool:
        spool = await run_in_threadpool(self._objects.spool)
        try:
            async for chunk in http.stream():
                await run_in_threadpool(spool.write, chunk)
        except ClientDisconnect:
            spool.discard()
            raise
        await run_in_threadpool(spool.close)
        return spool


async def _cut(receive: Receive) -> None:
    """Close the connection at once."""
    connection: Any = receive  # a method of uvicorn's, which has no other door to the socket
    connection.__self__.transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _wrong_origin(site: Site, request: Request, http: HttpRequest) -> Response | None:
    """The storage keeps to itself, and refuses tokens as a store with signed addresses does."""
    at_storage = f"http://127.0.0.1:{http.scope['server'][1]}" == site.storage_url
    if at_storage and request.authorized:
        return JSONResponse({"error": "Only one authentication mechanism is allowed"}, 400)
    content = request.path.startswith((f"{_STORAGE}objects/", f"{_STORAGE}parts/"))
    if at_storage != content:
        return JSONResponse({"error": "Not found at this origin"}, 404)
    return None


def _listen(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off (40 ms an answer) only where the protocol is spelled out.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
