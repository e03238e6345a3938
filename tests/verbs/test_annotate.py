"""What is said about composed versions, and deleting them; the rest is in ``tests/catalog/test_marks.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Registry
from registry.errors import Conflict, NotFound
from tests.adapters import make_lora
from tests.catalog.drafts import events
from tests.verbs.places import refused


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    catalog.compose("c", "a - 0.4*b")
    return catalog


def test_nothing_that_is_said_changes_what_a_version_is(shelf: Registry) -> None:
    before, planned = shelf.show("c"), shelf.check("a - 0.4*b")
    for ref in ("a", "c"):
        shelf.set_tags(ref, {"k": "v"})
        shelf.set_alias(ref, "prod", 1)
        shelf.add_evaluation(ref, "acc", 0.5, dataset="d")
    after = shelf.show("c")
    said = {"tags", "aliases", "evaluations"}
    assert after.model_dump(exclude=said) == before.model_dump(exclude=said)
    assert shelf.check("a - 0.4*b").recipe_digest == planned.recipe_digest
    assert shelf.compose("c", "a@prod - 0.4*b").created is False


def test_deleting_names_the_live_versions_that_were_derived(shelf: Registry) -> None:
    shelf.compose("d", "2*c")
    assert shelf.delete("a@1").downstream == ("c@1",)
    assert shelf.delete("c@1").downstream == ("d@1",)
    assert shelf.delete("d@1").downstream == ()
    assert [node.ref for node in shelf.lineage("d@1").nodes] == ["d@1", "c@1", "a@1", "b@1"]


def test_a_deleted_version_is_no_input_and_cannot_be_deleted_twice(shelf: Registry) -> None:
    shelf.delete("a@1")
    with refused(shelf, NotFound, "a", "no live version", code=3):
        shelf.compose("x", "2*a")
    with refused(shelf, NotFound, "a@1", "was deleted on", "registry log a", code=3):
        shelf.compose("x", "2*a@1")
    with refused(shelf, NotFound, "a@1 was deleted on", code=3):
        shelf.delete("a@1")
    for attempt in (
        lambda: shelf.set_tags("a@1", {"k": "v"}),
        lambda: shelf.add_evaluation("a@1", "m", 1, dataset="d"),
    ):
        with refused(shelf, NotFound, "a@1 was deleted", code=3):
            attempt()


def test_an_alias_protects_what_it_points_at(shelf: Registry) -> None:
    shelf.set_alias("c", "prod", 1)
    with refused(shelf, Conflict, "c@prod", code=4):
        shelf.delete("c")
    with refused(shelf, Conflict, "points at 1, not at 2", code=4):
        shelf.set_alias("c", "prod", 1, expect=2)
    assert shelf.show("c@prod").ref == "c@1"


def test_the_events_tell_the_whole_story_in_order(shelf: Registry, tmp_path: Path) -> None:
    shelf.set_alias("c", "prod", 1)
    shelf.delete_alias("c", "prod")
    shelf.delete("c")
    shelf.checkout("a", tmp_path / "out")
    shelf.add(make_lora(tmp_path / "twin", seed=0), "a")
    found = [(actor, action, subject) for actor, action, subject, _ in events(shelf._database)]
    assert found == [
        ("tester", "import", "a@1"),
        ("tester", "import", "b@1"),
        ("tester", "compose", "c@1"),
        ("tester", "alias", "c"),
        ("tester", "alias", "c"),
        ("tester", "delete", "c@1"),
    ]
