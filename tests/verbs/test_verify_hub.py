"""Verifying what is on the Hub: against its own provenance, and beside a catalog, an empty one too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry, signing
from registry.errors import IntegrityFailure, NotFound, UsageError
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora
from tests.models import tiny_llama
from tests.signers import keys
from tests.verbs.places import state

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
served = pytest.mark.usefixtures("hub")

REPO = "team/detox"
PASSWORD = "open sesame"
TENSORS = "adapter_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def theirs(sqlite_template: Path, tmp_path: Path) -> Iterator[Registry]:
    home = tmp_path / "theirs"
    home.mkdir()
    (home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}", actor="somebody") as opened:
        yield hubs.stock(opened, tmp_path / "made")


def downloads(hub: HubServer) -> list[str]:
    return [
        each.path for each in hub.requests if each.path.endswith(".safetensors") and "resolve" in each.path
    ]


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_release_is_verified_without_its_weights(
    xet: bool, catalog: Registry, theirs: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        done = theirs.publish("detox", REPO)
        before = state(catalog)
        (found,) = catalog.verify([f"hf://{REPO}"])
        assert found.ok
        assert (found.ref, found.digest) == (f"hf://{REPO}@{done.commit}", theirs.show("detox").digest)
        assert (found.known, found.published, found.signed, found.notes) == (None, False, None, ())
        assert downloads(hub) == []
        assert state(catalog) == before
        (own,) = theirs.verify([f"hf://{REPO}@{done.commit}"])
        assert (own.ok, own.known, own.published) == (True, "detox@1", True)


def test_another_file_than_the_one_told_of_is_found(
    local: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    other = (make_lora(tmp_path / "other", seed=8) / TENSORS).read_bytes()
    hubs.push(hub, REPO, {TENSORS: other, "adapter_config.json": b"{}", "pytorch_model.bin": b"pickle"})
    (found,) = local.verify([f"hf://{REPO}"])
    assert not found.ok
    said = "; ".join(found.problems)
    assert f"{TENSORS} is sha256:{hashlib.sha256(other).hexdigest()}, not sha256:" in said
    assert "adapter_config.json is sha256:" in said
    assert found.notes == ("the provenance does not tell of pytorch_model.bin",)
    hubs.api(hub).delete_file(TENSORS, REPO)
    (found,) = local.verify([f"hf://{REPO}"])
    assert f"{TENSORS} is missing" in found.problems


def test_a_recipe_that_was_changed_is_found(local: Registry, theirs: Registry, hub: HubServer) -> None:
    theirs.publish("detox", REPO)
    statement = json.loads(hub.files(REPO)["provenance.json"])
    statement["predicate"]["buildDefinition"]["externalParameters"]["recipe"]["canonical"]["seed"] = 5
    hubs.push(hub, REPO, {"provenance.json": json.dumps(statement).encode()})
    (found,) = local.verify([f"hf://{REPO}"])
    assert not found.ok
    assert "not the one of its digest" in found.problems[0]


def test_a_repo_without_provenance_cannot_be_verified(local: Registry, hub: HubServer) -> None:
    hubs.api(hub).create_repo("team/plain")
    with pytest.raises(NotFound, match=r"has no provenance\.json"):
        local.verify(["hf://team/plain"])
    hubs.push(hub, "team/plain", {"provenance.json": b"[]"})
    with pytest.raises(IntegrityFailure, match="not a provenance statement"):
        local.verify(["hf://team/plain"])
    with pytest.raises(NotFound):
        local.verify(["hf://team/nothing"])
    with pytest.raises(NotFound):
        local.verify(["hf://team/plain@nowhere"])


@served
def test_what_was_revoked_here_is_told(catalog: Registry, theirs: Registry, tmp_path: Path) -> None:
    theirs.publish("detox", REPO)
    catalog.add(tmp_path / "made" / "toxic", "poison", base="tiny/base")
    catalog.revoke("poison", "it leaks")
    (found,) = catalog.verify([f"hf://{REPO}"])
    assert found.problems == ("poison@1, which it is or derives from, was revoked here: it leaks",)


@served
def test_it_is_made_again_from_what_was_published(catalog: Registry, theirs: Registry) -> None:
    for name in ("alpaca", "toxic"):
        theirs.publish(name, f"team/{name}")
    theirs.publish("detox", REPO)
    before = state(catalog)
    (found,) = catalog.verify([f"hf://{REPO}"], rebuild=True)
    assert (found.ok, found.problems) == (True, ())
    assert found.rebuilt == found.digest == theirs.show("detox").digest
    assert state(catalog) == before


@served
def test_an_input_that_is_nowhere_is_said(local: Registry, theirs: Registry) -> None:
    theirs.publish("detox", REPO)
    (found,) = local.verify([f"hf://{REPO}"], rebuild=True)
    assert not found.ok
    assert "is neither here nor published" in found.problems[0]
    theirs.publish("toxic", "team/toxic")
    (found,) = local.verify(["hf://team/toxic"], rebuild=True)
    assert found.ok
    assert found.notes == ("it was not composed, so there is nothing to rebuild",)


def test_a_merged_model_is_made_again(
    local: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base", shards=2)
    hubs.api(hub).create_repo("team/base")
    sha = hubs.push(hub, "team/base", {path.name: path.read_bytes() for path in base.iterdir()})
    modules = {f"model.layers.{layer}.self_attn.q_proj": (32, 32) for layer in (0, 1)}
    for seed, name in enumerate(("a", "b")):
        theirs.add(make_lora(tmp_path / name, modules=modules, seed=seed), name, base=f"team/base@{sha}")
        theirs.publish(name, f"team/{name}")
    theirs.compose("sum", "a + 0.5*b")
    theirs.publish("sum", "team/sum", into="model")
    theirs.publish("a", "team/merged", into="model", base_path=base)
    for repo in ("team/sum", "team/merged"):
        (found,) = local.verify([f"hf://{repo}"], rebuild=True)
        assert found.problems == ()
        (found,) = local.verify([f"hf://{repo}"], rebuild=True, base_path=base)
        assert found.problems == ()
        assert found.rebuilt is not None
    other = tiny_llama(tmp_path / "other", dtype="bfloat16")
    (found,) = local.verify(["hf://team/sum"], rebuild=True, base_path=other)
    assert "other weights" in found.problems[0]


def test_a_key_is_for_a_repo(local: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a key"):
        local.verify([], key=tmp_path / "k.pem")


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_one_byte_of_the_weights_is_seen_without_them(
    xet: bool, local: Registry, theirs: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        theirs.publish("detox", REPO)
        weights = bytearray(hub.files(REPO)[TENSORS])
        weights[-1] ^= 1
        hubs.push(hub, REPO, {TENSORS: bytes(weights)})
        before = len(downloads(hub))
        (found,) = local.verify([f"hf://{REPO}"])
        assert [each.split()[0] for each in found.problems] == [TENSORS]
        assert len(downloads(hub)) == before


def test_an_older_release_in_the_place_of_the_last_one_is_seen_where_it_was_published(
    local: Registry, theirs: Registry, hub: HubServer
) -> None:
    older = theirs.publish("toxic", REPO)
    files = hub.files(REPO)
    theirs.publish("detox", REPO)
    hubs.push(hub, REPO, {"notes.txt": b"n", "README.md": hub.files(REPO)["README.md"] + b"\nMore.\n"})
    assert [each.ok for each in theirs.verify([f"hf://{REPO}"])] == [True]
    hubs.push(hub, REPO, {path: content for path, content in files.items() if path != ".gitattributes"})
    (found,) = theirs.verify([f"hf://{REPO}"])
    assert found.problems == ("it is not what this catalog published last to main",)
    assert [each.ok for each in local.verify([f"hf://{REPO}"])] == [True]
    assert [each.ok for each in theirs.verify([f"hf://{REPO}@{older.commit}"])] == [True]


def test_what_was_withdrawn_and_is_there_again_is_a_problem(theirs: Registry, hub: HubServer) -> None:
    theirs.publish("detox", REPO)
    files = hub.files(REPO)
    theirs.unpublish(REPO)
    hubs.push(hub, REPO, {path: content for path, content in files.items() if path != ".gitattributes"})
    (found,) = theirs.verify([f"hf://{REPO}"])
    assert found.problems == ("detox@1 was withdrawn from there",)


def test_a_proposal_that_was_merged_meanwhile_is_in_its_place(theirs: Registry, hub: HubServer) -> None:
    theirs.publish("toxic", REPO)
    theirs.publish("detox", REPO, propose=True)
    assert [each.ok for each in theirs.verify([f"hf://{REPO}"])] == [True]
    hubs.api(hub).merge_pull_request(REPO, 1)
    (found,) = theirs.verify([f"hf://{REPO}"])
    assert (found.problems, found.known) == ((), "detox@1")


def test_a_file_that_is_loaded_in_place_of_a_merged_model_is_a_problem(
    local: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base", shards=2)
    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    theirs.add(make_lora(tmp_path / "a", modules=modules), "a", base="team/base")
    theirs.publish("a", REPO, into="model", base_path=base)
    assert [each.ok for each in local.verify([f"hf://{REPO}"])] == [True]
    hubs.push(hub, REPO, {"model.safetensors": b"other", "adapter_config.json": b"{}"})
    (found,) = local.verify([f"hf://{REPO}"])
    assert [each.split()[0] for each in found.problems] == ["adapter_config.json", "model.safetensors"]


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
    monkeypatch.setenv(signing.PASSWORD, PASSWORD)
    return keys(tmp_path, password=PASSWORD)


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_signed_release_is_verified_by_its_key_and_by_no_other(
    xet: bool,
    local: Registry,
    theirs: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
    monkeypatch.setenv(signing.PASSWORD, PASSWORD)
    private, public = keys(tmp_path, password=PASSWORD)
    _, other = keys(tmp_path, "other")
    with hubs.running(tmp_path, monkeypatch, xet=xet) as hub:
        theirs.publish("detox", REPO)
        (found,) = local.verify([f"hf://{REPO}"], key=public)
        assert (found.ok, found.signed, found.problems) == (False, False, ("it is not signed",))
        theirs.publish("detox", REPO, sign_key=private)
        (found,) = local.verify([f"hf://{REPO}"])
        assert found.notes == ("it is signed; give the public key with --key to verify that",)
        monkeypatch.delenv(signing.PASSWORD)  # a public key has none
        (found,) = local.verify([f"hf://{REPO}"], key=public)
        assert (found.ok, found.signed, found.problems, found.notes) == (True, True, (), ())
        assert downloads(hub) == []
        (found,) = local.verify([f"hf://{REPO}"], key=other)
        assert (found.ok, found.signed) == (False, False)
        assert found.problems == ("model.sig is not a signature by this key",)
        with pytest.raises(UsageError, match="cannot read the key"):
            local.verify([f"hf://{REPO}"], key=tmp_path / "none.pub")
        with pytest.raises(UsageError, match="no public key"):
            local.verify([f"hf://{REPO}"], key=private)


def test_whatever_is_changed_in_a_signed_release_breaks_it(
    local: Registry, theirs: Registry, hub: HubServer, signer: tuple[Path, Path]
) -> None:
    private, public = signer
    theirs.publish("detox", REPO, sign_key=private)
    files = hub.files(REPO)

    def problems(**changes: bytes) -> tuple[str, ...]:
        named = {path.replace("__", "."): content for path, content in changes.items()}
        hubs.push(hub, REPO, {**files, **named})
        (found,) = local.verify([f"hf://{REPO}"], key=public)
        assert found.signed is not bool(found.problems)
        return found.problems

    assert problems(README__md=files["README.md"] + b"By hand.") == ()
    statement = json.loads(files["provenance.json"])
    statement["predicate"]["runDetails"]["metadata"]["finishedOn"] = "2020-01-01T00:00:00Z"
    assert problems(provenance__json=json.dumps(statement).encode()) == (
        "provenance.json is not what was signed",
    )
    # Whoever changes the weights and tells so is found by the signature alone.
    weights = bytes([*files[TENSORS][:-1], files[TENSORS][-1] ^ 1])
    for each in statement["subject"]:
        if each["name"] == TENSORS:
            each["digest"]["sha256"] = hashlib.sha256(weights).hexdigest()
    changed = {"adapter_model__safetensors": weights, "provenance__json": json.dumps(statement).encode()}
    assert set(problems(**changed)) == {
        f"{TENSORS} is not what was signed",
        "provenance.json is not what was signed",
    }
    assert problems(model__sig=b"x" * (signing.MAX_SIZE + 1)) == (
        f"model.sig has {signing.MAX_SIZE + 1} bytes, more than any signature",
    )
    # A true signature that leaves something out.
    digests = {path: "sha256:" + hashlib.sha256(files[path]).hexdigest() for path in ("adapter_config.json",)}
    assert problems(model__sig=signing.sign(digests, private)) == (
        f"{TENSORS} is not signed",
        "provenance.json is not signed",
    )


def test_a_key_whose_password_is_wrong_sends_nothing_and_shows_nothing(
    theirs: Registry, hub: HubServer, signer: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, _ = signer
    for password in ("not it", ""):
        monkeypatch.setenv(signing.PASSWORD, password)
        with pytest.raises(UsageError, match="cannot be used as a private key") as refused:
            theirs.publish("detox", REPO, sign_key=private)
        said = f"{refused.value.message} {refused.value.hint}"
        assert "\n" not in said
        assert not any(secret in said for secret in (PASSWORD, "not it", "PRIVATE KEY"))
        assert refused.value.__context__ is None or PASSWORD not in repr(refused.value.__context__)
    assert not hubs.writes(hub)
