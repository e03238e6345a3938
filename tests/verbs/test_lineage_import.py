"""Importing what another registry published: its recipe and lineage come along, and nothing is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.errors import NotHeld, Refused
from registry.testing.hub import HubServer
from tests import hubs
from tests.adapters import make_lora
from tests.verbs.places import state

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "team/detox"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def theirs(sqlite_template: Path, tmp_path: Path) -> Iterator[Registry]:
    """Another team's catalog: ``deeper`` of ``detox`` of ``alpaca`` and ``toxic``."""
    home = tmp_path / "theirs"
    home.mkdir()
    (home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}", actor="somebody") as opened:
        hubs.stock(opened, tmp_path / "made")
        opened.compose("deeper", "detox + 0.25*toxic", task="safety")
        yield opened


def test_a_composition_comes_with_its_recipe_and_all_its_ancestors(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    toxic = theirs.publish("toxic", "team/toxic")
    there = theirs.show("deeper")
    done = theirs.publish("deeper", REPO)
    made = catalog.add(f"hf://{REPO}", "imported")
    place = f"hf://{REPO}@{done.commit}"
    assert made.created
    assert made.warnings == ()
    assert made.recipe is not None
    assert there.recipe is not None
    assert made.recipe.digest == there.recipe.digest
    assert made.recipe.expression == "detox + 0.25*toxic"
    assert made.recipe.resolved == "detox@1 + 0.25*toxic@1"
    assert (made.source, made.source_revision, made.origin) == (place, "main", f"{place}#deeper@1")
    assert (made.task, made.held) == ("safety", True)
    assert [(each.ref, each.coefficient) for each in made.parents] == [("detox@1", "1"), ("toxic@1", "0.25")]
    assert [each.digest for each in made.parents] == [each.digest for each in there.parents]
    for name in ("detox", "toxic", "alpaca"):
        ours, own = catalog.show(name), theirs.show(name)
        assert not ours.held
        assert ours.origin == f"{place}#{name}@1"
        same = ("digest", "kind", "rank", "parameters", "modules", "dtype", "size", "base_model", "license")
        assert {field: getattr(ours, field) for field in same} == {
            field: getattr(own, field) for field in same
        }
        assert ours.created_by == "tester"
    assert catalog.show("toxic").source == f"hf://team/toxic@{toxic.commit}"
    assert catalog.show("alpaca").source is None
    known = {node.ref for node in catalog.lineage("imported").nodes}
    assert known == {"imported@1", "detox@1", "toxic@1", "alpaca@1"}


def test_importing_again_changes_nothing(catalog: Registry, theirs: Registry, hub: HubServer) -> None:
    theirs.publish("deeper", REPO)
    first = catalog.add(f"hf://{REPO}", "imported")
    before = state(catalog)
    again = catalog.add(f"hf://{REPO}", "imported")
    assert not again.created
    assert again.ref == first.ref
    assert state(catalog) == before


def test_another_import_from_there_finds_what_is_known(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("detox", REPO)
    theirs.publish("deeper", "team/deeper")
    catalog.add(f"hf://{REPO}", "one")
    made = catalog.add("hf://team/deeper", "two")
    assert [each.ref for each in made.parents] == ["one@1", "toxic@1"]
    assert made.recipe is not None
    assert made.recipe.resolved == "one@1 + 0.25*toxic@1"
    assert {each.name for each in catalog.list().versions} == {"one", "two", "alpaca", "toxic"}


def test_what_is_held_here_is_the_parent(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    catalog.add(tmp_path / "made" / "toxic", "poison", base="tiny/base")
    catalog.add(make_lora(tmp_path / "other", seed=9), "alpaca", base="tiny/base")
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "imported")
    assert [each.ref for each in made.parents] == ["team/alpaca@1", "poison@1"]
    assert made.recipe is not None
    assert made.recipe.resolved == "team/alpaca@1 - 0.4*poison@1"
    assert catalog.show("poison").held
    assert catalog.show("alpaca").held
    assert not catalog.show("team/alpaca").held


def test_a_name_is_never_taken_over_by_what_is_only_known(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    theirs.add(make_lora(tmp_path / "newer", seed=7), "alpaca", base="tiny/base")
    theirs.compose("detox", "alpaca - 0.4*toxic")
    theirs.publish("detox", "team/newer")
    catalog.add(f"hf://{REPO}", "imported")
    catalog.add("hf://team/newer", "imported")
    assert [each.ref for each in catalog.log("alpaca")] == ["alpaca@2", "alpaca@1"]  # both known from them
    catalog.add(make_lora(tmp_path / "own", seed=11), "toxic", base="tiny/base")
    theirs.add(make_lora(tmp_path / "newest", seed=8), "toxic", base="tiny/base")
    theirs.compose("detox", "alpaca - 0.4*toxic")
    theirs.publish("detox", "team/newest")
    made = catalog.add("hf://team/newest", "imported")
    assert [each.ref for each in made.parents] == ["alpaca@2", "team/toxic@1"]
    assert catalog.show("toxic").held
    assert catalog.show("toxic").ref == "toxic@2"


def test_the_line_of_the_import_itself_is_left_alone(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "alpaca", new=True)
    assert made.ref == "alpaca@1"
    assert [each.ref for each in made.parents] == ["team/alpaca@1", "toxic@1"]


def test_without_provenance_it_is_a_plain_import(catalog: Registry, theirs: Registry, hub: HubServer) -> None:
    theirs.publish("detox", REPO)
    made = catalog.add(f"hf://{REPO}", "imported", provenance=False)
    assert (made.recipe, made.parents, made.origin, made.warnings) == (None, (), None, ())
    assert len(catalog.list().versions) == 1


def test_a_commit_that_was_given_is_not_a_branch(catalog: Registry, theirs: Registry, hub: HubServer) -> None:
    done = theirs.publish("toxic", "team/toxic")
    made = catalog.add(f"hf://team/toxic@{done.commit}", "toxic")
    assert made.source == f"hf://team/toxic@{done.commit}"
    assert made.source_revision is None
    assert made.recipe is None
    assert made.origin == f"hf://team/toxic@{done.commit}#toxic@1"


def test_composing_the_same_recipe_computes_it(
    catalog: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    for name in ("alpaca", "toxic"):
        catalog.add(tmp_path / "made" / name, name, base="tiny/base")
        assert catalog.show(name).held
        assert catalog.show(name).ref == f"{name}@1"
    made = catalog.compose("imported", "alpaca - 0.4*toxic")
    assert not made.cached
    assert (made.ref, made.created) == ("imported@1", False)  # it gave what was claimed
    again = catalog.compose("mine", "alpaca - 0.4*toxic")
    assert again.cached


NEEDING: dict[str, Callable[[Registry, Path], Any]] = {
    "compose": lambda catalog, _: catalog.compose("x", "alpaca + imported"),
    "check": lambda catalog, _: catalog.check("alpaca + imported"),
    "materialize": lambda catalog, _: catalog.materialize("alpaca"),
    "model": lambda catalog, _: catalog.materialize("alpaca", into="model", base_path="nowhere"),
    "checkout": lambda catalog, path: catalog.checkout("alpaca", path / "out"),
    "publish": lambda catalog, _: catalog.publish("alpaca", "team/again"),
    "diff": lambda catalog, _: catalog.diff("imported", "alpaca"),
    "explain": lambda catalog, _: catalog.explain("alpaca"),
}


@pytest.mark.parametrize("verb", NEEDING)
def test_whatever_needs_bytes_says_where_they_are(
    verb: str, local: Registry, theirs: Registry, hub: HubServer, tmp_path: Path
) -> None:
    theirs.publish("detox", REPO)
    local.add(f"hf://{REPO}", "imported")
    before = state(local)
    with pytest.raises(NotHeld) as caught:
        NEEDING[verb](local, tmp_path)
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith("alpaca@1 is known only from hf://team/detox@")
    assert caught.value.hint == "get it: registry fetch alpaca@1"
    assert state(local) == before


def test_a_revoked_ancestor_affects_what_was_imported(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("detox", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    assert catalog.revoke("toxic", "it leaks").affected == ("imported@1",)
    with pytest.raises(Refused, match="it leaks"):
        catalog.publish("imported", "team/again")


def test_what_is_imported_is_published_with_the_whole_lineage(
    catalog: Registry, theirs: Registry, hub: HubServer
) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    catalog.publish("imported", "team/again")
    made = json.loads(hub.files("team/again")["provenance.json"])["predicate"]["buildDefinition"]
    told = {each["ref"]: each for each in made["internalParameters"]["upstream"]["versions"]}
    assert set(told) == {"imported@1", "detox@1", "toxic@1", "alpaca@1"}
    assert told["detox@1"]["recipe"]["expression"] == "alpaca - 0.4*toxic"


def test_a_bundle_carries_what_is_only_known(
    catalog: Registry, theirs: Registry, hub: HubServer, sqlite_template: Path, tmp_path: Path
) -> None:
    theirs.publish("deeper", REPO)
    catalog.add(f"hf://{REPO}", "imported")
    catalog.export(tmp_path / "all.tar")
    home = tmp_path / "third"
    home.mkdir()
    (home / "registry.db").write_bytes(sqlite_template.read_bytes())
    with Registry.open(home, database_url=f"sqlite:///{home / 'registry.db'}", actor="third") as third:
        third.import_bundle(tmp_path / "all.tar")
        for name in ("imported", "alpaca", "detox"):
            assert third.show(name) == catalog.show(name)
    assert catalog.gc(apply=True).blobs == ()
