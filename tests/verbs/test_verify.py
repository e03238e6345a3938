"""Verify: damage is found and named, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from registry import Registry
from registry.errors import NotFound
from tests.adapters import make_ia3, make_lora
from tests.verbs.places import blob, damage, state


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    catalog.add(make_ia3(tmp_path / "i"), "i")
    catalog.compose("c", "a - 0.4*b")
    catalog.compose("half", "0.5*i", dtype="bfloat16")
    return catalog


def problems(catalog: Registry, *, rebuild: bool = False) -> dict[str, tuple[str, ...]]:
    return {found.ref: found.problems for found in catalog.verify(rebuild=rebuild) if not found.ok}


def test_a_whole_catalog_has_no_problem(shelf: Registry) -> None:
    before = state(shelf)
    found = shelf.verify(rebuild=True)
    assert [one.ref for one in found] == ["a@1", "b@1", "i@1", "c@1", "half@1"]
    assert all(one.ok and one.problems == () for one in found)
    assert {one.ref: one.rebuilt for one in found} == {
        "a@1": None, "b@1": None, "i@1": None, "c@1": shelf.show("c").digest, "half@1": shelf.show("half").digest
    }  # fmt: skip
    assert all(one.rebuilt is None for one in shelf.verify())
    assert state(shelf) == before


@pytest.mark.parametrize("position", [0, 8, 200, -1])
def test_a_flipped_byte_anywhere_is_found_and_named(shelf: Registry, position: int) -> None:
    damage(blob(shelf, "a"), position)
    found = problems(shelf)
    assert list(found) == ["a@1"]
    assert "adapter_model.safetensors of a@1 is damaged" in found["a@1"][0]
    assert "a@1 is damaged" in problems(shelf, rebuild=True)["c@1"][0]


def test_a_missing_or_shortened_blob_is_found(shelf: Registry) -> None:
    blob(shelf, "c").unlink()
    path = blob(shelf, "b")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-4])
    assert set(problems(shelf)) == {"b@1", "c@1"}
    assert "missing" in problems(shelf)["c@1"][0]


def test_a_changed_recipe_is_found(shelf: Registry) -> None:
    with shelf._database.write() as session:
        session.execute(text("UPDATE recipes SET canonical = replace(canonical, '-0.4', '-0.5')"))
    assert "damaged" in problems(shelf)["c@1"][0]
    assert "damaged" in problems(shelf, rebuild=True)["c@1"][0]


def test_one_reference_alone_is_a_list_of_one(shelf: Registry) -> None:
    assert [each.ref for each in shelf.verify("half")] == ["half@1"]
    assert shelf.stale("half") == ()
    assert [each.ref for each in shelf.rebuild("half") if each.state != "unchanged"] == []


def test_only_what_was_asked_for_is_checked(shelf: Registry) -> None:
    damage(blob(shelf, "a"))
    assert [found.ref for found in shelf.verify(["b", "c"])] == ["b@1", "c@1"]
    assert all(found.ok for found in shelf.verify(["b", "c"]))
    with pytest.raises(NotFound):
        shelf.verify(["nosuch"])


def test_tombstones_are_passed_over(shelf: Registry) -> None:
    shelf.delete("i")
    shelf.delete("half")
    shelf.gc(apply=True)
    assert [found.ref for found in shelf.verify()] == ["a@1", "b@1", "c@1"]
    assert problems(shelf) == {}
