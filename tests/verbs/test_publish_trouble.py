"""Publishing when something goes wrong: races, lost answers, crashes, refusals, secrets."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry import Registry
from registry import hub as client
from registry.errors import (
    Conflict,
    HubUnauthorized,
    HubUnavailable,
    IntegrityFailure,
    NotFound,
    Refused,
    RegistryError,
    UsageError,
)
from registry.publishers import hub as publisher
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(local: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(local, tmp_path)


def test_a_push_of_somebody_else_in_between_is_a_conflict(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.publish("toxic", REPO)
    real = publisher.changes

    def and_meanwhile(*args: Any) -> Any:
        hubs.push(hub, REPO, {"notes.txt": b"quick"})
        return real(*args)

    monkeypatch.setattr(publisher, "changes", and_meanwhile)
    with pytest.raises(Conflict, match="somebody pushed to team/detox meanwhile"):
        stocked.publish("detox", REPO)
    assert [each.state for each in hubs.rows(stocked)] == ["done", "failed"]
    monkeypatch.setattr(publisher, "changes", real)
    assert stocked.publish("detox", REPO).created
    assert hub.files(REPO)["notes.txt"] == b"quick"


def test_a_refused_parent_is_a_conflict(stocked: Registry, hub: HubServer) -> None:
    hub.fail("POST .*/commit/main", status=412, error="A commit has happened since.")
    with pytest.raises(Conflict):
        stocked.publish("detox", REPO)
    assert [each.state for each in hubs.rows(stocked)] == ["failed"]
    assert stocked.publish("detox", REPO).created  # into the repo that the first try made


def test_a_lost_answer_is_no_failure(stocked: Registry, hub: HubServer) -> None:
    hub.lose_answer("POST .*/commit/main")
    done = stocked.publish("detox", REPO)
    assert (done.state, done.created, done.commit) == ("done", True, hub.commits(REPO)[0].oid)
    assert len(hub.commits(REPO)) == 2
    assert len(hubs.rows(stocked)) == 1


def test_what_cannot_be_seen_stays_open_and_is_closed_next_time(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    hubs.stock(catalog, tmp_path)
    hub.lose_answer("POST .*/commit/main")
    hub.fail("GET .*/commits/main", times=20)
    with pytest.raises(HubUnavailable, match="not known yet"):
        catalog.publish("detox", REPO)
    assert [each.state for each in hubs.rows(catalog)] == ["pending"]
    hub._faults._waiting.clear()
    done = catalog.publish("detox", REPO)
    assert (done.created, done.commit) == (False, hub.commits(REPO)[0].oid)
    assert [each.state for each in hubs.rows(catalog)] == ["done"]
    assert len(hub.commits(REPO)) == 2


def test_a_push_that_could_not_be_verified_stays_open_and_is_closed_next_time(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher._commit

    def and_then_down(*args: Any) -> Any:
        receipt = real(*args)
        hub.fail("GET .*/tree/", times=20)
        return receipt

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "_commit", and_then_down)
        with pytest.raises(HubUnavailable, match="could not be verified yet"):
            stocked.publish("detox", REPO)
    assert [each.state for each in hubs.rows(stocked)] == ["pending"]
    hub._faults._waiting.clear()
    done = stocked.publish("detox", REPO)
    assert (done.created, done.commit) == (False, hub.commits(REPO)[0].oid)
    assert [each.state for each in hubs.rows(stocked)] == ["done"]


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_push_that_was_given_up_while_it_was_on_its_way_counts_when_it_arrives(
    dies: bool, catalog: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    real = publisher._commit

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(publisher, "_commit", real)
        hub.fail("POST .*/preupload", times=20)
        with pytest.raises(HubUnavailable):
            catalog.publish("detox", REPO)  # somebody else, who finds a push without an outcome
        hub._faults._waiting.clear()
        assert [each.state for each in hubs.rows(catalog)] == ["failed", "failed"]
        receipt = real(*args)
        if dies:
            raise KeyboardInterrupt
        return receipt

    monkeypatch.setattr(publisher, "_commit", slow)
    if dies:
        with pytest.raises(KeyboardInterrupt):
            catalog.publish("detox", REPO)
    done = catalog.publish("detox", REPO)
    assert done.commit == hub.commits(REPO)[0].oid
    with catalog._database.read() as session:
        found = session.execute(text("SELECT state, error FROM publications ORDER BY id")).all()
        events = session.execute(text("SELECT subject FROM events WHERE action = 'publish'")).scalars().all()
    assert tuple(found[0]) == ("done", None)
    assert (found[1].state, "503" in found[1].error) == ("failed", True)
    assert list(events) == ["detox@1"]
    assert len(hub.commits(REPO)) == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_leaves_a_row_that_is_closed_by_what_the_hub_has(
    after: bool, stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher._commit

    def crash(*args: Any) -> Any:
        if after:
            real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(publisher, "_commit", crash)
    with pytest.raises(KeyboardInterrupt):
        stocked.publish("detox", REPO)
    assert [each.state for each in hubs.rows(stocked)] == ["pending"]
    monkeypatch.setattr(publisher, "_commit", real)
    done = stocked.publish("detox", REPO)
    assert done.created is not after
    assert [each.state for each in hubs.rows(stocked)] == (["done"] if after else ["failed", "done"])
    assert len(hub.commits(REPO)) == 2
    with stocked._database.read() as session:
        events = session.execute(text("SELECT subject FROM events WHERE action = 'publish'")).scalars().all()
    assert list(events) == ["detox@1"]


def test_a_crash_before_the_repo_was_made_is_closed_too(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "prepare", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stocked.publish("detox", REPO)
    assert stocked.publish("detox", REPO).created
    assert [each.state for each in hubs.rows(stocked)] == ["failed", "done"]
    assert len(hub.commits(REPO)) == 2


@pytest.mark.usefixtures("hub")
def test_a_push_that_arrives_damaged_is_seen(stocked: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client.files
    monkeypatch.setattr(
        client, "files", lambda *args: {k: v for k, v in real(*args).items() if k != "README.md"}
    )
    with pytest.raises(IntegrityFailure, match=r"README\.md"):
        stocked.publish("detox", REPO)
    assert [each.state for each in hubs.rows(stocked)] == ["failed"]


def test_a_push_that_arrived_damaged_is_not_taken_for_done_later(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = client.Upload

    def lossy(repo: str, revision: str, operations: Any, **options: Any) -> Any:
        return real(repo, revision, [each for each in operations if each.path != "README.md"], **options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "Upload", lossy)
        with pytest.raises(IntegrityFailure):
            stocked.publish("detox", REPO)
    assert stocked.publish("detox", REPO).created
    assert [each.state for each in hubs.rows(stocked)] == ["failed", "done"]
    assert "README.md" in hub.files(REPO)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "there is no token"),
        ("hf_" + "wrong" * 8, "401"),
        (hubs.READER, "403"),
        ("hf_ümlaut", r"cannot read team/detox"),
    ],
)
def test_without_the_right_nothing_is_written(
    token: str | None, sentence: str, stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubUnauthorized, match=sentence) as refusal:
        stocked.publish("detox", REPO)
    assert "token" in str(refusal.value.hint) or "hf auth login" in str(refusal.value.hint)
    if token is not None:
        assert token not in "".join(traceback.format_exception(refusal.value))
    with pytest.raises(KeyError):
        hub.commits(REPO)
    assert hubs.rows(stocked, "done") == []


@pytest.mark.parametrize(
    "pattern", ["GET /api/models/team", "POST /api/repos/create", "POST .*/preupload", "POST .*/commit/main"]
)
def test_a_hub_that_is_down_is_worth_another_try(pattern: str, stocked: Registry, hub: HubServer) -> None:
    hub.fail(pattern, status=503, times=20)
    with pytest.raises(HubUnavailable, match="503") as refusal:
        stocked.publish("detox", REPO)
    assert refusal.value.exit_code == 1
    assert hubs.rows(stocked, "done") + hubs.rows(stocked, "pending") == []
    hub._faults._waiting.clear()
    assert stocked.publish("detox", REPO).created


def test_a_hub_out_of_reach_is_unavailable(
    stocked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.isolate(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_TOKEN", hubs.OWNER)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnavailable, match="cannot read team/detox"):
        stocked.publish("detox", REPO)


def test_a_storage_that_the_client_cannot_use_is_told_in_one_line(
    stocked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch) as hub:
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
        with pytest.raises(RegistryError) as refusal:
            stocked.publish("detox", REPO)
        assert "\n" not in refusal.value.message
        assert len(hub.commits(REPO)) == 1
    assert [each.state for each in hubs.rows(stocked)] == ["failed"]


@pytest.mark.parametrize(
    ("repo", "revision"),
    [("detox", None), ("a/b/c", None), ("../x", None), ("team/x--y", None), (REPO, "a" * 40), (REPO, "refs/pr/1"), (REPO, "a..b")],
)  # fmt: skip
def test_a_place_has_to_be_a_repo_and_a_branch(repo: str, revision: str | None, stocked: Registry) -> None:
    with pytest.raises(UsageError):
        stocked.publish("detox", repo, revision=revision)


@pytest.mark.parametrize("into", ["modle", "Model", "", None])
def test_a_target_has_to_be_one_of_the_two(into: Any, stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(UsageError, match="unknown target") as refusal:
        stocked.publish("detox", REPO, into=into)
    assert "adapter, model" in str(refusal.value.hint)
    assert hub.requests == []


@pytest.mark.parametrize("message", ["", " \n", "x" * 201, "a\ud800b", "a\x1b[31mb", "a\0b"])
def test_a_message_has_to_be_text(message: str, stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(UsageError):
        stocked.publish("detox", REPO, message=message)
    assert hub.requests == []


def test_an_unknown_version_is_not_found(stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(NotFound):
        stocked.publish("detox@9", REPO)
    assert hub.requests == []


@pytest.mark.parametrize("where", ["note", "message", "config"])
def test_a_token_is_never_sent(where: str, local: Registry, hub: HubServer, tmp_path: Path) -> None:
    secret = "hf_" + "A1b2" * 9
    config = {"comment": secret} if where == "config" else {}
    folder = make_lora(tmp_path / "a", config=config)
    local.add(folder, "a", note=f"with {secret}" if where == "note" else None)
    with pytest.raises(Refused, match="holds a Hub token") as refusal:
        local.publish("a", REPO, message=secret if where == "message" else None)
    assert secret not in "".join(traceback.format_exception(refusal.value))
    assert hubs.writes(hub) == []


def test_damaged_bytes_are_never_sent(stocked: Registry, hub: HubServer) -> None:
    with stocked._database.read() as session:
        digests = session.execute(text("SELECT blob_digest FROM artifact_files")).scalars().all()
    for each in digests:
        path = stocked._blobs.path(each)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityFailure):
        stocked.publish("detox", REPO)
    assert hubs.writes(hub) == []


def test_the_token_is_nowhere(
    stocked: Registry, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stocked.publish("detox", REPO)
    assert hubs.OWNER not in caplog.text
    said = f"Bearer {hubs.OWNER} http://u:p@x.y/z?sig={hubs.OWNER}"
    hub.fail("POST .*/commit/main", status=500, times=20, error=said)
    stocked.compose("detox", "alpaca - 0.5*toxic")
    with pytest.raises(HubUnavailable) as refusal:
        stocked.publish("detox", REPO)
    assert hubs.OWNER not in "".join(traceback.format_exception(refusal.value))
    assert "sig=" not in refusal.value.message
    assert not any(hubs.OWNER.encode() in content for content in hub.files(REPO).values())
    home = tmp_path / "home"
    assert not any(hubs.OWNER.encode() in file.read_bytes() for file in home.rglob("*") if file.is_file())


def test_a_base_model_that_is_not_on_the_hub_is_asked_for(stocked: Registry, hub: HubServer) -> None:
    with pytest.raises(NotFound) as refusal:
        stocked.publish("detox", REPO, into="model")
    assert "--base-path" in str(refusal.value.hint)
    assert not [each for each in hub.requests if each.method in hubs.WRITES]
