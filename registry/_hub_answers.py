"""What any answer has to be before the Hub's client works with it: of a bounded size, and without names that leave a folder.

The client makes paths of what it is answered (an ETag is a file's name in its cache, a commit a folder's), follows pages
for as long as it is told of another, and holds whole answers in memory. Here is where that ends.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import huggingface_hub

from registry.errors import HubFailure

MOST_PAGES = 2_000
"""Pages of one listing. The Hub puts a thousand files on one."""
LONGEST_ANSWER = 64 << 20
"""Bytes of an answer that is held in memory."""
_LONGEST_REFUSAL = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r"(?!\.)[A-Za-z0-9._+=~@-]{1,200}")
_ERROR = 300
_REFUSAL = 400  # which names no file, and is marked by what it says
_NOT_A_HUB = "is HF_ENDPOINT a Hub?"


class _Here(threading.local):
    pages = 0


_here = _Here()


class _Downloads:
    """How long a file may be that is downloaded now, by any thread: as long as the longest one that was listed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: list[int] = []

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        with self._lock:
            self._sizes.append(size)
        try:
            yield
        finally:
            with self._lock:
                self._sizes.remove(size)

    @property
    def longest(self) -> int:
        with self._lock:
            return max(self._sizes, default=0)


downloads = _Downloads()


def begin() -> None:
    """Count pages anew: another call of the client begins in this thread."""
    _here.pages = 0


def ask(request: httpx2.Request, endpoint: str) -> None:
    """Ask for bytes as they are, whose number says how many there will be; our token is nobody's but the Hub's."""
    request.headers["accept-encoding"] = "identity"
    if request.url.host != httpx2.URL(endpoint).host and "authorization" in request.headers:
        token = huggingface_hub.get_token()
        if token is not None and token in request.headers["authorization"]:
            del request.headers["authorization"]


def check(response: httpx2.Response) -> None:
    """Raise ``HubFailure`` for an answer that no Hub gives, before any of it is used."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _unsound("it is compressed, which nobody asked for")
    method, path = response.request.method, response.request.url.path
    if method == "HEAD":
        if response.status_code < _REFUSAL:
            _check_file(response.headers)
        return
    api = path.startswith("/api/")
    if response.status_code >= _ERROR:
        longest = _LONGEST_REFUSAL
    else:  # other threads may hold answers in memory meanwhile
        longest = LONGEST_ANSWER if api else max(LONGEST_ANSWER, downloads.longest)
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Bounded(response.stream, longest)
    if api and method == "GET" and response.status_code < _ERROR:
        _check_pages(response)
        if "/tree/" in path:
            response.read()
            _check_tree(response.content)


class _Bounded(httpx2.SyncByteStream):
    """The bytes of an answer, as long as there are not too many."""

    def __init__(self, stream: httpx2.SyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._most:
                raise _unsound(f"it has more than {self._most} bytes")
            yield part

    def close(self) -> None:
        self._stream.close()


def _check_file(headers: httpx2.Headers) -> None:
    commit = headers.get("x-repo-commit")
    if commit is not None and _COMMIT.fullmatch(commit) is None:
        raise _unsound(f"{commit!r:.100} is no commit")
    etag = headers.get("x-linked-etag") or headers.get("etag")
    if etag is not None and _ETAG.fullmatch(etag.lstrip("W/").strip('"')) is None:
        raise _unsound(f"{etag!r:.100} does not identify a file")


def _check_pages(response: httpx2.Response) -> None:
    following = response.links.get("next", {}).get("url")
    if following is None:
        return
    _here.pages += 1
    if _here.pages > MOST_PAGES:
        raise _unsound(f"it goes on for more than {MOST_PAGES} pages")
    if response.request.url.join(following).host != response.request.url.host:
        raise _unsound("its next page is on another host")


def _check_tree(content: bytes) -> None:
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError):
        raise _unsound("it is no JSON") from None
    for each in listed if isinstance(listed, list) else [listed]:
        if not isinstance(each, dict) or not _is_path(each.get("path")):
            raise _unsound("it lists a file whose name no file in a repo has")
        lfs = each.get("lfs")
        sound = _is_size(each.get("size", 0)) and (lfs is None or _is_lfs(lfs))
        if not sound:
            raise _unsound(f"what it lists as {each['path']!r:.100} is no file")


def _is_path(path: Any) -> bool:
    return (
        isinstance(path, str)
        and 0 < len(path) <= 4096
        and "\x00" not in path
        and {"", ".", ".."}.isdisjoint(re.split(r"[/\\]", path))
    )


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size < 2**63


def _is_lfs(lfs: Any) -> bool:
    return (
        isinstance(lfs, dict)
        and isinstance(lfs.get("oid"), str)
        and _SHA256.fullmatch(lfs["oid"]) is not None
        and _is_size(lfs.get("size"))
    )


def commit(said: object) -> str:
    """A commit as the Hub names it. Raises ``HubFailure``."""
    if not isinstance(said, str) or _COMMIT.fullmatch(said) is None:
        raise _unsound(f"{said!r:.100} is no commit")
    return said


def _unsound(what: str) -> HubFailure:
    return HubFailure(f"the Hub's answer cannot be used: {what}", hint=_NOT_A_HUB)
