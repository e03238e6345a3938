"""Looking up: show, list, log and lineage over versions that verbs made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry import Registry
from registry.errors import NotFound, UsageError
from tests.adapters import make_ia3, make_lora
from tests.verbs.places import state


@pytest.fixture
def shelf(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name, task="qa", tags={"seed": str(seed)})
    catalog.add(make_ia3(tmp_path / "i"), "i")
    catalog.compose("c", "a - 0.4*b")
    catalog.compose("d", "truncate(c + a, rank=2)")
    return catalog


def test_a_version_is_shown_by_every_name_it_has(shelf: Registry) -> None:
    shelf.set_alias("c", "prod", 1)
    shown = shelf.show("c")
    for ref in ("C", "c@1", "c@v1", "c@prod", "c@latest", shown.digest, shown.digest[:19], shown):
        assert shelf.show(ref) == shown


def test_a_tombstone_is_shown_by_its_number(shelf: Registry) -> None:
    shelf.delete("d@1")
    assert shelf.show("d@1").deleted_at is not None
    with pytest.raises(NotFound, match="no live version"):
        shelf.show("d")


def test_lineage_has_the_coefficients_that_were_composed(shelf: Registry) -> None:
    found = shelf.lineage("d")
    assert {(edge.child, edge.parent, edge.coefficient) for edge in found.edges} == {
        ("c@1", "a@1", "1"), ("c@1", "b@1", "-0.4"), ("d@1", "c@1", "1"), ("d@1", "a@1", "1")
    }  # fmt: skip
    assert {node.ref: node.expression for node in found.nodes}["c@1"] == "a - 0.4*b"
    assert {node.ref for node in shelf.lineage("b", direction="down").nodes} == {"b@1", "c@1", "d@1"}


def test_a_listing_shows_what_show_shows(shelf: Registry) -> None:
    page = shelf.list()
    assert [version.ref for version in page.versions] == ["a@1", "b@1", "c@1", "d@1", "i@1"]
    assert all(version == shelf.show(version.ref) for version in page.versions)
    assert [version.ref for version in shelf.list(kind="ia3").versions] == ["i@1"]
    assert [version.ref for version in shelf.list(task="qa", tags={"seed": "1"}).versions] == ["b@1"]


def test_looking_changes_nothing(shelf: Registry) -> None:
    before = state(shelf)
    shelf.show("c")
    shelf.list()
    shelf.log("c")
    shelf.lineage("c", direction="down")
    shelf.aliases()
    shelf.evaluations("c")
    shelf.publications()
    assert state(shelf) == before


def test_looking_costs_no_torch(shelf: Registry, database_url: str, tmp_path: Path) -> None:
    shelf.show("c")
    program = (
        "import sys; from registry import Registry\n"
        "with Registry.open(sys.argv[1], database_url=sys.argv[2]) as c:\n"
        "    c.show('c'); c.list(); c.log('c'); c.lineage('d'); c.aliases(); c.set_alias('c', 'x', 1); c.set_tags('c', {'k': 'v'})\n"
        "    c.check('a - 0.4*b', conflicts=False); c.verify()\n"
        "print([name for name in ('torch', 'alembic', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "home"), database_url],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("ref", ["", "a b", "a@", "a@0", "sha256:zz", "../a"])
def test_what_is_no_reference_is_a_usage_error_everywhere(ref: str, local: Registry, tmp_path: Path) -> None:
    for verb in (local.show, local.lineage, local.delete, local.log):
        with pytest.raises(UsageError):
            verb(ref)
    for attempt in (
        lambda: local.checkout(ref, tmp_path / "x"),
        lambda: local.verify([ref]),
        lambda: local.diff(ref, ref),
    ):
        with pytest.raises(UsageError):
            attempt()
