"""Compose: what is computed, what is found again, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import Registry, evaluate, peft_format
from registry.errors import (
    Conflict,
    ExpressionError,
    Incompatible,
    IntegrityFailure,
    NotFound,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)
from tests.adapters import LINEARS, Q0, V0, load_tensors, lora_deltas, make_ia3, make_lora
from tests.catalog.drafts import counts, events
from tests.verbs.places import blob, damage, refused, state


@pytest.fixture
def pair(catalog: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    return catalog


@pytest.fixture
def duo(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    return local


def deltas(catalog: Registry, ref: str, folder: Path) -> dict[str, torch.Tensor]:
    catalog.checkout(ref, folder)
    return lora_deltas(folder)


def test_a_sum_is_the_sum_of_the_deltas(duo: Registry, tmp_path: Path) -> None:
    duo.compose("c", "a - 0.4*b")
    found, a, b = (deltas(duo, name, tmp_path / f"out-{name}") for name in ("c", "a", "b"))
    assert found.keys() == a.keys()
    for module in LINEARS:
        torch.testing.assert_close(found[module], a[module] - 0.4 * b[module], rtol=1e-5, atol=1e-5)


def test_minus_one_is_not_plus_one(duo: Registry, tmp_path: Path) -> None:
    duo.compose("c", "-a")
    found, a = deltas(duo, "c", tmp_path / "c"), deltas(duo, "a", tmp_path / "oa")
    torch.testing.assert_close(found[Q0], -a[Q0], rtol=1e-5, atol=1e-5)


def test_a_composition_tells_how_it_was_made(pair: Registry) -> None:
    pair.set_alias("a", "prod", 1)
    made = pair.compose("team/c", " a@prod - 0.40*b ", task="t", tags={"k": "v"}, note="n")
    assert made.recipe is not None
    assert (made.recipe.expression, made.recipe.resolved) == ("a@prod - 0.40*b", "a@1 - 0.4*b@1")
    assert [(p.ref, p.coefficient, p.relation) for p in made.parents] == [
        ("a@1", "1", "input"),
        ("b@1", "-0.4", "input"),
    ]
    assert (made.created, made.cached, made.task, made.tags, made.note, made.rank) == (
        True,
        False,
        "t",
        {"k": "v"},
        "n",
        8,
    )
    shown = pair.show("team/c")
    assert shown.model_dump() == made.model_dump(exclude={"created", "cached", "warnings", "report"})
    assert shown.recipe is not None
    assert shown.recipe.digest == pair.check("a - 0.4*b").recipe_digest
    assert events(pair._database)[-1][:3] == ("tester", "compose", "team/c@1")


def test_check_foretells_what_composing_gives_and_writes_nothing(pair: Registry) -> None:
    before = state(pair)
    foretold = pair.check("2*a - b", rank=3, dtype="bfloat16")
    assert state(pair) == before
    made = pair.compose("c", "2*a - b", rank=3, dtype="bfloat16")
    assert made.recipe is not None
    assert (foretold.recipe_digest, foretold.resolved) == (made.recipe.digest, made.recipe.resolved)
    assert (
        (foretold.rank, foretold.dtype, foretold.modules)
        == (made.rank, made.dtype, made.modules)
        == (3, "bfloat16", 3)
    )
    assert foretold.parameters >= made.parameters
    assert [one.ref for one in foretold.inputs] == ["a@1", "b@1"]
    assert (foretold.cached, pair.check("2*a - b", rank=3, dtype="bfloat16").cached) == (False, True)


def test_composing_again_is_the_same_version(pair: Registry) -> None:
    first = pair.compose("c", "a - 0.4*b")
    before = state(pair)
    again = pair.compose("c", "-0.40*b + a")
    assert (again.ref, again.created, again.cached, again.digest) == ("c@1", False, True, first.digest)
    assert state(pair) == before


def test_the_same_recipe_under_another_name_is_a_cache_hit(pair: Registry) -> None:
    first = pair.compose("c", "a + b")
    before = state(pair)
    other = pair.compose("d", "b + a")
    assert (other.ref, other.created, other.cached, other.digest) == ("d@1", True, True, first.digest)
    assert state(pair)["blobs"] == before["blobs"]
    assert counts(pair._database)["realisations"] == 1


def test_a_cache_hit_evaluates_nothing(duo: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    duo.compose("c", "a + b")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a known recipe was computed")

    monkeypatch.setattr(evaluate, "prepare", never)
    monkeypatch.setattr(peft_format, "write", never)
    monkeypatch.setattr(peft_format, "open_files", never)
    assert duo.compose("d", "a + b").cached
    with pytest.raises(AssertionError, match="was computed"):
        duo.compose("e", "a + 2*b")


def test_a_cache_hit_imports_no_torch(duo: Registry, sqlite_url: str, tmp_path: Path) -> None:
    duo.compose("c", "a - 0.5*b")
    program = (
        "import sys; from registry import Registry\n"
        "with Registry.open(sys.argv[1]) as catalog: print(catalog.compose('d', '-0.5*b + a').cached, 'torch' in sys.modules)"
    )
    assert sqlite_url.startswith(f"sqlite:///{tmp_path}/home/")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "home")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False"]


def test_bytes_that_are_gone_are_computed_again(duo: Registry) -> None:
    first = duo.compose("c", "a + b")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        blob(duo, "c", name).unlink()
    again = duo.compose("c", "a + b")
    assert (again.ref, again.cached, again.digest) == ("c@1", False, first.digest)
    assert duo.verify(["c"])[0].ok


def test_derived_versions_compose_further(pair: Registry, tmp_path: Path) -> None:
    pair.compose("c", "a - 0.4*b")
    made = pair.compose("d", "2*(c + truncate(a - c, rank=2))")
    assert [(p.ref, p.coefficient) for p in made.parents] == [("c@1", "0"), ("a@1", "2")] or len(
        made.parents
    ) == 2
    pair.compose("e", "d - d@1 + c")
    a, b, e = (deltas(pair, name, tmp_path / f"out-{name}") for name in "abe")
    torch.testing.assert_close(e[V0], a[V0] - 0.4 * b[V0], rtol=1e-4, atol=1e-4)
    assert {node.ref for node in pair.lineage("e").nodes} == {"e@1", "d@1", "c@1", "a@1", "b@1"}
    assert all(found.ok for found in pair.verify(rebuild=True))


def test_a_moved_alias_makes_another_version(pair: Registry, tmp_path: Path) -> None:
    pair.compose("c", "a + b")
    pair.add(make_lora(tmp_path / "new", seed=9), "a")
    made = pair.compose("c", "a + b")
    assert (made.ref, made.created, made.cached) == ("c@2", True, False)
    assert made.parents[0].ref == "a@2"
    assert pair.compose("c", "a@1 + b").ref == "c@1"


def test_a_warning_tells_when_factors_do_not_share_a_start(duo: Registry) -> None:
    made = duo.compose("c", "factors(a + b)")
    assert any("A factors" in warning for warning in made.warnings)
    assert duo.compose("c", "a + b").warnings == ()


def test_progress_counts_the_modules(duo: Registry) -> None:
    told: list[tuple[str, int, int]] = []
    duo.compose("c", "a + b", progress=lambda what, done, total: told.append((what, done, total)))
    assert told == [("composing", number, 3) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "error", "code", "said"),
    [
        ("a + nosuch", NotFound, 3, "nosuch"),
        ("a + b@9", NotFound, 3, "column 5"),
        ("a + b@prod", NotFound, 3, "prod"),
        ("a + sha256:00000000", NotFound, 3, "sha256:00000000"),
        ("a -b", ExpressionError, 2, "column 3"),
        ("a + ", ExpressionError, 2, "column 5"),
        ("nan*a", ExpressionError, 2, "not a finite number"),
        ("inf*a + b", ExpressionError, 2, "not a finite number"),
        ("1e39*a", ExpressionError, 2, "finite"),
        ("1e37*(100*a + b)", UsageError, 2, "finite"),
        ("nosuch(a, b)", Refused, 7, "nosuch"),
        ("truncate(a)", UsageError, 2, "truncate"),
        ("truncate(a, rank=0)", UsageError, 2, "rank"),
        ("truncate(a, rank=2, energy=0.5)", UsageError, 2, "truncate"),
        ("truncate(a, rnak=2)", UsageError, 2, "rnak"),
        ("truncate(a, b, rank=2)", UsageError, 2, "truncate"),
        (
            "0.12345678901234567890123456789*truncate(" * 12 + "a" + ", rank=2)" * 12,
            UsageError,
            2,
            "too long",
        ),
    ],
)
def test_an_expression_that_cannot_be_composed_is_refused(
    text: str, error: type[RegistryError], code: int, said: str, duo: Registry
) -> None:
    with refused(duo, error, said, code=code):
        duo.compose("c", text)
    with refused(duo, error, said, code=code):
        duo.check(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 2, "energy": "0.5"}, "exclude one another"),
        ({"rank": 0}, "rank"),
        ({"energy": "nan"}, "energy"),
        ({"energy": "lots"}, "lots"),
        ({"energy": 0}, "energy"),
        ({"dtype": "int8"}, "int8"),
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**70)}, "seed"),
        ({"name": "no name"}, "no name"),
        ({"tags": {"k": "\0"}}, "tag k"),
        ({"note": "\udcff"}, "note"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_usage_error(
    options: dict[str, Any], said: str, duo: Registry
) -> None:
    with refused(duo, UsageError, said, code=2):
        duo.compose(**({"name": "c", "expression": "a + b"} | options))


def test_what_does_not_belong_together_is_refused_by_both_names(catalog: Registry, tmp_path: Path) -> None:
    catalog.add(make_lora(tmp_path / "a"), "a")
    catalog.add(make_ia3(tmp_path / "i"), "i")
    catalog.add(make_lora(tmp_path / "o", base="other/base"), "o")
    catalog.add(make_lora(tmp_path / "s", modules={**LINEARS, Q0: (12, 9)}), "s")
    catalog.add(make_lora(tmp_path / "r1", config={"revision": "one"}, seed=1), "r1")
    catalog.add(make_lora(tmp_path / "r2", config={"revision": "two"}, seed=2), "r2")
    for text, parts in {
        "a + i": ("a@1 is lora", "i@1 is ia3"),
        "a - 0.5*o": ("a@1", "o@1", "tiny/base", "other/base"),
        "a + s": ("a@1", "s@1", Q0),
        "r1 + r2": ("r1@1", "r2@1", "tiny/base@one", "tiny/base@two"),
    }.items():
        with refused(catalog, Incompatible, *parts, code=7):
            catalog.compose("c", text)
        with refused(catalog, Incompatible, *parts, code=7):
            catalog.check(text)
    with refused(catalog, Refused, "truncate is not defined for ia3", code=7):
        catalog.compose("c", "i", rank=2)
    unsaid = catalog.compose("c", "a + r1")
    assert any("does not say which revision" in warning for warning in unsaid.warnings)
    assert unsaid.base_model.revision == "one"


def test_a_taken_name_is_a_conflict_before_anything_is_computed(pair: Registry, tmp_path: Path) -> None:
    pair.add(make_ia3(tmp_path / "i"), "i")
    with refused(pair, Conflict, "'A' differs only by case from 'a'", code=4):
        pair.compose("A", "a + b")
    with refused(pair, Conflict, "the name i is taken by ia3 adapters", code=4):
        pair.compose("i", "a + b")
    with refused(pair, Conflict, "the name a is taken by lora adapters", code=4):
        pair.compose("a", "2*i")


def test_a_damaged_input_is_an_integrity_failure_that_names_it(duo: Registry) -> None:
    damage(blob(duo, "b"))
    with refused(duo, IntegrityFailure, "adapter_model.safetensors of b@1 is damaged", code=5):
        duo.compose("c", "a + b")
    blob(duo, "a").unlink()
    with refused(duo, IntegrityFailure, "missing", code=5):
        duo.compose("c", "2*a")


def test_a_result_too_large_for_its_dtype_is_refused(duo: Registry) -> None:
    with refused(duo, Refused, "overflows float16", code=7):
        duo.compose("c", "60000*a", dtype="float16")


def test_a_full_disk_leaves_nothing(duo: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with refused(duo, StorageFailure, "No space left on device", code=1), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        duo.compose("c", "a + b")
    assert duo.compose("c", "a + b").created


def test_the_same_recipe_gives_the_same_bytes(duo: Registry, tmp_path: Path) -> None:
    first = duo.compose("c", "truncate(a - 0.3*b, rank=3)")
    duo.delete("c")
    duo.gc(apply=True)
    again = duo.compose("d", "truncate(a - 0.3*b, rank=3)")
    assert (again.cached, again.digest) == (False, first.digest)
    assert load_tensors(Path(duo.checkout("d", tmp_path / "d").path)).keys()
