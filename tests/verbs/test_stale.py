"""Stale: which compositions would pin differently now, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Registry
from registry.errors import NotFound, UsageError
from registry.results import Staleness
from tests.adapters import make_lora
from tests.verbs.places import state


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    """``c`` follows the latest ``a`` and ``b@prod``; ``d`` follows the latest ``c``; ``e`` the latest ``d``."""
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    catalog.set_alias("b", "prod", 1)
    catalog.compose("c", "a - 0.4*b@prod")
    catalog.compose("d", "0.5*c + 0.5*a@1")
    catalog.compose("e", "-d")
    return catalog


def renew(catalog: Registry, name: str, folder: Path, seed: int = 9) -> None:
    """Another version of an adapter, with other content."""
    catalog.add(make_lora(folder / f"{name}{seed}", seed=seed), name)


def told(found: tuple[Staleness, ...]) -> dict[str, list[tuple[str, str, str | None]]]:
    return {
        one.ref: [(each.reference, each.pinned, each.current) for each in one.references] for one in found
    }


def test_what_nobody_touched_is_not_stale(shelf: Registry) -> None:
    assert shelf.stale() == ()
    assert shelf.stale(every=True) == ()
    assert shelf.stale(["a", "c", "d"]) == ()


def test_a_new_version_makes_what_follows_the_latest_stale_and_nothing_else(
    shelf: Registry, tmp_path: Path
) -> None:
    renew(shelf, "a", tmp_path)
    before = state(shelf)
    (found,) = shelf.stale()
    assert told((found,)) == {"c@1": [("a", "a@1", "a@2")]}
    assert (found.expression, found.broken) == ("a - 0.4*b@prod", False)
    assert found.followers == ("d@1", "e@1")
    assert [str(each) for each in found.references] == ["a was a@1, is a@2"]
    assert state(shelf) == before


def test_an_alias_that_moved_and_one_that_is_gone(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "b", tmp_path)
    assert shelf.stale() == ()  # the alias stayed where it was
    shelf.set_alias("b", "PROD", 2)
    assert told(shelf.stale()) == {"c@1": [("b@prod", "b@1", "b@2")]}
    shelf.set_alias("b", "prod", 1)
    assert shelf.stale() == ()
    shelf.delete_alias("b", "prod")
    (found,) = shelf.stale()
    assert (told((found,)), found.broken) == ({"c@1": [("b@prod", "b@1", None)]}, True)
    assert str(found.references[0]) == "b@prod was b@1, is gone"


def test_a_line_without_a_live_version_breaks_what_follows_it(shelf: Registry) -> None:
    shelf.delete("a@1")
    (found,) = shelf.stale()
    assert (told((found,)), found.broken) == ({"c@1": [("a", "a@1", None)]}, True)


def test_the_same_content_is_no_change(shelf: Registry, tmp_path: Path) -> None:
    """A deleted version that is added again has another number and the same bytes."""
    shelf.delete("a@1")
    shelf.add(tmp_path / "a", "a")
    assert shelf.show("a").ref == "a@2"
    assert shelf.stale() == ()


def test_latest_of_each_line_or_all_or_those_asked_for(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "a", tmp_path)
    shelf.compose("c", "a - 0.4*b@prod")
    assert told(shelf.stale()) == {"d@1": [("c", "c@1", "c@2")]}
    assert list(told(shelf.stale(every=True))) == ["c@1", "d@1"]
    (old,) = shelf.stale(["c@1", "a"])
    assert (old.ref, old.followers) == ("c@1", ())  # nothing follows what is not the latest
    shelf.delete("c@1")
    assert list(told(shelf.stale(every=True))) == ["d@1"]
    with pytest.raises(NotFound):
        shelf.stale(["c@1"])
    with pytest.raises(UsageError, match="exclude one another"):
        shelf.stale(["c"], every=True)


def test_a_composition_that_follows_its_own_line_is_not_stale_by_being_made(
    shelf: Registry, tmp_path: Path
) -> None:
    shelf.set_alias("a", "prod", 1)
    shelf.compose("a", "a - 0.1*b@prod")
    shelf.compose("a", "a@prod - 0.2*b@prod")
    assert "a@3" not in told(shelf.stale())
    shelf.set_alias("a", "prod", 3)  # promoted: it means itself now
    assert not {"a@2", "a@3"} & set(told(shelf.stale(every=True)))
    renew(shelf, "b", tmp_path)
    shelf.set_alias("b", "prod", 2)
    assert told(shelf.stale(["a"])) == {"a@3": [("b@prod", "b@1", "b@2")]}


def test_an_own_alias_that_goes_back_is_a_change(shelf: Registry, tmp_path: Path) -> None:
    renew(shelf, "a", tmp_path)
    shelf.set_alias("a", "prod", 2)
    shelf.compose("a", "a@prod - 0.2*b@prod")
    shelf.set_alias("a", "prod", 1)
    assert told(shelf.stale(["a"])) == {"a@3": [("a@prod", "a@2", "a@1")]}


def test_followers_in_a_circle_are_each_told_once(shelf: Registry) -> None:
    shelf.compose("x", "0.5*a + 0.5*b")
    shelf.compose("y", "0.5*x + 0.5*b@1")
    shelf.compose("x", "0.5*y + 0.5*b@1")
    found = {one.ref: one.followers for one in shelf.stale()}
    assert found == {"y@1": ("x@2",)}
