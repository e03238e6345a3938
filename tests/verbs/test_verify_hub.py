"""Verifying what is on the Hub: against its own provenance, and beside a catalog, an empty one too."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from registry import Registry
from registry.errors import IntegrityFailure, NotFound, UsageError
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora
from tests.models import tiny_llama
from tests.verbs.places import state

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
served = pytest.mark.usefixtures("hub")

REPO = "team/detox"
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


def test_a_signature_is_held_against_the_listing(
    local: Registry, theirs: Registry, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = theirs.publish("detox", REPO)
    covered = {path: sha256 for path, sha256 in done.files.items() if path.startswith("adapter_")}
    key = tmp_path / "key.pem"
    (found,) = local.verify([f"hf://{REPO}"], key=key)
    assert (found.ok, found.signed, found.problems) == (False, False, ("it is not signed",))
    hubs.push(hub, REPO, {"model.sig": b"signature"})
    asked: list[Any] = []

    def signed(signature: bytes, public_key: Path) -> dict[str, str]:
        asked.append((signature, public_key))
        return covered

    module = ModuleType("registry.signing")
    module.signed = signed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "registry.signing", module)
    (found,) = local.verify([f"hf://{REPO}"], key=key)
    assert (found.ok, found.signed) == (True, True)
    assert asked == [(b"signature", key)]
    covered[TENSORS] = "sha256:" + "0" * 64
    del covered["adapter_config.json"]
    (found,) = local.verify([f"hf://{REPO}"], key=key)
    assert (found.ok, found.signed) == (False, False)
    assert set(found.problems) == {f"{TENSORS} is not what was signed", "adapter_config.json is not signed"}
    (found,) = local.verify([f"hf://{REPO}"])
    assert found.notes == ("it is signed; give the public key with --key to verify that",)
