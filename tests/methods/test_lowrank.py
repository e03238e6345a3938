"""Dense deltas: what an adapter stores of them, and what a model gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import deltas, evaluate, kinds
from registry.deltas import Dense, LowRank, dense
from registry.forms import Form
from registry.methods import Merged
from registry.methods._lowrank import low_rank
from registry.peft_format import StoredAdapter, read
from registry.recipe import Recipe
from tests.adapters import Q0, Q1, V0, call, combination, compute, linear, make_ia3, make_lora, materialize
from tests.methods.elements import LAW, low, value


def random(m: int, n: int, *, decay: float = 0.0) -> Tensor:
    """A matrix whose singular values fall as ``exp(−decay·i)``."""
    generator = torch.Generator().manual_seed(m * n)
    left, right = (
        torch.linalg.qr(torch.randn((d, min(m, n)), generator=generator).double()).Q for d in (m, n)
    )
    made: Tensor = left * torch.exp(-decay * torch.arange(min(m, n))) @ right.T
    return made


def approximated(weight: Tensor, rank: int) -> tuple[LowRank, Merged]:
    merged = low_rank(Dense(weight, rank))
    assert isinstance(merged.delta, LowRank)
    return merged.delta, merged


@LAW
@given(m=st.integers(1, 12), n=st.integers(1, 12), rank=st.integers(1, 14))
def test_a_small_matrix_is_approximated_as_well_as_can_be(m: int, n: int, rank: int) -> None:
    weight = torch.randn((m, n), generator=torch.Generator().manual_seed(m * n), dtype=torch.float64)
    values = torch.linalg.svdvals(weight)
    best = float(values[rank:].norm() / values.norm())
    found, merged = approximated(weight, rank)
    assert float((dense(found) - weight).norm() / weight.norm()) == pytest.approx(best, abs=1e-12)
    assert merged.report["error"] == pytest.approx(best, abs=1e-12)
    assert merged.report["energy"] == pytest.approx(1 - best**2, abs=1e-12)
    assert merged.report["rank"] == found.rank == min(rank, m, n)


@pytest.mark.parametrize(("decay", "excess"), [(0.0, 1.05), (0.01, 1.001), (0.1, 1.000001)])
@pytest.mark.parametrize("shape", [(300, 200), (200, 300)])
def test_a_large_one_nearly_so_and_the_error_is_the_measured_one(
    shape: tuple[int, int], decay: float, excess: float
) -> None:
    weight = random(*shape, decay=decay)
    values = torch.linalg.svdvals(weight)
    found, merged = approximated(weight, 16)
    error = float((dense(found) - weight).norm() / weight.norm())
    assert merged.report["error"] == pytest.approx(error, rel=1e-12)
    assert float(values[16:].norm() / values.norm()) <= error * (1 + 1e-12)
    assert error <= excess * float(values[16:].norm() / values.norm())


def excess(weight: Tensor, rank: int) -> float:
    """How much larger the error is than that of the best approximation, relative to it."""
    values = torch.linalg.svdvals(weight.double())
    best = float(values[rank:].norm() / values.norm())
    merged = approximated(weight, rank)[1]
    return (merged.report["error"] - best) / best


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("shape", [(500, 400), (400, 500)])
def test_in_float32_it_is_as_good(shape: tuple[int, int], rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(shape, generator=generator)
    uneven = noise * torch.rand(shape[0], 1, generator=generator) ** 4
    sparse = dense(low(*shape, 64, 0)).float() * (noise > 0.5)
    flat, decaying = (random(*shape, decay=decay).float() for decay in (0.01, 0.3))
    for weight in (noise, uneven, sparse, flat, decaying):
        found, merged = approximated(weight, rank)
        assert found.up.dtype == found.down.dtype == torch.float32
        assert -1e-5 < excess(weight, rank) < 1e-4
        measured = float((dense(found) - weight).norm() / weight.double().norm())
        assert merged.report["error"] == pytest.approx(measured, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 5, 30, 90])
def test_directions_that_run_out_are_not_counted_twice(rows: int, dtype: torch.dtype) -> None:
    weight = torch.zeros(400, 300, dtype=dtype)
    weight[:rows] = torch.randn(rows, 300, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values = torch.linalg.svdvals(weight.double())
    best = float(values[16:].norm() / values.norm())
    found, merged = approximated(weight, 16)
    assert found.rank == min(rows, 16)
    assert merged.report["error"] == pytest.approx(best, rel=1e-4, abs=2e-6)


def test_what_has_that_rank_comes_back_exactly() -> None:
    delta = low(300, 200, 5, 0)
    found, merged = approximated(dense(delta), 8)
    assert found.rank == 5
    assert merged.report["error"] < 1e-13
    torch.testing.assert_close(dense(found), dense(delta))


def test_zero_has_rank_one() -> None:
    found, merged = approximated(torch.zeros(5, 4), 3)
    assert (found.rank, merged.report) == (1, {"rank": 1.0, "energy": 1.0, "error": 0.0})


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_size_of_the_numbers_does_not_matter(size: float, dtype: torch.dtype) -> None:
    weight = random(100, 90, decay=0.1).to(dtype)
    small, plain = approximated(weight * size, 4)[1].report, approximated(weight, 4)[1].report
    assert small["error"] == pytest.approx(plain["error"], rel=1e-9 if dtype == torch.float64 else 1e-5)


def test_bytes_do_not_depend_on_threads_nor_on_the_global_generator() -> None:
    weight, before, found = random(300, 200, decay=0.01), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            found.append(approximated(weight, 8)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].up, found[1].up)
    assert torch.equal(found[0].down, found[1].down)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredAdapter]:
    root = tmp_path_factory.mktemp("trio")
    make_lora(root / "a", seed=1)
    make_lora(root / "b", seed=2, modules={Q0: (12, 8), "norm_proj": (3, 5)}, r=2)
    make_lora(root / "c", seed=3, ranks={Q0: 7}, alphas={V0: 3})
    return {name: read(root / name) for name in "abc"}


def prepared(made: Recipe, trio: dict[str, StoredAdapter]) -> evaluate.Computation:
    readers = {adapter.digest: adapter for adapter in trio.values()}
    return evaluate.prepare(made, readers, device=torch.device("cpu"))


def test_a_model_gets_the_dense_delta_and_an_adapter_its_approximation(
    trio: dict[str, StoredAdapter], tmp_path: Path
) -> None:
    a, b = trio["a"], trio["b"]
    made = combination((1, call("ties", linear((1, a)), linear((-0.5, b)), density="0.5", rank=2)))
    computation = prepared(made, trio)
    exact = computation.module(Q0)
    assert isinstance(exact.delta, Dense)
    assert exact.report == {}
    expected = value("ties", [(1.0, a.delta(Q0)), (-0.5, b.delta(Q0))], density="0.5")
    torch.testing.assert_close(dense(exact.delta), expected)

    stored = materialize(tmp_path / "out", made, a, b)
    assert stored.rank == 2
    for item in computation:
        whole = computation.module(item.module).delta
        left, values, right = torch.linalg.svd(dense(whole), full_matrices=False)
        best = left[:, :2] * values[:2] @ right[:2]
        torch.testing.assert_close(dense(stored.delta(item.module)), best, rtol=1e-5, atol=1e-5)
        assert item.report["error"] == pytest.approx(float(values[2:].norm() / values.norm()), abs=1e-9)


def test_dense_and_factored_terms_add_up(trio: dict[str, StoredAdapter]) -> None:
    a, b, c = trio.values()
    inner = call("ties", linear((1, a)), linear((1, b)), density="0.5")
    computation = prepared(combination((0.5, inner), (-2, c)), trio)
    found = computation.module(Q0).delta
    assert isinstance(found, Dense)
    assert found.rank == 4 + 7
    expected = 0.5 * value("ties", [(1.0, a.delta(Q0)), (1.0, b.delta(Q0))], density="0.5")
    torch.testing.assert_close(dense(found), expected - 2 * dense(c.delta(Q0)), rtol=1e-5, atol=1e-5)
    alone = computation.module("norm_proj").delta
    assert alone.shape == (3, 5)


def test_other_methods_take_a_dense_delta_as_factors(trio: dict[str, StoredAdapter]) -> None:
    a, b, _ = trio.values()
    inner = call("ties", linear((1, a)), linear((1, b)), density="0.5")
    made = combination((1, call("truncate", linear((1, inner)), rank=3)))
    whole = prepared(combination((1, inner)), trio)
    for item in compute(made, a, b):
        left, values, right = torch.linalg.svd(dense(whole.module(item.module).delta), full_matrices=False)
        torch.testing.assert_close(
            dense(item.delta), left[:, :3] * values[:3] @ right[:3], rtol=1e-5, atol=1e-5
        )


def test_random_methods_inside_each_other_draw_anew(trio: dict[str, StoredAdapter]) -> None:
    a = trio["a"]
    inner = call("dare", linear((1, a)), density="0.5", rescale="none")
    outer = call("dare", linear((1, inner)), density="0.5", rescale="none")
    once, twice = (dense(prepared(combination((1, c)), trio).module(Q0).delta) for c in (inner, outer))
    assert 0 < int(twice.count_nonzero()) < int(once.count_nonzero())


def test_modules_may_be_computed_in_any_order(trio: dict[str, StoredAdapter]) -> None:
    made = combination((1, call("dare", linear((1, trio["a"])), linear((0.5, trio["c"])), density="0.5")))
    names = [Q0, V0, Q1]
    orders = [{n: prepared(made, trio).module(n).delta for n in order} for order in (names, names[::-1])]
    for name in names:
        assert torch.equal(dense(orders[0][name]), dense(orders[1][name]))


def test_vectors_come_out_exactly(tmp_path: Path) -> None:
    a, b = read(make_ia3(tmp_path / "a", seed=1)), read(make_ia3(tmp_path / "b", seed=2))
    made = combination((1, call("ties", linear((1, a)), linear((-1, b)), density="0.5")))
    for item in compute(made.model_copy(update={"kind": "ia3"}), a, b):
        expected = value("ties", [(1.0, a.delta(item.module)), (-1.0, b.delta(item.module))], density="0.5")
        torch.testing.assert_close(dense(item.delta), expected, rtol=0, atol=0)
        assert item.report == {}


@pytest.mark.parametrize(("form", "transposed"), [("linear", False), ("linear", True), ("embedding", False)])
def test_a_dense_delta_changes_rows_of_the_base(form: Form, transposed: bool) -> None:
    kind, weight = kinds.load("lora"), torch.randn(6, 8)
    whole = weight.T if transposed or form == "embedding" else weight
    for row in (0, 2):
        block = torch.randn(3, whole.shape[1])
        found = kind.patch(Dense(weight, 1, form=form), block.clone(), row, transposed=transposed)
        torch.testing.assert_close(found, block + whole[row : row + 3])
    assert not kind.patches_bias(Dense(weight, 1))


@LAW
@given(m=st.integers(1, 6), n=st.integers(1, 6))
def test_the_vector_space_holds_dense_deltas_too(m: int, n: int) -> None:
    a, b = Dense(torch.randn(m, n), 2), low(m, n, 3, 0)
    torch.testing.assert_close(dense(deltas.factored(a)), dense(a))
    torch.testing.assert_close(dense(deltas.total([(2.0, a), (-0.5, b)])), 2 * dense(a) - 0.5 * dense(b))
    assert deltas.total([(0.0, a), (1.0, b)]).rank == 3
    assert deltas.inner(a, b) == pytest.approx(float((dense(a) * dense(b)).sum()))
    assert deltas.norm(a) == pytest.approx(float(dense(a).norm()))
    change = deltas.compare(b, a)
    assert change.relative == pytest.approx(float((dense(a) - dense(b)).norm() / dense(b).norm()))
    assert deltas.describe(a) == f"linear {m}x{n}"
