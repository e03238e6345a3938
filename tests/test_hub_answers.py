"""A Hub that means harm, or something that only answers like one: bounded, inside, and without our token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.utils._http import close_session, default_client_factory, set_client_factory

from registry import _hub_answers, errors, hub
from tests import hubs

REPO, COMMIT, TOKEN = "team/adapter", "a" * 40, hubs.OWNER
Answers = Callable[[httpx2.Request], httpx2.Response]


class Hub(httpx2.BaseTransport):
    """Answers what a test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self.answer: Answers = lambda _: httpx2.Response(404)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answer(request)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hubs.isolate(tmp_path, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = Hub()

    def made() -> httpx2.Client:
        client = default_client_factory()
        client.close()
        return httpx2.Client(
            transport=found, event_hooks=client.event_hooks, follow_redirects=True, timeout=None
        )

    close_session()
    set_client_factory(made)
    yield found
    set_client_factory(default_client_factory)
    close_session()


def repo(files: dict[str, Any], **headers: str) -> Answers:
    """A repo that lists these entries, whose files are two bytes long and come with these headers."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if "/revision/" in path:
            return httpx2.Response(200, json={"id": REPO, "sha": COMMIT, "siblings": []})
        if "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": 2, **more}
                for name, more in files.items()
            ]
            return httpx2.Response(200, json=listed)
        told = {"x-repo-commit": COMMIT, "etag": '"0"', "content-length": "2", **headers}
        return httpx2.Response(200, headers=told, content=b"" if request.method == "HEAD" else b"{}")

    return answer


ADAPTER: dict[str, Any] = {"adapter_config.json": {}, "adapter_model.safetensors": {}}
OUTSIDE = "../../../../../../outside"


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": f'"{OUTSIDE}"'}, {"x-linked-etag": OUTSIDE}, {"etag": 'W/"/tmp/outside"'}, {"etag": '".."'}, {"etag": '"a\\b"'},
        {"x-repo-commit": OUTSIDE}, {"x-repo-commit": "main"}, {"etag": '"' + "a" * 5000 + '"'},
    ],
)  # fmt: skip
def test_a_file_is_named_after_nothing_that_leaves_the_cache(
    there: Hub, headers: dict[str, str], tmp_path: Path
) -> None:
    model = {"config.json": {}, "model.safetensors": {"lfs": {"oid": "0" * 64, "size": 2, "pointerSize": 1}}}
    there.answer = repo(model, **headers)
    before = sorted(tmp_path.parent.iterdir())
    with pytest.raises(errors.HubFailure, match="the Hub's answer cannot be used"):
        hub.fetch_model(REPO, None)
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize(
    "listed",
    [
        {OUTSIDE: {}}, {"/etc/passwd": {}}, {"a/../b": {}}, {"a//b": {}}, {"a\\..\\b": {}}, {"a\x00b": {}}, {"": {}}, {"a" * 5000: {}},
        {"a": {"size": -1}}, {"a": {"size": "2"}}, {"a": {"size": 2**70}}, {"a": {"lfs": {"oid": OUTSIDE, "size": 2}}},
        {"a": {"lfs": {"oid": "0" * 64, "size": None}}}, {"a": {"path": 3}},
    ],
)  # fmt: skip
def test_a_listing_holds_paths_inside_and_sizes(there: Hub, listed: dict[str, Any]) -> None:
    there.answer = repo(listed)
    with pytest.raises(errors.HubFailure, match="the Hub's answer cannot be used"):
        hub.files(REPO, COMMIT)


@pytest.mark.parametrize("commit", [OUTSIDE, "main", "", None, 7, [], "A" * 40])
def test_a_commit_is_one(there: Hub, commit: Any) -> None:
    there.answer = lambda _: httpx2.Response(200, json={"id": REPO, "sha": commit})
    with pytest.raises(errors.HubFailure, match="is no commit"):
        hub.resolve(REPO, None)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"3",
        b"null",
        b'"x"',
        b"{}",
        b"[" * 5000,
        b'{"id": 3, "siblings": 4}',
        b'{"id": "a", "createdAt": {}}',
    ],
)
def test_what_the_client_does_not_expect_is_an_error_of_ours(there: Hub, body: bytes) -> None:
    there.answer = lambda _: httpx2.Response(200, content=body)
    for ask in (
        lambda: hub.head(REPO, "main"),
        lambda: hub.tags(REPO),
        lambda: hub.pull_request(REPO, 1),
        lambda: hub.license_of(REPO, None),
    ):
        with suppress(errors.RegistryError):
            ask()


def test_pages_end(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hub_answers, "MOST_PAGES", 5)
    there.answer = lambda request: httpx2.Response(
        200, json=[], headers={"link": f'<{request.url}>; rel="next"'}
    )
    with pytest.raises(errors.HubFailure, match="more than 5 pages"):
        hub.files(REPO, COMMIT)
    assert len(there.asked) == 6


def test_the_next_page_is_on_the_same_host(there: Hub) -> None:
    there.answer = lambda _: httpx2.Response(
        200, json=[], headers={"link": '<https://elsewhere.test/x>; rel="next"'}
    )
    with pytest.raises(errors.HubFailure, match="another host"):
        hub.files(REPO, COMMIT)
    assert {request.url.host for request in there.asked} == {"hub.test"}


def endless(piece: bytes, said: list[int]) -> Iterator[bytes]:
    while True:
        said.append(len(piece))
        yield piece


@pytest.mark.parametrize("ask", [lambda: hub.head(REPO, "main"), lambda: hub.read(REPO, COMMIT, "README.md")])
@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_without_an_end_is_given_up(
    there: Hub, ask: Callable[[], object], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hub_answers, "LONGEST_ANSWER", 1 << 16)
    monkeypatch.setattr(_hub_answers, "_LONGEST_REFUSAL", 1 << 16)
    sent: list[int] = []
    there.answer = lambda _: httpx2.Response(status, content=endless(b"x" * 1024, sent))
    with pytest.raises(errors.HubFailure, match="more than 65536 bytes"):
        ask()
    assert sum(sent) <= (1 << 16) + 1024


def test_a_file_is_no_longer_than_it_was_listed(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hub_answers, "LONGEST_ANSWER", 1 << 16)
    sent: list[int] = []
    sound = repo(ADAPTER)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and "/resolve/" in request.url.path:
            return httpx2.Response(200, content=endless(b"x" * 1024, sent))
        return sound(request)

    there.answer = answer
    with pytest.raises(errors.HubFailure, match="more than 65536 bytes"):
        hub.fetch_adapter(REPO, None)
    assert sum(sent) <= (1 << 16) + 1024


def test_a_large_file_is_fetched_by_itself(
    there: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is healed from where it was published: its length is what bounds it, not what is held in memory."""
    monkeypatch.setattr(_hub_answers, "LONGEST_ANSWER", 1 << 10)
    size = str(1 << 14)
    sound = repo({"file": {"size": 1 << 14}}, **{"content-length": size})

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and "/resolve/" in request.url.path:
            return httpx2.Response(200, content=b"x" * (1 << 14))
        return sound(request)

    there.answer = answer
    assert hub.fetch_file(REPO, COMMIT, "file", tmp_path / "out").stat().st_size == 1 << 14
    with pytest.raises(errors.NotFound, match="no other"):
        hub.fetch_file(REPO, COMMIT, "other", tmp_path / "out")


@pytest.mark.parametrize("status", [404, 500])
def test_the_mark_of_a_refusal_names_no_file(
    there: Hub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an error says is marked in base64, slashes and all: it is that error, and not an answer of no Hub."""
    monkeypatch.setattr(hub, "files", lambda *_: {"file": hub.RemoteFile(2, None, "0" * 40)})
    there.answer = lambda _: httpx2.Response(
        status, headers={"etag": 'W/"15-/6VXivhc2MKdLfIkLcUE47K6aH0"', "x-error-code": "EntryNotFound"}
    )
    with pytest.raises(errors.NotFound if status == 404 else errors.HubUnavailable):
        hub.fetch_file(REPO, COMMIT, "file", Path("nowhere"))


def test_the_client_that_comes_after_one_that_could_not_connect_is_watched_as_well(
    there: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)

    def answer(_: httpx2.Request) -> httpx2.Response:
        if len(there.asked) == 1:
            raise httpx2.ConnectError("not now")
        return httpx2.Response(200, json=[{"type": "file", "path": OUTSIDE, "oid": "0" * 40, "size": 2}])

    there.answer = answer
    with pytest.raises(errors.HubFailure, match="the Hub's answer cannot be used"):
        hub.files(REPO, COMMIT)
    assert len(there.asked) == 2


def test_a_compressed_answer_is_not_blown_up(there: Hub) -> None:
    there.answer = lambda _: httpx2.Response(200, headers={"content-encoding": "gzip"}, content=b"\x1f\x8b")
    with pytest.raises(errors.HubFailure, match="compressed"):
        hub.head(REPO, "main")
    assert there.asked[-1].headers["accept-encoding"] == "identity"


def test_the_token_goes_to_the_hub_alone(there: Hub) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "hub.test":
            return httpx2.Response(307, headers={"location": "https://elsewhere.test/x"})
        return httpx2.Response(200, content=b"{}")

    there.answer = answer
    hub.read(REPO, COMMIT, "README.md")
    assert [request.url.host for request in there.asked] == ["hub.test", "elsewhere.test"]
    assert TOKEN in there.asked[0].headers["authorization"]
    assert not any(TOKEN in value for value in there.asked[1].headers.values())
    # Also where the client itself would send it, as to the place that an upload is to be confirmed at.
    hub._session().post(
        "https://elsewhere.test/verify", headers={"authorization": f"Bearer {TOKEN}"}, json={}
    )
    assert "authorization" not in there.asked[-1].headers
    hub._session().put(
        "https://elsewhere.test/put", headers={"authorization": "Bearer of-the-storage"}, content=b""
    )
    assert there.asked[-1].headers["authorization"] == "Bearer of-the-storage"


@pytest.mark.parametrize(
    "config", [b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"[]", b'{"a": 1, "a": 2}', b"\xff"]
)
def test_a_config_of_the_hub_is_read_as_one_of_a_folder_is(there: Hub, config: bytes) -> None:
    sound = repo({"config.json": {}})
    there.answer = lambda request: (
        httpx2.Response(200, content=config) if "/resolve/" in request.url.path else sound(request)
    )
    with pytest.raises(errors.Refused, match=r"config\.json"):
        hub.model_config(REPO, None)
