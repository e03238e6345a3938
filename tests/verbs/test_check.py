"""Check: bounds that hold, conflicts that are what they say, warnings, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registry import Registry, evaluate, peft_format
from registry.deltas import Dense, dense
from registry.errors import Incompatible
from registry.peft_format import StoredAdapter
from registry.results import Check, Conflict
from registry.verbs import _conflicts, _pinning
from tests.adapters import LINEARS, Q0, Q1, RESCALED, V0, load_tensors, lora_deltas, make_ia3, make_lora
from tests.verbs.places import refused, state

EXACT = [
    "a",
    "-0.4*a",
    "a + b",
    "a - 0.4*c",
    "a + b + c + d",  # more ranks than the weights have
    "0*a + b",
    "truncate(a + b, rank=3)",
    "truncate(a + b + c + d, rank=100)",
    "truncate(a + b, energy=0.9)",
    "balance(a + b + c + d)",
    "truncate(0*a, rank=3)",
    "average(a, b, c)",
    "average(a + b, c + d)",
    "slerp(a, b)",
    "karcher(a, b, c)",
    "model_stock(a, b, clamp=true)",
    "factors(0.5*a + 0.5*b)",
    "factors(a - b) + c",
    "factors(0*d + a)",
    "linear(a, b)",
    "lego(a, b)",
    "lego(a, c, rank=6)",
    "lego(0*d, a, a, rank=5)",
    "lego(0*d, a, b)",
    "lego(a, b, c, d, balanced=true)",
    "robust_merge(a, b)",
    "robust_merge(a, b, balanced=true)",
    "iso(a, b, c, d)",
    "iso(a, b, rank=3)",
    "iso_cts(a, b, c)",
    "cart(a, b, d, rank=3)",
    "cart(a, b, keep=1)",
    "tsv(a, b, d)",
    "tsv(a, b, keep=0.5)",
    "core(average(a, b))",
    "core(ties(a, b, density=0.5))",
    "core(ties(a, b, c, d, density=0.5))",
    "knots(ties(a, b, density=0.5))",
    "knots(ties(a, c, density=0.5, rank=1))",
    "core(tsv(a, b))",
    "core(knots(ties(a, c, density=0.5)))",
    "core(linear(a, b))",
    "ties(a, b, density=0.5, on=factors)",
    # A dense ΔW is of full rank, whatever rank an adapter would store it with.
    "truncate(ties(a, b, density=0.5), rank=7)",
    "truncate(ties(c, c, density=0.5), energy=1)",
    "average(ties(a, b, density=0.5), c)",
    "factors(ties(a, b, density=0.5))",
    "slerp(magnitude_prune(a, density=0.3), b)",
    "iso(ties(a, b, density=0.5), c)",
    "lego(dare(a, density=0.5), b)",
    "core(average(ties(a, b, density=0.5), c))",
    "2*average(ties(a, b, density=0.5), truncate(c, rank=1)) - a",
    "factors(average(a, b) - 0.5*average(b, a))",
    "ties(a, b, density=0.5, rank=8)",  # as many ranks as the weight has
]
APPROXIMATE = [
    "ties(a, b, density=0.5)",
    "ties(a, b, density=0.5, rank=2)",
    "dare(a, c, density=0.5)",
    "sce(a, b, density=0.5)",
    "della(a, b, density=0.5)",
    "breadcrumbs(a, b, density=0.5)",
    "dare_ties(a, b, density=0.5)",
    "magnitude_prune(a + c, density=0.5)",
    "ties(a, b, density=0.5) + c",
    "0.5*ties(a, b, density=0.5, rank=1) - dare(c, density=0.9)",
    "ties(dare(a, density=0.5), b, density=0.5)",
    "ties(average(a, c), b, density=0.5)",
]


@pytest.fixture
def four(local: Registry, tmp_path: Path) -> Registry:
    """``c`` has less rank and lacks a module, ``d`` has ranks of its own."""
    local.add(make_lora(tmp_path / "a", seed=0), "a")
    local.add(make_lora(tmp_path / "b", seed=1), "b")
    local.add(make_lora(tmp_path / "c", seed=2, r=2, modules={Q0: LINEARS[Q0], Q1: LINEARS[Q1]}), "c")
    local.add(make_lora(tmp_path / "d", seed=3, r=3, ranks={V0: 5, Q0: 9}), "d")
    return local


def computed(catalog: Registry, text: str) -> tuple[evaluate.Computation, StoredAdapter]:
    """The computation of an expression, and its composed adapter."""
    made = catalog.compose("made", text)
    with catalog._database.read() as session:
        plan = _pinning.plan(session, text, rank=None, energy=None, dtype=None)
    folder = Path(catalog.checkout(made.ref, f"{catalog._config.home}/out").path)
    sources = {
        pin.digest: peft_format.read(Path(catalog.checkout(pin.ref, folder / pin.name).path))
        for pin in plan.pins
    }
    return evaluate.prepare(plan.recipe, sources, device=torch.device("cpu")), peft_format.read(folder)


@pytest.mark.parametrize("text", [*EXACT, *APPROXIMATE])
def test_what_composing_gives_is_within_what_was_foretold(text: str, four: Registry) -> None:
    before = state(four)
    foretold = four.check(text, conflicts=False)
    assert state(four) == before
    computation, stored = computed(four, text)
    rows = {row.module: row for row in foretold.layout}
    assert list(rows) == list(stored.layout.modules) == list(computation.modules)
    assert foretold.exact == (text in EXACT)
    for name, row in rows.items():
        module = stored.layout.modules[name]
        assert (row.shape, row.form) == (module.shape, module.form)
        assert row.rank is not None
        assert module.rank is not None
        assert module.rank <= row.rank
        exact, kept = computation.module(name).delta, stored.delta(name)
        if row.exact:
            torch.testing.assert_close(dense(kept), dense(exact), rtol=1e-4, atol=1e-4)
        else:
            assert isinstance(exact, Dense)
    assert foretold.rank == max(row.rank or 0 for row in rows.values())
    assert foretold.rank >= (stored.rank or 0)
    assert foretold.modules == len(rows)
    assert foretold.parameters >= stored.parameters
    assert foretold.size == 4 * foretold.parameters


@pytest.mark.parametrize(
    ("text", "ranks"),  # of Q0 (12×8), V0 (6×8), Q1 (12×8)
    [
        ("a + b", (8, 8, 8)),
        ("a + c", (6, 4, 6)),
        ("a + d", (13, 9, 7)),
        ("0*a + c", (2, 1, 2)),
        ("truncate(a + b + d, rank=7)", (7, 6, 7)),
        ("iso(a, b, d)", (8, 6, 8)),
        ("tsv(a, b, d)", (8, 6, 8)),
        ("balance(a + b)", (8, 6, 8)),
        ("ties(a, b, density=0.5)", (4, 4, 4)),
        ("ties(a, b, density=0.5, rank=7)", (7, 6, 7)),
        ("ties(a, b, density=0.5) + c", (6, 4, 6)),
        ("core(ties(a, c, density=0.5))", (6, 4, 6)),
        ("average(ties(a, b, density=0.5), c)", (10, 6, 10)),
        ("factors(a - b)", (4, 4, 4)),
    ],
)
def test_bounds_are_no_higher_than_they_need_be(text: str, ranks: tuple[int, ...], four: Registry) -> None:
    found = {row.module: row.rank for row in four.check(text, conflicts=False).layout}
    assert tuple(found[name] for name in (Q0, V0, Q1)) == ranks


def test_each_module_says_which_inputs_have_it(four: Registry) -> None:
    rows = {row.module: row.ranks for row in four.check("d - c + a").layout}
    assert [one.ref for one in four.check("d - c + a").inputs] == ["d@1", "c@1", "a@1"]
    assert rows == {Q0: (9, 2, 4), V0: (5, None, 4), Q1: (3, 2, 4)}


def test_the_cost_is_in_bytes_and_operations(four: Registry) -> None:
    plain, merged = four.check("a + b"), four.check("ties(a, b, density=0.5)")
    assert plain.cost is not None
    assert merged.cost is not None
    assert plain.cost.read == four.show("a").size + four.show("b").size
    assert plain.cost.written == plain.size
    assert 0 < plain.cost.operations < merged.cost.operations


def only(found: Check) -> Conflict:
    (conflict,) = found.conflicts
    return conflict


def test_conflicts_are_those_of_the_deltas_with_the_coefficients_signs(
    four: Registry, tmp_path: Path
) -> None:
    a, b = lora_deltas(tmp_path / "a"), lora_deltas(tmp_path / "b")
    found = only(four.check("a - 0.4*b"))
    assert (found.a, found.b, found.common) == ("a@1", "b@1", 3)
    assert [each.module for each in found.modules] == sorted(LINEARS)
    for each in found.modules:
        x, y = a[each.module], -b[each.module]
        assert each.cosine == pytest.approx(float((x * y).sum() / (x.norm() * y.norm())), abs=1e-6)
        assert each.sign_agreement == pytest.approx(float((x.sign() == y.sign()).double().mean()))
        for value, one, other in ((each.column_overlap, x, y), (each.row_overlap, x.T, y.T)):
            left, right = (torch.linalg.svd(z).U[:, :4] for z in (one, other))
            assert value == pytest.approx(float((left.T @ right).square().sum()) / 4, abs=1e-6)
        assert not each.sampled
    values = [each.cosine or 0 for each in found.modules]
    assert found.cosine is not None
    assert (found.cosine.mean, found.cosine.min, found.cosine.max) == pytest.approx(
        (sum(values) / 3, min(values), max(values))
    )
    plus = only(four.check("a + 0.4*b"))
    assert [-(each.cosine or 0) for each in plus.modules] == pytest.approx(values)


def test_every_pair_is_compared_where_both_have_the_module(four: Registry) -> None:
    found = four.check("ties(a, -1*c, density=0.5) + d").conflicts
    assert [(each.a, each.b, each.common) for each in found] == [
        ("a@1", "c@1", 2),
        ("a@1", "d@1", 3),
        ("c@1", "d@1", 2),
    ]
    assert [each.module for each in found[0].modules] == [Q0, Q1]


def test_ia3_has_cosines_and_signs_and_no_subspaces(local: Registry, tmp_path: Path) -> None:
    for seed in (0, 1):
        local.add(make_ia3(tmp_path / f"i{seed}", seed=seed), f"i{seed}")
    found = local.check("i0 - i1")
    assert {row.form for row in found.layout} == {"rescaling"}
    assert {(row.rank, row.ranks, row.exact) for row in found.layout} == {(None, (None, None), True)}
    assert (found.rank, found.parameters) == (None, 12 + 12 + 16)
    each = next(each for each in only(found).modules if each.module in RESCALED)
    key = f"base_model.model.{each.module}.ia3_l"
    x, y = (load_tensors(tmp_path / f"i{seed}")[key].double() - 1 for seed in (0, 1))
    assert each.cosine == pytest.approx(-float((x * y).sum() / (x.norm() * y.norm())))
    assert each.sign_agreement == pytest.approx(float((x.sign() != y.sign()).double().mean()))
    assert (each.column_overlap, each.row_overlap, only(found).row_overlap) == (None, None, None)


def test_nothing_is_compared_on_request_or_where_there_is_but_one(four: Registry) -> None:
    assert four.check("a + b", conflicts=False).conflicts == ()
    assert four.check("a - 0.3*truncate(a, rank=2)", conflicts=True).conflicts == ()


def test_what_would_take_long_is_measured_in_some_modules(
    four: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = only(four.check("a - b"))
    monkeypatch.setattr(_conflicts, "_AT_EASE", 2 * _conflicts._PER_INPUT * 2 + 10_000_000)
    some = only(four.check("a - b"))
    assert (some.common, len(some.modules)) == (3, 2)
    assert set(some.modules) < set(whole.modules)
    assert only(four.check("a - b")) == some
    assert only(four.check("a - b", conflicts=True)) == whole


def said(found: Check, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in found.warnings)


def test_inputs_that_coincide_or_cancel_are_warned_of(four: Registry, tmp_path: Path) -> None:
    four.add(make_lora(tmp_path / "near", seed=0, alpha=7.9), "near")
    assert said(four.check("a + near"), "nearly the same", "a@1 and near@1", "1.000")
    assert not said(four.check("a + near"), "takes away")
    assert said(four.check("a - near"), "takes away", "a@1 and near@1", "-1.000")
    assert not said(four.check("a - near"), "nearly the same")
    assert not said(four.check("a - near"), "opposite signs")
    assert four.check("a + c").warnings == ()


def test_conflicting_signs_suggest_ties_unless_it_is_there(local: Registry, tmp_path: Path) -> None:
    key = "base_model.model.h.0.k.ia3_l"
    for name, signs in (("x", [1, 1, 1, 1]), ("y", [1, -1, -1, -1])):
        vector = 1 + 0.1 * torch.tensor(signs, dtype=torch.float32)[:, None]
        folder = make_ia3(tmp_path / name, modules={"h.0.k": 4}, feedforward={}, extra={key: vector})
        local.add(folder, name)
    assert said(local.check("x + y"), "opposite signs", "x@1 and y@1 in 75% of their elements", "ties(...)")
    assert not said(local.check("x - y"), "opposite signs")
    assert not said(local.check("ties(x, y, density=0.5)"), "opposite signs")


def test_factors_of_unlike_initializations_are_warned_of(four: Registry, tmp_path: Path) -> None:
    start = {key: value for key, value in load_tensors(tmp_path / "a").items() if "lora_A" in key}
    four.add(make_lora(tmp_path / "kin", seed=7, extra=start), "kin")
    assert said(four.check("factors(a + b)"), "one initialization", "smallest cosine")
    assert said(four.check("c + truncate(factors(a + b), rank=2)"), "one initialization")
    assert not said(four.check("factors(a + kin)"), "one initialization")
    assert not said(four.check("a + b"), "one initialization")
    assert not said(four.check("factors(a)"), "one initialization")
    made = four.compose("x", "factors(a + b)")
    assert set(made.warnings) <= set(four.check("factors(a + b)").warnings)


def test_ranks_that_are_too_high_to_serve_or_to_need_are_warned_of(four: Registry, tmp_path: Path) -> None:
    assert said(four.check("a + b + d"), "higher rank than the weight can have", "17 of 8", Q0, "3 modules")
    assert not said(four.check("a"), "higher rank")
    four.add(make_lora(tmp_path / "wide", modules={"w": (600, 600)}, r=300), "wide")
    assert not said(four.check("wide", conflicts=False), "vLLM")
    assert said(four.check("wide + 2*factors(-wide)", conflicts=False), "600", "vLLM", "--rank")


def test_unequal_ranks_are_refused_as_before(four: Registry) -> None:
    with refused(four, Incompatible, "factors needs equal ranks", "a@1 has 4", "c@1 has 2", code=7):
        four.check("factors(a + c)")
