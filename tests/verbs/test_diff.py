"""Diff: metadata, inputs and the change of each module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registry import Registry
from registry.errors import IntegrityFailure, NotFound
from tests.adapters import LINEARS, Q0, V0, lora_deltas, make_ia3, make_lora, make_opaque
from tests.verbs.places import blob, damage, state


@pytest.fixture
def shelf(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name, task="t")
    return local


def test_a_version_does_not_differ_from_itself(shelf: Registry) -> None:
    before = state(shelf)
    found = shelf.diff("a", "a@1")
    assert (found.fields, found.inputs, found.modules, found.not_compared) == ((), (), (), None)
    assert state(shelf) == before


def test_modules_differ_by_what_their_deltas_say(shelf: Registry, tmp_path: Path) -> None:
    found = {change.module: change for change in shelf.diff("a", "b").modules}
    a, b = lora_deltas(tmp_path / "a"), lora_deltas(tmp_path / "b")
    assert found.keys() == LINEARS.keys()
    for module, change in found.items():
        assert change.before == pytest.approx(float(a[module].norm()), rel=1e-5)
        assert change.after == pytest.approx(float(b[module].norm()), rel=1e-5)
        cosine = torch.dot(a[module].flatten(), b[module].flatten()) / (a[module].norm() * b[module].norm())
        assert change.cosine == pytest.approx(float(cosine), abs=1e-5)
        assert change.relative == pytest.approx(
            float((b[module] - a[module]).norm() / a[module].norm()), rel=1e-5
        )


def test_a_negation_is_opposite_and_twice_as_far(shelf: Registry) -> None:
    shelf.compose("n", "-a")
    for change in shelf.diff("a", "n").modules:
        assert change.cosine == pytest.approx(-1, abs=1e-6)
        assert change.relative == pytest.approx(2, rel=1e-6)


def test_a_module_that_one_side_lacks_has_no_delta_there(shelf: Registry, tmp_path: Path) -> None:
    shelf.add(make_lora(tmp_path / "q", modules={Q0: (12, 8)}, seed=0), "q")
    found = {change.module: change for change in shelf.diff("a", "q").modules}
    assert (found[V0].after, found[V0].cosine, found[V0].relative) == (0, None, 1)
    back = {change.module: change for change in shelf.diff("q", "a").modules}
    assert (back[V0].before, back[V0].relative) == (0, None)


def test_inputs_that_came_went_or_weigh_otherwise_are_told(shelf: Registry) -> None:
    shelf.compose("c", "a - 0.4*b")
    shelf.compose("c", "a + 0.5*b")
    shelf.compose("c", "2*b")
    found = shelf.diff("c@1", "c@2")
    assert [(change.field, change.before, change.after) for change in found.inputs] == [
        ("b@1", "-0.4", "0.5")
    ]
    assert {change.field for change in found.fields} == {"digest", "expression", "resolved", "recipe"}
    gone = shelf.diff("c@1", "c@3").inputs
    assert [(change.field, change.before, change.after) for change in gone] == [
        ("a@1", "1", None),
        ("b@1", "-0.4", "2"),
    ]


def test_what_an_expression_does_not_show_of_its_recipe_is_told(shelf: Registry) -> None:
    """The same words with another seed are another recipe; so are those with a method more."""
    for seed in (1, 2):
        shelf.compose("d", "dare(a + b, density=0.5)", seed=seed)
    found = {change.field: (change.before, change.after) for change in shelf.diff("d@1", "d@2").fields}
    assert found["seed"] == (1, 2)
    assert found.keys() == {"digest", "recipe", "seed"}
    shelf.compose("d", "truncate(dare(a + b, density=0.5), rank=2)", seed=2)
    found = {change.field: (change.before, change.after) for change in shelf.diff("d@2", "d@3").fields}
    names = [[method.split()[0] for method in methods] for methods in found["methods"]]
    assert names == [["dare"], ["truncate", "dare"]]
    imported = {change.field: change.before for change in shelf.diff("a", "d").fields}
    assert (imported["recipe"], imported["expression"]) == (None, None)
    assert "seed" not in imported


def test_metadata_that_differs_is_told(shelf: Registry) -> None:
    shelf.set_tags("b", {"k": "v"})
    found = {change.field: (change.before, change.after) for change in shelf.diff("a", "b").fields}
    assert found["tags"] == ({}, {"k": "v"})
    assert "task" not in found


def test_deltas_without_a_common_space_are_not_compared_and_why_is_said(
    shelf: Registry, tmp_path: Path
) -> None:
    shelf.add(make_ia3(tmp_path / "i"), "i")
    shelf.add(make_lora(tmp_path / "o", base="other/base"), "o")
    shelf.add(make_opaque(tmp_path / "l"), "l", base="tiny/base")
    shelf.add(make_opaque(tmp_path / "l2", config={"r": 3}), "l", base="tiny/base")
    for before, after, why in (("a", "i", "i@1 is ia3"), ("a", "o", "other/base"), ("l@1", "l@2", "l@1: ")):
        found = shelf.diff(before, after)
        assert found.modules == ()
        assert why in str(found.not_compared)


def test_damage_and_absence_are_told_apart(shelf: Registry) -> None:
    damage(blob(shelf, "b"))
    with pytest.raises(IntegrityFailure, match="b@1 is damaged"):
        shelf.diff("a", "b")
    with pytest.raises(NotFound):
        shelf.diff("a", "nosuch")


def test_a_deleted_version_is_compared_and_its_weights_as_long_as_they_are_here(shelf: Registry) -> None:
    before = shelf.diff("a", "b")
    shelf.delete("a@1")
    assert shelf.diff("a@1", "b") == before
    shelf.gc(apply=True)
    after = shelf.diff("a@1", "b")
    assert after.fields == before.fields
    assert (after.modules, after.not_compared) == ((), "a@1 was deleted, and its bytes are gone")
    with pytest.raises(NotFound, match="a has no live version"):
        shelf.diff("a", "b")
