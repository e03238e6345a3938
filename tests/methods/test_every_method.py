"""What holds of every merge method there is, computed from recipes: a new one is held to it without being named here.

Where a method keeps to one of these laws by its nature only, it stands in a table with the reason, and a test shows
that it does break the law.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import Delta, Dense, LowRank, Rescaling, dense
from registry.errors import Incompatible
from registry.evaluate import Computation, Evaluated
from tests.methods.cases import stacks
from tests.methods.strategies import (
    FEW,
    MODULE,
    NAMES,
    OTHER,
    Held,
    alone,
    built,
    called,
    calling,
    computation,
    gross,
    held,
    low,
    merged,
    outcome,
    regauged,
    reordered,
    started,
    stored,
    taken,
    whole,
)

every = pytest.mark.parametrize("name", NAMES)
Stack = list[LowRank | None]

IN_ORDER = {
    "dare": "each position draws its own numbers",
    "dare_ties": "each position draws its own numbers",
    "della": "each position draws its own numbers",
    "slerp": "t is the way from the first input to the second",
    "subtract_init": "the second input is taken away",
}
"""Methods whose inputs have places."""

BY_FACTORS = {"core": "by default its basis is that of the stacked factors"}
"""Methods that depend on how a ΔW is factored, beside those that say that they work on factors."""

NOT_SCALED = {
    "factors": "a weight multiplies A and B, so that twice the weights are four times the result",
    "lego": "its clusters weigh A against B, and a weight is part of B",
}
"""Methods that are not homogeneous in their weights."""

COUNTS_ZEROS = {"robust_merge": "an input with the module takes part in its mean, though it be zero"}
"""Methods that tell an input of zeros from one without the module."""

NEEDS_ALL = {"subtract_init": "what training changed cannot be told without the start of it"}
"""Methods that refuse an input without the module."""

OPTIONS: dict[str, dict[str, Any]] = {"slerp": {"t": "0.25"}}
"""Other parameters than the defaults, where those are symmetric by chance."""


def zeros(delta: LowRank) -> LowRank:
    return LowRank(torch.zeros_like(delta.up), torch.zeros_like(delta.down), delta.scale)


def deficient(m: int, n: int, k: int, seed: int) -> LowRank:
    delta = low(m, n, k, seed)
    delta.up[:, k // 2 :] = delta.up[:, :1]
    delta.down[k // 2 :] = delta.down[:1]
    return delta


def narrow(dtype: torch.dtype) -> Stack:
    return [low(7, 5, 3, seed, dtype=dtype) for seed in range(3)]


def formed(form: Any, kernel: tuple[int, ...]) -> Stack:
    return [LowRank(d.up, d.down, 0.5, form, kernel) for d in (low(6, 8, 3, seed) for seed in range(3))]


def plain(m: int = 7, n: int = 5, k: int = 3) -> list[LowRank]:
    return [low(m, n, k, seed, 0.5 + seed) for seed in range(3)]


A, B, C = plain()
EDGES: dict[str, Stack] = {
    "plain": [A, B, C],
    "missing in the first": [None, B, C],
    "missing in the second": [A, None, C],
    "in one input alone": [A, None, None],
    "the same three times": [A, A, A],
    "one twice": [A, B, A],
    "opposites": [A, LowRank(-A.up, A.down, A.scale), C],
    "one zero": [A, zeros(B), C],
    "all zero": [zeros(A), zeros(B), zeros(C)],
    "zero up, as before training": [LowRank(torch.zeros_like(d.up), d.down, d.scale) for d in (A, B, C)],
    "rank-deficient": [deficient(7, 5, 4, seed) for seed in range(3)],
    "rank-deficient and one zero": [deficient(7, 5, 4, 0), zeros(low(7, 5, 4, 1)), None],
    "rank beyond m and n": [low(4, 3, 9, seed) for seed in range(3)],
    "rank 1": [low(7, 5, 1, seed) for seed in range(3)],
    "one row": [low(1, 6, 2, seed) for seed in range(3)],
    "one column": [low(6, 1, 2, seed) for seed in range(3)],
    "one element": [low(1, 1, 1, seed) for seed in range(3)],
    "one element of rank 3": [low(1, 1, 3, seed) for seed in range(3)],
    "float16": narrow(torch.float16),
    "bfloat16": narrow(torch.bfloat16),
    "float32": narrow(torch.float32),
    "one of each dtype": [narrow(torch.float16)[0], narrow(torch.bfloat16)[1], narrow(torch.float64)[2]],
    "tiny": [LowRank(d.up, d.down, 1e-30) for d in (A, B, C)],
    "huge": [LowRank(d.up, d.down, 1e30) for d in (A, B, C)],
    "an embedding": formed("embedding", ()),
    "a convolution": formed("conv", (2, 2)),
}
MIXED: dict[str, Stack] = {
    "mixed ranks": [low(7, 5, k, k) for k in (1, 4, 2)],
    "mixed ranks, beyond m and n": [low(3, 4, k, k) for k in (1, 11, 3)],
    "mixed ranks, one missing": [low(7, 5, 4, 0), None, low(7, 5, 1, 1)],
}
WIDE = {
    name: stack
    for name, stack in EDGES.items()
    if all(d is None or d.up.dtype == torch.float64 for d in stack)
}


def fits(name: str, stack: Stack) -> bool:
    """Whether the method is defined for these inputs: one of them at least has the module."""
    given = taken(name, stack)
    if name in NEEDS_ALL:
        return None not in given
    equal = not built(name).needs_equal_ranks() or len({d.rank for d in stack if d is not None}) == 1
    return equal and bool(present(given))


def present(stack: list[Delta | None]) -> list[Delta]:
    return [delta for delta in stack if delta is not None]


@every
@pytest.mark.parametrize("edge", EDGES)
def test_the_result_is_finite_fits_the_module_and_can_be_stored(name: str, edge: str) -> None:
    if fits(name, EDGES[edge]):
        check_stored(name, EDGES[edge])


@pytest.mark.parametrize("name", NEEDS_ALL)
def test_what_needs_the_module_in_every_input_says_in_which_it_is_missing(name: str) -> None:
    with pytest.raises(
        Incompatible, match=f"{re.escape(MODULE)} is missing in {held(A, None)[1].digest[:19]}"
    ):
        outcome(name, EDGES["missing in the second"])


def check_stored(name: str, stack: Stack) -> None:
    computed = started(name, stack)
    exact, kept = computed.module(MODULE), stored(computed)
    like = present(taken(name, stack))[0]
    assert isinstance(like, LowRank)
    assert not isinstance(exact.delta, Rescaling)
    assert isinstance(kept.delta, LowRank)
    for delta in (exact.delta, kept.delta):
        assert (delta.shape, delta.form, delta.kernel) == (like.shape, like.form, like.kernel)
    found, matrix = dense(kept.delta), dense(exact.delta)
    assert kept.delta.rank >= 1
    assert kept.delta.up.isfinite().all()
    assert kept.delta.down.isfinite().all()
    assert all(math.isfinite(value) for value in {**exact.report, **kept.report}.values())
    if not isinstance(exact.delta, Dense):
        assert torch.equal(found, matrix)
        return
    assert kept.delta.rank <= max(1, exact.delta.rank)
    lost = float((found - matrix).norm())
    assert lost == pytest.approx(kept.report["error"] * float(matrix.norm()), abs=1e-9 * gross(stack))


@every
def test_the_same_holds_of_any_other_inputs(name: str) -> None:
    @FEW
    @given(stacks(2, 3))
    def holds(drawn: tuple[Stack, list[float]]) -> None:
        stack = drawn[0]
        if not fits(name, stack):
            return
        try:
            check_stored(name, stack)
        except Incompatible as error:
            if "cancel" not in error.message or not opposed(stack):
                raise

    holds()


def opposed(stack: Stack) -> bool:
    """Whether the cosines of the inputs add up to −N/2, the least they can: their directions sum to nothing."""
    units = [dense(d) / dense(d).norm() for d in stack if d is not None and dense(d).any()]
    return bool(units) and float(torch.stack(units).sum(0).norm()) < 1e-4


@every
@pytest.mark.parametrize("edge", MIXED)
def test_unequal_ranks_are_merged_or_refused_by_name(name: str, edge: str) -> None:
    stack = MIXED[edge]
    if name in NEEDS_ALL and None in stack:
        return
    if not built(name).needs_equal_ranks():
        found = stored(started(name, stack)).delta
        assert found.shape == next(d for d in stack if d is not None).shape
        assert dense(found).isfinite().all()
        return
    ranks = [d.rank for d in stack if d is not None]
    with pytest.raises(
        Incompatible, match=rf"{name} .*equal ranks.* {re.escape(MODULE)} .*{ranks[0]}.*{ranks[1]}"
    ):
        outcome(name, stack)


@every
def test_the_opposite_inputs_give_the_opposite_result(name: str) -> None:
    """By their weights, and by themselves."""
    for edge, stack in WIDE.items():
        if not fits(name, stack):
            continue
        found, size = merged(name, stack), gross(stack)
        opposite: Stack = [
            None if d is None else LowRank(-d.up, d.down, d.scale, d.form, d.kernel) for d in stack
        ]
        for other in (merged(name, stack, [-1] * 3), merged(name, opposite)):
            assert float((other + found).norm()) < 1e-10 * size, edge


@every
def test_twice_the_inputs_give_twice_the_result(name: str) -> None:
    for edge in ("plain", "one zero", "missing in the second", "rank-deficient", "one row"):
        stack = EDGES[edge]
        if not fits(name, stack):
            continue
        found, size = merged(name, stack), gross(stack)
        doubled: Stack = [None if d is None else LowRank(2 * d.up, d.down, d.scale) for d in stack]
        results = merged(name, stack, [2] * 3), merged(name, doubled)
        apart = max(float((other - 2 * found).norm()) / size for other in results)
        if name not in NOT_SCALED:
            assert apart < 1e-10, edge
        elif edge == "plain":
            assert apart > 1e-3, f"NOT_SCALED is wrong about {name}"


@every
def test_narrow_inputs_are_merged_as_the_numbers_they_are(name: str) -> None:
    """In float32 at least, whatever they are stored in."""
    for edge in ("float16", "bfloat16", "float32"):
        stack = EDGES[edge]
        wide = [LowRank(d.up.double(), d.down.double(), d.scale) for d in stack if d is not None]
        assert float((merged(name, stack) - merged(name, wide)).norm()) < 1e-6 * gross(stack), edge


@every
def test_one_adapter_given_twice_is_as_good_as_two_copies(name: str) -> None:
    a, b = held(A, A)
    twice, copies = (calling(name, [(1, a), ("0.5", other)]).matrices[MODULE] for other in (a, b))
    torch.testing.assert_close(twice, copies, rtol=1e-12, atol=1e-12)


@every
def test_zero_adapters_give_zero(name: str) -> None:
    for edge in ("all zero", "zero up, as before training"):
        assert not merged(name, EDGES[edge]).any()
    assert not merged(name, EDGES["plain"], [0, 0, 0]).any()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEEDS_ALL])
def test_a_missing_module_is_a_zero_delta(name: str) -> None:
    for edge in ("missing in the second", "rank-deficient and one zero"):
        stack = EDGES[edge]
        filled: Stack = [zeros(next(d for d in stack if d is not None)) if d is None else d for d in stack]
        apart = float((merged(name, filled) - merged(name, stack)).norm()) / gross(stack)
        if name in COUNTS_ZEROS:
            assert edge != "missing in the second" or apart > 1e-3, f"COUNTS_ZEROS is wrong about {name}"
        else:
            assert apart < 1e-10


@every
def test_the_order_of_the_inputs_matters_where_they_have_places_alone(name: str) -> None:
    stack: Stack = [low(8, 7, 3, seed, 0.5 + seed) for seed in range(3)]
    weights, options = ["0.7", "-0.4", "1.3"], OPTIONS.get(name, {})
    count = len(taken(name, stack))
    stack, weights = stack[:count], weights[:count]
    found = merged(name, stack, weights, **options)
    apart = max(
        float(
            (merged(name, [stack[i] for i in order], [weights[i] for i in order], **options) - found).norm()
        )
        for order in ([*range(1, count), 0], [*range(count)][::-1])
    )
    if name in IN_ORDER:
        assert apart > 1e-3 * gross(stack), f"IN_ORDER is wrong about {name}"
    else:
        assert apart < 1e-10 * gross(stack), f"the order matters: if it should, {name} belongs in IN_ORDER"


@every
def test_what_does_not_work_on_factors_does_not_see_them(name: str) -> None:
    """``(B·G, G⁻¹·A)`` is the same adapter. Whole-numbered factors make the same ΔW to the last bit."""

    sizes = st.sampled_from([(8, 7, 3), (6, 9, 2), (1, 8, 2), (5, 4, 1)])

    @FEW
    @given(st.integers(0, 2**16), sizes, st.booleans())
    def holds(seed: int, size: tuple[int, int, int], dependent: bool) -> None:
        stack = [whole(*size, 3 * seed + i) for i in range(3)]
        if dependent:  # what rounding leaves of ranks that are none must not grow with the factors
            stack[2] = reordered(stack[0], seed)
        turned = [(reordered if dependent else regauged)(delta, seed + i) for i, delta in enumerate(stack)]
        assert all(torch.equal(dense(d), dense(t)) for d, t in zip(stack, turned, strict=True))
        weights = [1, "-0.5", 2]
        found, other = (merged(name, deltas, weights) for deltas in (stack, turned))
        apart.append(float((other - found).norm()) / gross(stack))

    apart: list[float] = []
    holds()
    if built(name).in_factor_space() or name in BY_FACTORS:
        assert max(apart) > 1e-3, f"{name} does not depend on the factors, though it says so"
    else:
        assert max(apart) < 1e-9


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@every
def test_bits_depend_on_neither_threads_nor_other_modules_nor_order(name: str) -> None:
    """The modules are large enough for torch to share the work between threads."""
    both = [
        Held(f"sha256:{i:064}", {module: large(7 * i + j) for j, module in enumerate((MODULE, OTHER))})
        for i in range(2)
    ]
    fewer = [Held(adapter.digest, {MODULE: adapter.deltas[MODULE]}) for adapter in both]

    def fresh(given: list[Held]) -> Computation:
        return computation(alone(called(name, [(1, given[0]), ("-0.5", given[1])])), given, seed=5)

    with threads(1):
        first, other = fresh(both), fresh(both)
        exact = {module: dense(first.module(module).delta) for module in (MODULE, OTHER)}
        torch.rand(7)
        assert all(
            torch.equal(dense(other.module(module).delta), exact[module]) for module in (OTHER, MODULE)
        )
        assert torch.equal(dense(fresh(fewer).module(MODULE).delta), exact[MODULE])
        kept = [factors(item) for item in first]
    with threads(2):
        assert torch.equal(dense(fresh(both).module(MODULE).delta), exact[MODULE])
        for one, again in zip(kept, map(factors, fresh(both)), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))


def large(seed: int) -> LowRank:
    return low(360, 280, 12, seed, dtype=torch.float32)


def factors(item: Evaluated) -> tuple[Tensor, Tensor]:
    assert isinstance(item.delta, LowRank)
    return item.delta.up, item.delta.down


VECTORS = [name for name in NAMES if "ia3" in methods.family.load(name).kinds]
LENGTHS = {
    "plain": [6, 6, 6],
    "missing in the second": [6, 0, 6],
    "in one input alone": [6, 0, 0],
    "one element": [1, 1, 1],
}


def rescalings(edge: str, *, feedforward: bool = False) -> list[Delta | None]:
    made = [low(1, size or 1, 1, seed).down[0] for seed, size in enumerate(LENGTHS[edge])]
    return [
        Rescaling(offset, feedforward) if size else None
        for offset, size in zip(made, LENGTHS[edge], strict=True)
    ]


def rescaled(name: str, stack: list[Delta | None], weights: list[int]) -> Rescaling:
    adapters = [
        Held(
            f"sha256:{i:064}",
            {MODULE: d} if d is not None else {OTHER: Rescaling(torch.ones(2).double(), False)},
        )
        for i, d in enumerate(stack)
    ]
    made = called(name, list(zip(weights, adapters, strict=True)))
    found = computation(alone(made), adapters).module(MODULE).delta
    assert isinstance(found, Rescaling)
    return found


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("edge", LENGTHS)
@pytest.mark.parametrize("feedforward", [False, True])
def test_vectors_keep_their_side_and_have_opposites(name: str, edge: str, feedforward: bool) -> None:
    stack = rescalings(edge, feedforward=feedforward)
    found = rescaled(name, stack, [1, 1, 1])
    assert found.feedforward == feedforward
    assert found.shape == (max(LENGTHS[edge]),)
    assert found.offset.isfinite().all()
    opposite = rescaled(name, stack, [-1, -1, -1]).offset
    torch.testing.assert_close(opposite, -found.offset, rtol=1e-12, atol=1e-12)
    assert not rescaled(name, stack, [0, 0, 0]).offset.any()


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_a_matrix_of_one_row(name: str) -> None:
    """But for methods that look at rows or at the shape, and those draw the same numbers."""
    stack = rescalings("plain")
    rows: list[Delta | None] = [
        LowRank(torch.ones(1, 1).double(), dense(d)[None]) for d in stack if d is not None
    ]
    found = rescaled(name, stack, [1, 1, 1]).offset
    torch.testing.assert_close(found, merged(name, rows)[0], rtol=1e-12, atol=1e-12)
