"""Revoked versions are not used any more, and what they reached is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.catalog import publications, references
from registry.errors import Refused
from registry.reference import parse
from registry.testing.hub import HubServer
from registry.verbs import publish as publishing
from tests import hubs
from tests.adapters import make_lora
from tests.catalog.drafts import add, statements
from tests.models import SIZE, tiny_llama
from tests.verbs.places import refused
from tests.verbs.test_rebuild import meanwhile

# The client's own LFS upload spells a keyword of its HTTP library the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WHY = "detox@1 was derived from toxic@1, which was revoked: leaked data"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def stocked(catalog: Registry, tmp_path: Path) -> Registry:
    return hubs.stock(catalog, tmp_path)


@pytest.fixture
def revoked(stocked: Registry) -> Registry:
    stocked.revoke("toxic", "leaked data")
    return stocked


@pytest.mark.parametrize(
    "expression", ["alpaca + toxic@1", "0.5*detox + alpaca", "-detox", "truncate(toxic, rank=1)"]
)
def test_nothing_is_composed_with_one(revoked: Registry, expression: str) -> None:
    with refused(
        revoked, Refused, "not composed", "toxic@1", "leaked data", "registry impact toxic@1", code=7
    ):
        revoked.compose("x", expression)
    with refused(revoked, Refused, "leaked data", code=7):
        revoked.check(expression)


@pytest.mark.parametrize("name", ["toxic", "detox"])
def test_nothing_is_promoted_to_one(revoked: Registry, name: str) -> None:
    with refused(revoked, Refused, f"{name}@prod does not move", "leaked data", code=7):
        revoked.set_alias(name, "prod", 1)
    revoked.unrevoke("toxic")
    assert revoked.set_alias(name, "prod", 1).moved
    revoked.revoke("toxic", "leaked data")
    assert not revoked.set_alias(name, "prod", 1).moved  # it stays until somebody moves it away
    assert revoked.delete_alias(name, "prod").ref == f"{name}@1"


def test_the_rest_is_composed_as_ever(revoked: Registry) -> None:
    assert revoked.compose("x", "2*alpaca").warnings == ()
    revoked.unrevoke("toxic")
    assert revoked.compose("x", "alpaca + detox").created


def test_what_was_being_composed_when_it_happened_says_so(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: stocked.revoke("toxic", "leaked data"))
    made = stocked.compose("x", "alpaca + toxic")
    assert made.warnings == ("x@1 was derived from toxic@1, which was revoked: leaked data",)
    assert [node.affected for node in stocked.lineage("x", depth=0).nodes] == [True]


def test_a_version_added_with_such_a_parent_says_so(revoked: Registry, tmp_path: Path) -> None:
    added = revoked.add(make_lora(tmp_path / "new", seed=5), "new", parents=["toxic"])
    assert added.warnings == ("new@1 was derived from toxic@1, which was revoked: leaked data",)


def test_bad_content_that_comes_back_is_recognised(revoked: Registry, tmp_path: Path) -> None:
    again = revoked.add(tmp_path / "toxic", "harmless", base="tiny/base")
    assert again.warnings == ("this is the content of toxic@1, which was revoked: leaked data",)
    same = revoked.add(tmp_path / "toxic", "toxic", base="tiny/base")
    assert (same.created, same.warnings) == (False, ("toxic@1 was revoked: leaked data",))
    revoked.unrevoke("toxic")
    assert revoked.add(tmp_path / "toxic", "harmless2", base="tiny/base").warnings == ()


def test_its_bytes_are_handed_out_with_a_warning(revoked: Registry, tmp_path: Path) -> None:
    assert revoked.checkout("detox", tmp_path / "out").warnings == (WHY,)
    assert revoked.checkout("toxic", tmp_path / "toxic-out").warnings == ("toxic@1 was revoked: leaked data",)
    assert revoked.checkout("alpaca", tmp_path / "alpaca-out").warnings == ()
    assert revoked.materialize("detox").warnings == (WHY,)
    assert revoked.explain("detox").warnings == (WHY,)


def test_so_is_a_merged_model(local: Registry, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    local.add(make_lora(tmp_path / "a", modules={"model.layers.0.self_attn.q_proj": (SIZE, SIZE)}), "a")
    local.compose("b", "2*a")
    local.revoke("a", "bad")
    assert (
        local.materialize("b", into="model", base_path=base)
        .warnings[0]
        .startswith("b@1 was derived from a@1")
    )
    assert local.explain("b", into="model", base_path=base).warnings[0].startswith("b@1 was derived from a@1")


def test_it_is_not_published(revoked: Registry, hub: HubServer) -> None:
    for ref in ("detox", "toxic"):
        for dry_run in (False, True):
            with refused(revoked, Refused, "not published", f"{ref}@1", "leaked data", code=7):
                revoked.publish(ref, "team/detox", dry_run=dry_run)
    assert hubs.writes(hub) == []
    assert revoked.publish("alpaca", "team/alpaca").state == "done"
    revoked.unrevoke("toxic")
    assert revoked.publish("detox", "team/detox").state == "done"


def test_a_revocation_on_the_way_stops_the_push(
    stocked: Registry, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the row that is written before anything is sent."""
    real = publishing._push

    def push(*args: Any, **options: Any) -> Any:
        stocked.revoke("toxic", "leaked data")
        return real(*args, **options)

    monkeypatch.setattr(publishing, "_push", push)
    with pytest.raises(Refused, match="leaked data"):
        stocked.publish("detox", "team/detox")
    assert stocked.publications() == ()
    assert not [each for each in hubs.writes(hub) if "commit" in each]


@pytest.mark.usefixtures("hub")
def test_what_it_reached_is_told(stocked: Registry) -> None:
    stocked.compose("blend", "0.5*detox + 0.5*alpaca")
    stocked.set_alias("blend", "prod", 1)
    stocked.set_alias("toxic", "old", 1)
    stocked.set_alias("alpaca", "prod", 1)
    done = stocked.publish("detox", "team/detox")
    stocked.publish("alpaca", "team/alpaca")
    with stocked._database.write() as session:
        for number, state in enumerate(("pending", "failed")):
            publications.begin(
                session,
                references.resolve(session, parse("blend")),
                publish_id=f"{number}",
                repo=f"team/{state}",
                revision="main",
                target="model",
                files={},
                actor="tester",
            )
            session.flush()
            if state == "failed":
                publications.fail(session, f"{number}", error="lost")
    found = stocked.impact("toxic")
    assert [(node.ref, node.depth) for node in found.derived.nodes] == [
        ("toxic@1", 0),
        ("detox@1", 1),
        ("blend@1", 2),
    ]
    assert found.aliases == ("toxic@old", "blend@prod")
    assert [(each.ref, each.repo, each.state) for each in found.publications] == [
        ("detox@1", "team/detox", "done"),
        ("blend@1", "team/pending", "pending"),
    ]
    assert found.publications[0] == done
    assert (found.publications[0].commit, found.publications[0].url) == (done.commit, done.url)
    assert found.reason is None
    stocked.revoke("toxic", "leaked data")
    stocked.delete_alias("toxic", "old")
    stocked.delete("toxic")
    assert stocked.impact("toxic@1").reason == "leaked data"
    assert stocked.impact("blend").derived.nodes[1:] == ()


def test_what_it_reached_costs_the_same_statements_however_much_it_is(catalog: Registry) -> None:
    database = catalog._database
    add(database, "root", "root")
    with statements(database) as few:
        catalog.impact("root")
    for number in range(30):
        add(
            database,
            f"n{number}",
            f"{number}",
            parents=["root"] if number < 5 else [f"n{number - 1}", f"n{number - 5}"],
        )
    with statements(database) as many:
        assert len(catalog.impact("root").derived.nodes) == 31
    assert len(few) == len(many) == 5


def test_a_rebuild_does_not_use_one(revoked: Registry, tmp_path: Path) -> None:
    revoked.unrevoke("toxic")
    revoked.set_alias("toxic", "prod", 1)
    revoked.compose("c", "alpaca + toxic@prod")
    revoked.add(make_lora(tmp_path / "t2", seed=7), "toxic", base="tiny/base")
    revoked.revoke("toxic@1", "leaked data")
    found = {one.ref: one for one in revoked.rebuild()}
    assert found["detox@1"].made == "detox@2"  # it follows the latest, which is another one
    assert "c@1" not in found
    revoked.set_alias("toxic", "prod", 2)
    assert [one.made for one in revoked.rebuild()] == ["c@2"]
    assert revoked.compose("x", "c + detox").warnings == ()
