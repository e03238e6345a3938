"""What a release tells of others: where they are, and what they may be used for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.testing.hub import HubServer
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


def told(hub: HubServer) -> tuple[str, dict[str, str | None], dict[str, str | None]]:
    """The card, and by reference where the dependencies and the ancestors are."""
    files = hub.files(REPO)
    made = json.loads(files["provenance.json"])["predicate"]["buildDefinition"]
    dependencies = {each["name"]: each.get("uri") for each in made["resolvedDependencies"]}
    ancestors = {each["ref"]: each["source"] for each in made["internalParameters"]["upstream"]["versions"]}
    return files["README.md"].decode(), dependencies, ancestors


def test_a_parent_is_where_a_branch_has_it_and_else_where_it_was_proposed(
    catalog: Registry, hub: HubServer, tmp_path: Path
) -> None:
    hubs.stock(catalog, tmp_path)
    proposed = catalog.publish("toxic", "team/first", propose=True)
    catalog.publish("detox", REPO)
    page, dependencies, ancestors = told(hub)
    place = f"hf://team/first@{proposed.commit}"
    assert dependencies["toxic@1"] == ancestors["toxic@1"] == place
    there = catalog.publish("toxic", "team/toxic")
    catalog.publish("toxic", "team/last", propose=True)
    catalog.publish("detox", REPO)
    page, dependencies, ancestors = told(hub)
    assert f"team/toxic@{str(there.commit)[:12]}" in page
    assert "team/first" not in page
    assert "team/last" not in page
    assert dependencies["toxic@1"] == ancestors["toxic@1"] == f"hf://team/toxic@{there.commit}"
    assert not catalog.publish("detox", REPO).created
