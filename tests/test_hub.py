"""The way to the Hub: reading, writing, fetching, and every error as one of ours."""

from __future__ import annotations

import gc
import hashlib
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors as client_errors

from registry import errors, hub
from registry._hub_errors import clean, translate, translated
from registry.hub import Delete, Put
from registry.testing.hub import HubServer
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/adapter"
CONFIG, TENSORS = b'{"peft_type": "LORA"}', b"\0" * 1000
ADAPTER = {"adapter_config.json": CONFIG, "adapter_model.safetensors": TENSORS}
MODEL = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": 1}',
    "LICENSE": b"yours",
    "1_Pooling/config.json": b"{}",
    "model-00001-of-00002.safetensors": b"\0one",
    "model-00002-of-00002.safetensors": b"\0two",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
}
REST = {
    "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": b"\0pickle",
    "consolidated.safetensors": b"\0other",
    "onnx/model.onnx": b"\0onnx",
    "a/b/config.json": b"{}",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as running:
        yield running


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def put(path: str, content: bytes) -> Put:
    return Put(path, content, digest(content))


def stock(server: HubServer, repo: str, files: dict[str, bytes]) -> str:
    hubs.api(server).create_repo(repo, exist_ok=True)
    return hubs.push(server, repo, files)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def commit(revision: str, operations: list[Put | Delete], *, parent: str, description: str = "") -> str:
    upload = hub.Upload(REPO, revision, operations, propose=False)
    return upload.commit(parent=parent, message="m", description=description).commit


def served(server: HubServer) -> list[str]:
    return [str(each) for each in server.requests]


def test_a_repo_is_made_filled_and_read(server: HubServer) -> None:
    hub.create(REPO, private=True)
    start = hub.head(REPO, hub.MAIN)
    assert start is not None
    assert start.private
    operations: list[Put | Delete] = [put("a.json", b"{}"), put("b.bin", b"\0b")]
    first = commit(hub.MAIN, operations, parent=start.commit, description="mark: 17")
    found = hub.files(REPO, first)
    assert found["a.json"].sha256 is None
    assert found["a.json"].git_oid == hashlib.sha1(b"blob 2\0{}").hexdigest()  # noqa: S324 - git's own
    assert (found["b.bin"].size, found["b.bin"].sha256) == (2, digest(b"\0b"))
    assert hub.read(REPO, first, "a.json") == b"{}"
    assert hub.landed(REPO, hub.MAIN, ["mark: 17", "mark: 18"]) == {"mark: 17": first}
    hub.create_branch(REPO, "next")
    done = commit("next", [Delete("a.json")], parent=first)
    assert "a.json" not in server.files(REPO, "next")
    assert hub.head(REPO, "next") == hub.Head(done, private=True)
    assert hub.head(REPO, "none") is None


def test_a_commit_on_an_old_parent_is_a_conflict(server: HubServer) -> None:
    old = stock(server, REPO, {"a": b"1"})
    hubs.push(server, REPO, {"a": b"2"})
    with pytest.raises(errors.Conflict, match="412"):
        commit(hub.MAIN, [put("b", b"3")], parent=old)


def test_bytes_that_changed_since_they_were_described_are_not_sent(server: HubServer) -> None:
    head = stock(server, REPO, {"a": b"1"})
    wrong = Put("b", b"now", digest(b"then"))
    with pytest.raises(errors.IntegrityFailure):
        commit(hub.MAIN, [wrong], parent=head)
    assert "b" not in server.files(REPO)


def test_a_bad_card_is_refused_in_one_line(server: HubServer) -> None:
    head = stock(server, REPO, {"a": b"1"})
    card = put("README.md", b"---\nbase_model: /data/llama\n---\n")
    with pytest.raises(errors.Refused, match="the Hub refuses the model card") as refusal:
        commit(hub.MAIN, [card], parent=head)
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_an_adapter_is_fetched_at_a_commit_with_nothing_else(
    xet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch, xet=xet) as server:
        first = stock(server, REPO, {**ADAPTER, "optimizer.pt": b"\0huge", "README.md": REST["README.md"]})
        hubs.push(server, REPO, {"adapter_config.json": b'{"peft_type": "IA3"}'})
        fetched = hub.fetch_adapter(REPO, first)
        folder = fetched.folder
        assert fetched.commit == first
        assert {name: (folder / name).read_bytes() for name in ADAPTER} == ADAPTER
        assert not any((folder / name).is_symlink() for name in ADAPTER)
        assert not any("optimizer" in each for each in served(server) if "/resolve/" in each)
        latest = hub.fetch_adapter(REPO, None)
        assert latest.commit == server.commits(REPO)[0].oid
        del fetched
        gc.collect()
        assert not folder.exists()


def test_what_is_no_adapter_is_refused(server: HubServer) -> None:
    stock(server, REPO, {"config.json": b"{}"})
    with pytest.raises(errors.Refused, match=r"has no adapter_config\.json"):
        hub.fetch_adapter(REPO, None)
    hubs.push(server, REPO, {"adapter_config.json": CONFIG, "adapter_model.bin": b"\0"})
    with pytest.raises(errors.Refused, match="only a pickle"):
        hub.fetch_adapter(REPO, None)
    hubs.push(server, REPO, {"adapter_config.json": b" " * (2 << 20), "adapter_model.safetensors": b"\0"})
    with pytest.raises(errors.Refused, match="more than"):
        hub.fetch_adapter(REPO, None)
    assert not any("/resolve/" in each for each in served(server))


def test_a_file_that_arrives_damaged_is_refused(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(server, REPO, ADAPTER)
    stored = tmp_path / "hub"
    for path in [each for each in stored.rglob("*") if each.is_file() and each.read_bytes() == TENSORS]:
        path.chmod(0o600)
        path.write_bytes(b"\1" * len(TENSORS))
    with pytest.raises(errors.IntegrityFailure, match="arrived damaged"):
        hub.fetch_adapter(REPO, None)
    del monkeypatch


@pytest.mark.parametrize(("repo", "revision"), [("team/none", None), (REPO, "none"), (REPO, "f" * 40)])
def test_what_is_not_there_is_not_found(repo: str, revision: str | None, server: HubServer) -> None:
    stock(server, REPO, ADAPTER)
    for fetch in (hub.fetch_adapter, hub.fetch_model):
        with pytest.raises(errors.NotFound):
            fetch(repo, revision)


def test_a_model_comes_with_what_it_needs_and_nothing_else(server: HubServer, tmp_path: Path) -> None:
    commit = stock(server, "team/base", {**MODEL, **REST})
    folder, found = hub.fetch_model("team/base", None)
    assert found == commit
    assert names(folder) == set(MODEL)
    assert {name: (folder / name).read_bytes() for name in MODEL} == MODEL
    copy, _ = hub.fetch_model("team/base", commit, tmp_path / "copy")
    assert copy == tmp_path / "copy"
    assert names(copy) == set(MODEL)
    assert not any((copy / name).is_symlink() for name in MODEL)


def test_a_single_file_goes_before_shards(server: HubServer) -> None:
    stock(server, "team/base", {**MODEL, "model.safetensors": b"\0all"})
    folder, _ = hub.fetch_model("team/base", None)
    assert names(folder) == {*MODEL, "model.safetensors"} - {each for each in MODEL if "model" in each}


def test_what_was_fetched_at_a_commit_needs_no_hub(server: HubServer) -> None:
    commit = stock(server, "team/base", {**MODEL, **REST})
    folder, _ = hub.fetch_model("team/base", commit)
    before = len(server.requests)
    assert hub.fetch_model("team/base", commit) == (folder, commit)
    assert len(server.requests) == before
    (folder / "tokenizer.json").unlink()
    hub.fetch_model("team/base", commit)
    assert names(folder) == set(MODEL)


def test_a_model_in_the_cache_does_where_the_hub_is_out_of_reach(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = stock(server, "team/base", MODEL)
    cache = hub._cache()
    for name in MODEL:
        hubs.api(server).hf_hub_download("team/base", name, cache_dir=cache)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder, found = hub.fetch_model("team/base", None)
    assert (found, names(folder)) == (commit, set(MODEL))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(errors.HubUnavailable):
        hub.fetch_model("team/base", None)


@pytest.mark.parametrize(
    "index",
    [b"{", b"[]", b'{"weight_map": []}', b'{"weight_map": {"a": "../x.safetensors"}}', b'{"weight_map": {"a": 3}}',
     b'{"weight_map": {"a": "none.safetensors"}}', b'{"weight_map": {"a": []}}', b'{"weight_map": {"a": "pytorch_model.bin"}}'],
)  # fmt: skip
def test_a_hostile_index_is_refused(index: bytes, server: HubServer) -> None:
    stock(server, "team/base", {**MODEL, **REST, "model.safetensors.index.json": index})
    with pytest.raises(errors.Refused, match=r"model\.safetensors\.index\.json"):
        hub.fetch_model("team/base", None)


def test_a_model_in_pickles_is_refused(server: HubServer) -> None:
    stock(server, "team/base", {"config.json": b"{}", "pytorch_model.bin": b"\0"})
    with pytest.raises(errors.Refused, match="neither"):
        hub.fetch_model("team/base", None)


def test_a_damaged_model_file_does_not_stay_in_the_cache(server: HubServer, tmp_path: Path) -> None:
    stock(server, "team/base", MODEL)
    shard = MODEL["model-00002-of-00002.safetensors"]
    stored = [each for each in (tmp_path / "hub").rglob("*") if each.is_file() and each.read_bytes() == shard]
    for path in stored:
        path.chmod(0o600)
        path.write_bytes(b"\0TWO")
    with pytest.raises(errors.IntegrityFailure, match="00002"):
        hub.fetch_model("team/base", None)
    for path in stored:
        path.write_bytes(shard)
    folder, _ = hub.fetch_model("team/base", None)
    assert (folder / "model-00002-of-00002.safetensors").read_bytes() == shard


def test_no_request_of_a_fetch_carries_the_token_to_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch, cdn=True) as server:
        stock(server, REPO, ADAPTER)
        hub.fetch_adapter(REPO, None)
        stored = [each for each in server.requests if each.path.startswith("/_storage/")]
        assert stored
        assert not any(each.authorized for each in stored)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Refused), (401, errors.HubUnauthorized), (403, errors.HubUnauthorized), (404, errors.NotFound),
        (409, errors.Conflict), (412, errors.Conflict), (418, errors.HubFailure), (429, errors.HubUnavailable),
        (500, errors.HubUnavailable), (503, errors.HubUnavailable), (504, errors.HubUnavailable),
    ],
)  # fmt: skip
def test_an_answer_of_the_hub_becomes_our_error(
    status: int, kind: type[errors.RegistryError], server: HubServer
) -> None:
    server.fail("GET /api/models", status=status, times=10, error="no\nway")
    with pytest.raises(kind, match=f"cannot read team/adapter: the Hub answered {status}, no way") as refusal:
        hub.head(REPO, hub.MAIN)
    assert refusal.value.code == kind.code


def test_a_private_repo_without_a_token_asks_for_one(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.api(server).create_repo(REPO, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(errors.HubUnauthorized) as refusal:
        hub.fetch_adapter(REPO, None)
    assert "hf auth login" in str(refusal.value.hint)
    with pytest.raises(errors.HubUnauthorized, match="no token"):
        hub.require_token()


def test_a_token_of_the_login_is_found(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf").mkdir(exist_ok=True)
    (tmp_path / "hf" / "token").write_text(hubs.OWNER)
    hub.require_token()
    hub.create(REPO, private=True)
    assert server.commits(REPO)


@pytest.mark.parametrize("repo", ["../x", "a/b/c", "team/x--y", "te am/x", ""])
def test_what_cannot_be_a_repo_is_a_usage_error(repo: str, server: HubServer) -> None:
    assert not hub.is_repo_id(repo)
    with pytest.raises(errors.UsageError, match="cannot read"):
        hub.head(repo, hub.MAIN)
    assert server.requests == []


@pytest.mark.parametrize("name", ["gpt2", "org/llama-3.1_8B", "a/b.c"])
def test_names_of_models_are_known(name: str) -> None:
    assert hub.is_repo_id(name)


def test_the_endpoint_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.endpoint() == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    assert hub.endpoint() == "http://127.0.0.1:9"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "ftp://127.0.0.1", "http://[::1"])
def test_a_bad_endpoint_is_told(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises((errors.UsageError, errors.HubUnavailable)) as refusal:
        hub.head(REPO, hub.MAIN)
    assert "HF_ENDPOINT" in str(refusal.value.hint)


@pytest.mark.parametrize(
    ("met", "kind"),
    [
        (client_errors.OfflineModeIsEnabled("off"), errors.HubUnavailable),
        (client_errors.LocalTokenNotFoundError("none"), errors.HubUnauthorized),
        (client_errors.OIDCError("none"), errors.HubUnauthorized),
        (client_errors.HFValidationError("bad"), errors.UsageError),
        (client_errors.LocalEntryNotFoundError("gone"), errors.HubUnavailable),
        (httpx2.ConnectError("refused"), errors.HubUnavailable),
        (httpx2.ReadTimeout("slow"), errors.HubUnavailable),
        (httpx2.LocalProtocolError("Illegal header value b'Bearer x y'"), errors.HubUnauthorized),
        (ConnectionError("xet"), errors.HubUnavailable),
        (TimeoutError(), errors.HubUnavailable),
        (PermissionError("xet: denied"), errors.HubUnauthorized),
        (PermissionError(13, "Permission denied", "/x"), errors.StorageFailure),
        (OSError(28, "No space left on device"), errors.StorageFailure),
        (ValueError("Invalid metadata in README.md.\n- bad"), errors.Refused),
        (ValueError("strange"), errors.HubFailure),
        (RuntimeError(), errors.HubFailure),
    ],
)
def test_an_error_of_the_client_becomes_ours(met: Exception, kind: type[errors.RegistryError]) -> None:
    ours = translate(met, "push")
    assert ours.code == kind.code
    assert ours.message.startswith("cannot push: ")
    assert "\n" not in ours.message
    assert "Bearer x" not in ours.message
    assert not ours.message.endswith(": ")


def test_what_an_upload_met_is_found_behind_its_wrapper() -> None:
    wrapped = RuntimeError("Error while uploading 'a'")
    wrapped.__cause__ = OSError(28, "No space left on device")
    assert type(translate(wrapped, "push")) is errors.StorageFailure


def test_no_secret_leaves_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "my-own-secret")
    token = "hf_" + "x" * 34
    said = clean(f"at https://me:pw@cdn.example/a/b?Signature=abc#f\nwith Bearer abc {token} my-own-secret")
    assert said == "at https://cdn.example/… with *** *** ***"
    assert len(clean("x" * 1000)) == 301
    assert "eyJ" not in clean("a token of OAuth is hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJzY29wZSI6MX0.ab-cd")

    def fail() -> None:
        with translated("push"):
            raise ValueError(token)

    with pytest.raises(errors.HubFailure) as refusal:
        fail()
    assert token not in "".join(traceback.format_exception(refusal.value))


def test_our_own_errors_and_bugs_pass() -> None:
    for error in (errors.Stale("s"), KeyError("bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)), translated("x"):
            raise error


def test_the_clients_progress_bars_are_only_off_meanwhile() -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    with translated("x"):
        assert are_progress_bars_disabled()
    assert are_progress_bars_disabled() == before
    assert huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is None
