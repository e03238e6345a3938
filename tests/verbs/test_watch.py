"""Which imported adapters moved on where they came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.errors import UsageError
from registry.results import Watched
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


def put(hub: HubServer, repo: str, folder: Path) -> str:
    hubs.api(hub).create_repo(repo, exist_ok=True)
    return hubs.push(hub, repo, {name: (folder / name).read_bytes() for name in FILES})


def states(found: tuple[Watched, ...]) -> dict[str, str]:
    return {each.ref: each.state for each in found}


def test_each_repo_is_asked_once_and_says_what_became_of_it(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    for seed, name in enumerate(("same", "card", "moved", "gone", "branch")):
        put(hub, f"team/{name}", make_lora(tmp_path / name, seed=seed))
        catalog.add(f"hf://team/{name}", name, base="tiny/base")
    catalog.add("hf://team/same@main", "again", base="tiny/base")
    catalog.add(tmp_path / "same", "own", base="tiny/base")
    asked = len(hub.requests)
    assert set(states(catalog.watch()).values()) == {"same"}
    assert len(hub.requests) - asked == 5
    hubs.push(hub, "team/card", {"NOTES.md": b"new words"})
    head = put(hub, "team/moved", make_lora(tmp_path / "newer", seed=20))
    hubs.api(hub).delete_repo("team/gone")
    found = {each.ref: each for each in catalog.watch()}
    assert {ref: each.state for ref, each in found.items()} == {
        "same@1": "same",
        "again@1": "same",
        "card@1": "same files",
        "moved@1": "moved",
        "gone@1": "gone",
        "branch@1": "same",
    }
    assert (found["moved@1"].commit, found["moved@1"].revision) == (head, "main")
    assert found["moved@1"].imported in str(catalog.show("moved").source)
    catalog.add("hf://team/moved", "moved", base="tiny/base")
    assert states(catalog.watch(["moved"])) == {"moved@2": "same"}


def test_what_cannot_be_asked_is_unknown_and_the_others_are_told(
    local: Registry, hub: HubServer, tmp_path: Path
) -> None:
    for seed, name in enumerate(("one", "two")):
        put(hub, f"team/{name}", make_lora(tmp_path / name, seed=seed))
        local.add(f"hf://team/{name}", name, base="tiny/base")
    hub.fail("team/one", status=503, times=100)
    found = {each.ref: each for each in local.watch()}
    assert (found["one@1"].state, found["two@1"].state) == ("unknown", "same")
    assert "503" in str(found["one@1"].reason)
    assert hubs.OWNER not in str(found["one@1"].reason)


def test_what_was_added_at_a_commit_is_looked_at_when_it_is_named(
    local: Registry, hub: HubServer, tmp_path: Path
) -> None:
    commit = put(hub, "team/one", make_lora(tmp_path / "one"))
    local.add(f"hf://team/one@{commit}", "one", base="tiny/base")
    assert local.watch() == ()
    put(hub, "team/one", make_lora(tmp_path / "newer", seed=3))
    assert states(local.watch(["one"])) == {"one@1": "moved"}
    local.add(tmp_path / "one", "own", base="tiny/base")
    with pytest.raises(UsageError, match="own@1 did not come from the Hub"):
        local.watch(["own"])


def test_a_tag_is_watched_as_it_was_asked_for(local: Registry, hub: HubServer, tmp_path: Path) -> None:
    put(hub, "team/one", make_lora(tmp_path / "one"))
    hubs.api(hub).create_tag("team/one", tag="v1")
    local.add("hf://team/one@v1", "one", base="tiny/base")
    assert local.show("one").source_revision == "v1"
    put(hub, "team/one", make_lora(tmp_path / "newer", seed=3))
    assert states(local.watch()) == {"one@1": "same"}
    hubs.api(hub).delete_tag("team/one", tag="v1")
    assert states(local.watch()) == {"one@1": "gone"}
