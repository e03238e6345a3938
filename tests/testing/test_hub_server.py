"""The local Hub, seen from outside: everything goes through the real client."""

import hashlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, errors
from huggingface_hub.errors import HfHubHTTPError

from registry.testing.hub import LOCAL_TOKEN, HubServer, Request, User

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/adapter"
COMMIT = f"/api/models/{REPO}/commit/main"
WEIGHTS = random.Random(0).randbytes(3 << 20)  # noqa: S311 - any bytes that do not compress
CARD = b"---\nbase_model: org/base\nlibrary_name: peft\nlicense: mit\ntags: [lora]\n---\n# An adapter\n"
TOKENS = {
    LOCAL_TOKEN: User("ann", organizations=("team",)),
    "reader": User("ann", role="read", organizations=("team",)),
    "stranger": User("bob"),
}
MODES: dict[str, dict[str, Any]] = {
    "xet": {},
    "lfs": {"xet": False},
    "multipart": {"xet": False, "multipart_chunk": 1 << 20},
    "cdn": {"xet": False, "cdn": True},
}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the caches of this machine, and none reaches beyond it."""
    real = socket.getaddrinfo

    def only_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in {"127.0.0.1", b"127.0.0.1"}, f"a request leaves this machine: {host}"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path / "hub", xet=False, tokens=TOKENS) as server:
        yield server


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    api = client(hub)
    api.create_repo(REPO)
    return api


def client(hub: HubServer, token: str | bool = LOCAL_TOKEN) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def add(path: str, content: bytes = b"{}") -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def commit(api: HfApi, *operations: Any, **options: Any) -> huggingface_hub.CommitInfo:
    message = options.pop("message", "change")
    made: huggingface_hub.CommitInfo = api.create_commit(REPO, operations, commit_message=message, **options)
    return made


def post(hub: HubServer, path: str, content: Any) -> int:
    """Send what the client itself would refuse to send."""
    headers = {"Authorization": f"Bearer {LOCAL_TOKEN}"}
    lines = "\n".join(map(json.dumps, content)) if isinstance(content, list) else json.dumps(content)
    return int(huggingface_hub.get_session().post(hub.url + path, content=lines, headers=headers).status_code)


def status_of(call: Callable[[], Any]) -> int:
    with pytest.raises(HfHubHTTPError) as refusal:
        call()
    return refusal.value.response.status_code


@pytest.mark.parametrize("mode", MODES)
def test_what_goes_up_comes_down(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", mode != "xet")
    local = tmp_path / "adapter_model.safetensors"
    local.write_bytes(WEIGHTS)
    with HubServer(tmp_path / "a hub", **MODES[mode]) as hub:
        api = client(hub)
        api.create_repo(REPO, private=True)
        weights = CommitOperationAdd(local.name, local)
        made = commit(api, weights, add("adapter_config.json"), add("README.md", CARD))
        down = Path(api.hf_hub_download(REPO, local.name))
        assert down.read_bytes() == WEIGHTS
        folder = Path(api.snapshot_download(REPO, revision=made.oid))
        assert {path.name for path in folder.iterdir()} == {*hub.files(REPO)}
        assert hub.files(REPO)[local.name] == WEIGHTS
        checked = api.verify_repo_checksums(REPO, revision=made.oid)
        assert (checked.mismatches, checked.missing_paths) == ([], [])
        _check_route(mode, hub.requests)


def _check_route(mode: str, requests: list[Request]) -> None:
    paths = [str(request) for request in requests]
    assert any("xet-write-token" in path for path in paths) == (mode == "xet")
    assert any("info/lfs" in path for path in paths) == (mode != "xet")
    assert sum("/_storage/parts/" in path for path in paths) == (3 if mode == "multipart" else 0)
    stored = [request for request in requests if request.path.startswith("/_storage/")]
    assert any(request.method == "GET" for request in stored) == (mode == "cdn")
    assert not any(request.authorized for request in stored)


def test_a_large_file_is_known_by_its_sha256_and_never_sent_twice(hub: HubServer, api: HfApi) -> None:
    commit(api, add("a.safetensors", WEIGHTS))
    commit(api, add("b.safetensors", WEIGHTS), CommitOperationCopy("a.safetensors", "c.safetensors"))
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    siblings = api.model_info(REPO, files_metadata=True).siblings or []
    large = {each.rfilename: each.lfs.sha256 for each in siblings if each.lfs}
    assert large == dict.fromkeys(["a.safetensors", "b.safetensors", "c.safetensors"], digest)
    assert sum(request.method == "PUT" for request in hub.requests) == 1


def test_a_part_of_a_file_can_be_read(hub: HubServer, api: HfApi) -> None:
    commit(api, add("weights.bin", WEIGHTS), add("small.txt", b"0123456789"))
    files = huggingface_hub.HfFileSystem(endpoint=hub.url, token=LOCAL_TOKEN)
    assert files.read_bytes(f"{REPO}/weights.bin", start=1000, end=2000) == WEIGHTS[1000:2000]
    assert files.read_bytes(f"{REPO}/small.txt", start=3, end=5) == b"34"


@pytest.mark.usefixtures("api")
def test_damaged_content_is_refused(hub: HubServer) -> None:
    session = huggingface_hub.get_session()
    name = hashlib.sha256(b"right").hexdigest()
    assert session.put(f"{hub.url}/_storage/objects/{name}", content=b"wrong").status_code == 400
    assert session.put(f"{hub.url}/_storage/objects/..%2F..%2Fx", content=b"wrong").status_code == 422
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "lfsFile", "value": {"path": "x.bin", "algo": "sha256", "oid": name, "size": 5}},
    ]
    assert post(hub, COMMIT, lines) == 400


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", ".git/config", "a//b", "", "README.md/x"])
def test_unsafe_paths_are_refused(hub: HubServer, api: HfApi, path: str) -> None:
    commit(api, add("README.md", CARD))
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": path, "content": "e30=", "encoding": "base64"}},
    ]
    assert post(hub, COMMIT, lines) == 400


def test_a_commit_on_a_stale_parent_is_refused(hub: HubServer, api: HfApi) -> None:
    head = api.repo_info(REPO).sha
    commit(api, add("a"), parent_commit=head)
    assert status_of(lambda: commit(api, add("b"), parent_commit=head)) == 412
    assert "b" not in hub.files(REPO)


def test_of_racing_commits_exactly_one_wins(hub: HubServer, api: HfApi) -> None:
    head = api.repo_info(REPO).sha

    def race(number: int) -> int:
        try:
            commit(api, add(f"{number}"), parent_commit=head)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(race, range(8)))
    assert results == [200] + [412] * 7
    assert len(hub.commits(REPO)) == 2


def test_an_unchanged_file_makes_no_commit(api: HfApi) -> None:
    first = commit(api, add("a"), add("b.bin", WEIGHTS))
    assert commit(api, add("a"), add("b.bin", WEIGHTS)).oid == first.oid


def test_history_tree_and_references(hub: HubServer, api: HfApi) -> None:
    first = commit(api, add("a/b.json"), add("a/c/d.json", b"[]"), message="first")
    api.create_branch(REPO, branch="dev/x", revision=first.oid)
    api.create_tag(REPO, tag="v1", revision=first.oid)
    commit(
        api,
        CommitOperationDelete("a/c/"),
        add("e"),
        revision="dev/x",
        message="second",
        commit_description="why",
    )
    names = [each.path for each in api.list_repo_tree(REPO, recursive=True, expand=True, revision="v1")]
    assert names == [".gitattributes", "a", "a/b.json", "a/c", "a/c/d.json"]
    assert [each.path for each in api.list_repo_tree(REPO, "a", revision="dev/x")] == ["a/b.json"]
    assert [each.path for each in api.get_paths_info(REPO, ["e", "a", "no"], revision="dev/x")] == ["e", "a"]
    assert [each.title for each in api.list_repo_commits(REPO, revision="dev/x")] == [
        "second",
        "first",
        "initial commit",
    ]
    assert hub.commits(REPO, "dev/x")[0].message == "why"
    refs = api.list_repo_refs(REPO)
    assert {each.name for each in refs.branches} == {"main", "dev/x"}
    assert [(each.name, each.target_commit) for each in refs.tags] == [("v1", first.oid)]
    assert status_of(lambda: api.create_tag(REPO, tag="v1")) == 409
    assert status_of(lambda: api.create_branch(REPO, branch="dev/x")) == 409
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="dev/x")
    with pytest.raises(errors.RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1")
    assert status_of(lambda: api.delete_branch(REPO, branch="main")) == 403


def test_long_listings_come_in_pages(api: HfApi) -> None:
    commit(api, *(add(f"{number:04d}.json") for number in range(1500)))
    assert len(list(api.list_repo_tree(REPO, recursive=True))) == 1501


def test_a_model_is_found_by_what_its_card_says(hub: HubServer, api: HfApi) -> None:
    commit(api, add("README.md", CARD), add("adapter_config.json"))
    api.create_repo("ann/secret", private=True)
    found = [
        model.id for model in api.list_models(filter=["base_model:adapter:org/base", "lora", "license:mit"])
    ]
    assert found == [REPO]
    assert [model.id for model in api.list_models(search="ADAPT", author="team")] == [REPO]
    assert [model.id for model in api.list_models(pipeline_tag="text-generation")] == []
    assert [model.id for model in client(hub, token=False).list_models()] == [REPO]
    assert len(list(api.list_models())) == 2
    assert len(list(api.list_models(limit=1))) == 1
    info = api.model_info(REPO)
    assert (info.library_name, info.card_data and info.card_data.base_model) == ("peft", "org/base")
    # Only an explicit request shows the base models, as on the Hub.
    assert info.base_models is None
    assert api.model_info(REPO, expand=["baseModels"]).base_models is not None


@pytest.mark.parametrize(
    "front_matter",
    [
        "a: [",
        "- a list",
        "base_model: /data/models/base",
        "base_model: ./base",
        "base_model: ../out/base",
        "base_model: out/run/base",
        "base_model: [org/base, /data/base]",
        "base_model_relation: cousin",
        "license: 3",
        "license: my-own",
        "license: [mit, gpl-2.0-or-later]",
        "license: other\nlicense_name: [a]",
        "tags: [[lora]]",
        "language: zh-CN",
        "language: [en, English language]",
        "datasets: [/data/mine]",
        "widget: hello",
        "model-index: not correct",
        "model-index: [{results: []}]",
        "model-index: [{name: a}]",
        "model-index: [{name: a, results: [{task: {type: x}, metrics: [{type: acc, value: 1}]}]}]",
        "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d}}]}]",
        "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d}, metrics: [{type: acc, value: 1}]}]}]",
        "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d, config: 3}, metrics: [{type: acc, value: 1}]}]}]",
        "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d}, metrics: [{type: acc}]}]}]",
        "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d}, metrics: [{type: acc, value: .nan}]}]}]",
    ],
)
def test_a_bad_card_is_refused(hub: HubServer, api: HfApi, front_matter: str) -> None:
    card = f"---\n{front_matter}\n---\n# Card\n".encode()
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, add("README.md", card))
    # The commit itself checks too, for clients that do not ask first.
    hub.fail("POST /api/validate-yaml", status=200)
    assert status_of(lambda: commit(api, add("README.md", card))) == 400


@pytest.mark.parametrize(
    ("front_matter", "warned"),
    [
        ("license: mit\nlanguage: [en, pt-br, ewe]\ndatasets: [org/data, squad]", ""),
        ("license: other\nlicense_name: ours\nlicense_link: LICENSE", ""),
        ("license: other", "license_name"),
        ("pipeline_tag: text-generation", ""),
        ("pipeline_tag: mind-reading", "mind-reading"),
        (
            "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d, split: test}, metrics: [{type: acc, value: 0.5}, {type: text, value: good}]}]}]",
            "",
        ),
    ],
)
def test_a_good_card_is_taken_and_a_doubtful_one_with_a_warning(
    hub: HubServer, api: HfApi, front_matter: str, warned: str, recwarn: pytest.WarningsRecorder
) -> None:
    card = f"---\n{front_matter}\n---\n# Card\n"
    commit(api, add("README.md", card.encode()))
    assert hub.files(REPO)["README.md"] == card.encode()
    said = [str(each.message) for each in recwarn if "metadata" in str(each.message)]
    assert bool(said) == bool(warned)
    assert warned in "".join(said)


def test_who_may_do_what(hub: HubServer, api: HfApi) -> None:
    assert api.whoami()["orgs"][0]["name"] == "team"
    assert status_of(lambda: client(hub, "unknown").whoami()) == 401
    assert status_of(lambda: client(hub, token=False).create_repo("team/x")) == 401
    assert status_of(lambda: client(hub, "reader").create_repo("team/x")) == 403
    assert status_of(lambda: client(hub, "stranger").create_repo("team/x")) == 403
    assert status_of(lambda: commit(client(hub, "stranger"), add("x"))) == 403
    assert status_of(lambda: commit(client(hub, "reader"), add("x"))) == 403
    assert status_of(lambda: client(hub, "stranger").delete_repo(REPO)) == 403
    assert "x" not in hub.files(REPO)


def test_a_private_repository_is_hidden(hub: HubServer, api: HfApi) -> None:
    api.update_repo_settings(REPO, private=True)
    assert client(hub, "reader").repo_exists(REPO)
    for token in ("stranger", False):
        assert not client(hub, token).repo_exists(REPO)
        with pytest.raises(errors.RepositoryNotFoundError):
            client(hub, token).model_info(REPO)


def test_what_does_not_exist_has_its_own_error(hub: HubServer, api: HfApi) -> None:
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("team/none")
    with pytest.raises(errors.RepositoryNotFoundError):
        api.hf_hub_download("gpt2", "config.json")
    with pytest.raises(errors.RevisionNotFoundError):
        api.model_info(REPO, revision="none")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        api.hf_hub_download(REPO, "none")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        list(api.list_repo_tree(REPO, "none"))
    with pytest.raises(KeyError):
        hub.files("team/none")


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "a--b", "x.git", ""])
def test_a_repository_needs_a_plain_name(hub: HubServer, name: str) -> None:
    assert post(hub, "/api/repos/create", {"name": name, "organization": "team"}) == 400


def test_a_repository_is_created_once_and_deleted(api: HfApi) -> None:
    assert status_of(lambda: api.create_repo(REPO)) == 409
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)
    api.delete_repo(REPO, missing_ok=True)


def test_a_deleted_repository_is_gone_and_its_name_is_free(hub: HubServer, api: HfApi) -> None:
    commit(api, add("a"))
    api.create_tag(REPO, tag="v1")
    api.create_discussion(REPO, "A word")
    assert status_of(lambda: client(hub, "stranger").delete_repo(REPO)) == 403
    assert status_of(lambda: client(hub, "reader").delete_repo(REPO)) == 403
    api.delete_repo(REPO)
    assert status_of(lambda: api.delete_repo(REPO)) == 404
    api.create_repo(REPO)
    assert [each.title for each in api.list_repo_commits(REPO)] == ["initial commit"]
    assert (api.list_repo_refs(REPO).tags, list(api.get_repo_discussions(REPO))) == ([], [])


def test_a_repository_is_moved_with_all_it_has(hub: HubServer, api: HfApi) -> None:
    head = commit(api, add("a"), add("b.bin", WEIGHTS)).oid
    api.create_tag(REPO, tag="v1")
    api.create_repo("team/taken")
    assert status_of(lambda: api.move_repo(REPO, "team/taken")) == 409
    assert status_of(lambda: client(hub, "stranger").move_repo(REPO, "bob/mine")) == 403
    assert status_of(lambda: api.move_repo("team/none", "team/other")) == 404
    api.move_repo(REPO, "team/other")
    assert not api.repo_exists(REPO)
    assert api.model_info("team/other", revision="v1").sha == head
    assert hub.files("team/other")["b.bin"] == WEIGHTS


def test_a_squashed_branch_is_one_commit_and_tags_stay(hub: HubServer, api: HfApi) -> None:
    tagged = commit(api, add("a")).oid
    api.create_tag(REPO, tag="v1")
    commit(api, add("b"))
    files = hub.files(REPO)
    api.super_squash_history(REPO)
    assert len(api.list_repo_commits(REPO)) == 1
    assert hub.files(REPO) == files
    assert api.model_info(REPO, revision="v1").sha == tagged
    assert status_of(lambda: api.super_squash_history(REPO, branch="none")) == 404
    stale = api.create_commit
    assert status_of(lambda: stale(REPO, [add("c")], commit_message="c", parent_commit=tagged)) == 412


def test_tags_stay_where_they_are(hub: HubServer, api: HfApi) -> None:
    first = commit(api, add("a")).oid
    api.create_tag(REPO, tag="v1", revision=first, tag_message="The first")
    commit(api, add("b"))
    assert status_of(lambda: api.create_tag(REPO, tag="v1")) == 409
    api.create_tag(REPO, tag="v1", exist_ok=True)
    assert api.model_info(REPO, revision="v1").sha == first
    assert status_of(lambda: api.create_tag(REPO, tag="v2", revision="none")) == 404
    assert status_of(lambda: client(hub, "stranger").create_tag(REPO, tag="v2")) == 403
    api.delete_tag(REPO, tag="v1")
    assert status_of(lambda: api.delete_tag(REPO, tag="v1")) == 404


def test_a_pull_request_is_listed_renamed_closed_and_opened_again(hub: HubServer, api: HfApi) -> None:
    guest = client(hub, "stranger")
    head = commit(api, add("a")).oid
    opened = guest.create_commit(REPO, [add("b")], commit_message="Add b", create_pr=True, parent_commit=head)
    number = opened.pr_num
    assert number == 1
    assert status_of(lambda: client(hub, "reader").rename_discussion(REPO, number, "Other")) == 403
    guest.rename_discussion(REPO, number, "Add b, please")

    def listed(status: Literal["open", "closed"]) -> list[tuple[int, str]]:
        found = api.get_repo_discussions(
            REPO, author="bob", discussion_type="pull_request", discussion_status=status
        )
        return [(each.num, each.title) for each in found]

    assert listed("open") == [(1, "Add b, please")]
    api.change_discussion_status(REPO, number, "closed")
    assert (listed("open"), listed("closed")) == ([], [(1, "Add b, please")])
    assert status_of(lambda: api.merge_pull_request(REPO, number)) == 400
    api.change_discussion_status(REPO, number, "open")
    assert [each.title for each in api.list_repo_commits(REPO, revision="refs/pr/1")][:2] == [
        "Add b",
        "change",
    ]
    api.merge_pull_request(REPO, number)
    assert status_of(lambda: api.merge_pull_request(REPO, number)) == 400
    assert status_of(lambda: api.get_discussion_details(REPO, 9)) == 404


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_a_file_of_any_size_goes_up_in_parts(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    content = (WEIGHTS + WEIGHTS)[:size]
    with HubServer(tmp_path / "hub", xet=False, multipart_chunk=2**20) as server:
        api = client(server)
        api.create_repo(REPO)
        server.fail("PUT /_storage/parts/[^/]+/2")  # the client sends that part again
        commit(api, add("a.safetensors", content))
        assert server.files(REPO)["a.safetensors"] == content
        parts = {str(each) for each in server.requests if "/parts/" in each.path}
    assert len(parts) == (0 if size <= 2**20 else -(-size // 2**20))


def test_a_pull_request_of_a_stranger_is_merged(hub: HubServer, api: HfApi) -> None:
    guest = client(hub, "stranger")
    opened = commit(guest, add("a.bin", WEIGHTS), message="Add a", create_pr=True)
    assert opened.pr_revision == "refs/pr/1"
    commit(guest, add("b"), revision="refs/pr/1")
    commit(api, add("c"))
    assert "a.bin" not in hub.files(REPO)
    api.comment_discussion(REPO, 1, "Thanks")
    assert status_of(lambda: guest.merge_pull_request(REPO, 1)) == 403
    api.merge_pull_request(REPO, 1)
    assert {"a.bin", "b", "c"} < {*hub.files(REPO)}
    details = api.get_discussion_details(REPO, 1)
    assert (details.status, details.merge_commit_oid) == ("merged", hub.commits(REPO)[0].oid)
    assert [each.num for each in api.get_repo_discussions(REPO)] == [1]
    assert api.list_repo_refs(REPO, include_pull_requests=True).pull_requests


def test_a_conflicting_pull_request_is_not_merged(hub: HubServer, api: HfApi) -> None:
    opened = api.create_pull_request(REPO, "Change a")
    commit(api, add("a", b"theirs"), revision=opened.git_reference)
    commit(api, add("a", b"ours"))
    api.change_discussion_status(REPO, opened.num, "open")
    assert api.get_discussion_details(REPO, opened.num).conflicting_files == ["a"]
    assert status_of(lambda: api.merge_pull_request(REPO, opened.num)) == 409
    assert hub.files(REPO)["a"] == b"ours"


def test_trouble_on_demand(hub: HubServer, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", slept.append)
    hub.fail("POST .*/preupload/", status=429, times=2, headers={"RateLimit": '"api";r=0;t=7'})
    commit(api, add("a"))
    assert slept == [8.0, 8.0]
    hub.fail("POST .*/commit/", error="the storage is full", delay=0.01)
    with pytest.raises(HfHubHTTPError, match="the storage is full"):
        commit(api, add("b"))
    assert "b" not in hub.files(REPO)


def test_an_upload_survives_a_failing_storage(
    hub: HubServer, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.fail("PUT /_storage/", times=2)
    commit(api, add("a.bin", WEIGHTS))
    assert hub.files(REPO)["a.bin"] == WEIGHTS


def test_an_answer_can_get_lost_after_the_work_is_done(hub: HubServer, api: HfApi) -> None:
    hub.lose_answer("POST .*/commit/")
    assert status_of(lambda: commit(api, add("a"))) == 502
    assert "a" in hub.files(REPO)
    commit(api, add("b"))


@pytest.mark.parametrize("mode", ["xet", "lfs"])
def test_a_restarted_server_has_everything(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", mode != "xet")
    with HubServer(tmp_path / "hub", **MODES[mode]) as hub:
        api = client(hub)
        api.create_repo(REPO, private=True)
        commit(api, add("a.bin", WEIGHTS), add("b"))
        api.create_tag(REPO, tag="v1")
        commit(api, add("c"), create_pr=True)
        before = hub.files(REPO), hub.commits(REPO), api.list_repo_refs(REPO, include_pull_requests=True)
    with HubServer(tmp_path / "hub", **MODES[mode]) as hub:
        api = client(hub)
        refs = api.list_repo_refs(REPO, include_pull_requests=True)
        assert (hub.files(REPO), hub.commits(REPO), refs) == before
        assert Path(api.hf_hub_download(REPO, "a.bin")).read_bytes() == WEIGHTS
        assert api.get_discussion_details(REPO, 1).status == "open"
        api.delete_repo(REPO)


def test_a_client_that_was_killed_leaves_no_store_that_nobody_can_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    index = tmp_path / "hub" / "xet" / "xet" / "xorbs" / "global_dedup_lookup.redb"
    index.parent.mkdir(parents=True)
    index.write_bytes(bytes(1 << 20))  # as it is before it is made
    with HubServer(tmp_path / "hub", tokens=TOKENS) as server:
        api = HfApi(endpoint=server.url, token=LOCAL_TOKEN)
        api.create_repo(REPO)
        operations = [CommitOperationAdd("adapter_model.safetensors", WEIGHTS)]
        api.create_commit(REPO, operations, commit_message="Add it")
        assert server.files(REPO)["adapter_model.safetensors"] == WEIGHTS


def test_the_store_is_made_before_any_client_can_write_to_it(tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub", tokens=TOKENS) as server:
        HfApi(endpoint=server.url, token=LOCAL_TOKEN).create_repo(REPO)
        url = f"{server.url}/api/models/{REPO}/xet-write-token/main"
        answer = httpx2.get(url, headers={"Authorization": f"Bearer {LOCAL_TOKEN}"})
        assert answer.status_code == 200
        index = tmp_path / "hub" / "xet" / "xet" / "xorbs" / "global_dedup_lookup.redb"
        assert index.read_bytes().startswith(b"redb")
