"""Laws that every element-wise method obeys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry import methods
from registry.deltas import Delta, Dense, LowRank, Rescaling, Rows, dense, total
from registry.errors import Incompatible, UsageError
from registry.methods import _blocks
from tests.methods.elements import LAW, WEIGHTS, inputs, low, merge, terms, three, value, vectors

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("ties", {"density": "0.4"}),
    ("ties", {"density": "0.4", "rescale": "l1", "sign": "frequency", "divisor": "weight"}),
    ("ties", {"density": "0.4", "divisor": "none", "scale": "-1.5"}),
    ("dare", {"density": "0.6"}),
    ("dare", {"density": "0.6", "rescale": "l1"}),
    ("dare_ties", {"density": "0.6"}),
    ("della", {"density": "0.6"}),
    ("della", {"density": "0.6", "rescale": "l1", "elect": "none", "divisor": "none"}),
    ("breadcrumbs", {"density": "0.5", "gamma": "0.2"}),
    ("breadcrumbs", {"density": "0.5", "elect": "weighted", "divisor": "count"}),
    ("magnitude_prune", {"density": "0.4"}),
    ("sce", {"density": "0.5"}),
]
RANDOM = [(name, parameters) for name, parameters in METHODS if name in {"dare", "dare_ties", "della"}]
FIXED = [pair for pair in METHODS if pair not in RANDOM]
ON_FACTORS = [pair for pair in METHODS if pair[1].get("divisor", "none") == "none"]
WHOLE = [
    ("dare", {"density": 1}),
    ("magnitude_prune", {"density": 1}),
    ("breadcrumbs", {"density": 1, "gamma": 0}),
    ("della", {"density": 1, "epsilon": 0, "elect": "none", "divisor": "none"}),
]
every = pytest.mark.parametrize(("name", "parameters"), METHODS)


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@every
@LAW
@given(deltas=inputs(), seed=st.integers(0, 9))
def test_negative_weights_negate(
    name: str, parameters: dict[str, Any], deltas: list[LowRank | None], seed: int
) -> None:
    found = value(name, terms(deltas), seed=seed, **parameters)
    negated = value(name, terms(deltas, [-w for w in WEIGHTS]), seed=seed, **parameters)
    same(negated, -found)


@every
@LAW
@given(deltas=inputs())
def test_a_missing_module_is_a_zero_adapter_is_weight_zero(
    name: str, parameters: dict[str, Any], deltas: list[LowRank | None]
) -> None:
    like = next(delta for delta in deltas if delta is not None)
    nothing = LowRank(torch.zeros_like(like.up), like.down)
    filled = [nothing if delta is None else delta for delta in deltas]
    found = value(name, terms(deltas), **parameters)
    same(value(name, terms(filled), **parameters), found)
    if deltas[1] is None and "weight" not in parameters.values():
        other = low(*like.shape, 3, 5)
        weightless: list[Delta | None] = [deltas[0], other, deltas[2]]
        same(value(name, terms(weightless, [WEIGHTS[0], 0.0, WEIGHTS[2]]), **parameters), found)


@every
@pytest.mark.parametrize("on", ["delta", "factors"])
def test_only_weights_of_zero_give_zero(name: str, parameters: dict[str, Any], on: str) -> None:
    merged = merge(name, [(0.0, low(4, 3, 2, 1)), (0.0, low(4, 3, 5, 2))], on=on, **parameters)
    assert isinstance(merged, LowRank)
    assert merged.rank == 1
    assert not dense(merged).any()
    rescaling = merge(name, [(0.0, vectors()[0]), (0.0, vectors()[1])], **parameters)
    assert isinstance(rescaling, Rescaling)
    assert not rescaling.offset.any()


@every
@LAW
@given(deltas=inputs())
def test_the_result_is_that_of_the_matrices_however_they_are_factored(
    name: str, parameters: dict[str, Any], deltas: list[LowRank | None]
) -> None:
    matrices = [
        None if delta is None else Dense(delta.scale * (delta.up @ delta.down), 1) for delta in deltas
    ]
    same(value(name, terms(deltas), **parameters), value(name, terms(matrices), **parameters))


@pytest.mark.parametrize(("name", "parameters"), FIXED)
def test_the_order_of_the_inputs_does_not_matter(name: str, parameters: dict[str, Any]) -> None:
    given = terms(three())
    torch.testing.assert_close(value(name, given, **parameters), value(name, given[::-1], **parameters))


@every
def test_twice_the_weights_give_twice_the_result(name: str, parameters: dict[str, Any]) -> None:
    if parameters.get("divisor") == "weight":
        return
    doubled = terms(three(), [2 * w for w in WEIGHTS])
    same(value(name, doubled, **parameters), 2 * value(name, terms(three()), **parameters))


@pytest.mark.parametrize(("name", "parameters"), WHOLE)
def test_where_all_is_kept_it_is_the_exact_sum(name: str, parameters: dict[str, Any]) -> None:
    total = sum(w * dense(delta) for w, delta in zip(WEIGHTS, three(), strict=True))
    torch.testing.assert_close(value(name, terms(three()), **parameters), total)


@every
def test_vectors_of_ia3_are_merged_as_one_row(name: str, parameters: dict[str, Any]) -> None:
    merged = merge(name, terms(vectors()), **parameters)
    assert isinstance(merged, Rescaling)
    rows = [Dense(vector.offset[None], 1) for vector in vectors()]
    same(merged.offset, value(name, terms(rows), **parameters)[0])


@every
def test_what_only_lora_has_is_refused_for_vectors(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(Incompatible, match="rank has no meaning"):
        merge(name, terms(vectors()), rank=2, **parameters)
    with pytest.raises(Incompatible, match=f"{name} works on LoRA's factors here, and adapter0 has none"):
        merge(name, terms(vectors()), on="factors", **parameters)


@every
def test_the_largest_rank_of_the_inputs_is_what_an_adapter_gets(
    name: str, parameters: dict[str, Any]
) -> None:
    merged, chosen = (
        merge(name, terms(three()), **parameters),
        merge(name, terms(three()), rank=6, **parameters),
    )
    assert isinstance(merged, Dense)
    assert isinstance(chosen, Dense)
    assert (merged.rank, chosen.rank) == (4, 6)
    assert methods.build(name, parameters).rank_bound([1, 4, 2]) == 4
    assert methods.build(name, {**parameters, "rank": 6}).rank_bound([1, 4, 2]) == 6


@every
def test_form_and_kernel_are_kept(name: str, parameters: dict[str, Any]) -> None:
    conv = [LowRank(d.up, d.down, form="conv", kernel=(2, 2)) for d in three(3, 8)]
    merged = merge(name, terms(conv), **parameters)
    assert isinstance(merged, Dense)
    assert (merged.form, merged.kernel, merged.shape) == ("conv", (2, 2), (3, 8))


@every
def test_float32_stays_float32_and_float64_is_contagious(name: str, parameters: dict[str, Any]) -> None:
    narrow = [LowRank(d.up.bfloat16(), d.down.bfloat16()) for d in three()]
    merged, wide = (merge(name, terms(d), **parameters) for d in (narrow, [*narrow[:2], three()[2]]))
    assert isinstance(merged, Dense)
    assert isinstance(wide, Dense)
    assert (merged.weight.dtype, wide.weight.dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize(("name", "parameters"), ON_FACTORS)
def test_on_factors_negative_weights_negate_too(name: str, parameters: dict[str, Any]) -> None:
    given = [low(7, 5, 3, seed) for seed in range(3)]
    found = merge(name, terms(given), on="factors", **parameters)
    assert isinstance(found, LowRank)
    assert found.rank == 3
    negated = value(name, terms(given, [-w for w in WEIGHTS]), on="factors", **parameters)
    same(negated, -dense(found))


@every
def test_on_factors_ranks_must_be_equal(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(Incompatible) as caught:
        merge(name, terms(three()), on="factors", **parameters)
    assert caught.value.message == (
        f"{name} needs equal ranks, but in module h.0.q adapter0 has 1 and adapter1 has 4"
    )
    with pytest.raises(UsageError, match="on=factors keeps the inputs' rank"):
        methods.build(name, {"on": "factors", "rank": 3, **parameters})


def test_different_shapes_are_refused_naming_both_inputs() -> None:
    with pytest.raises(Incompatible) as caught:
        merge("ties", [(1.0, low(4, 3, 2, 0)), (1.0, low(4, 6, 2, 1))], density=1)
    assert caught.value.message == "module h.0.q is linear 4x3 in adapter0 but linear 4x6 in adapter1"


@every
@pytest.mark.parametrize("on", ["delta", "factors"])
def test_the_size_of_blocks_does_not_show(
    name: str, parameters: dict[str, Any], on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [low(13, 11, 3, seed) for seed in range(3)]
    plain = terms(given if on == "factors" else [Dense(dense(each), 1) for each in given])
    found = value(name, plain, on=on, **parameters)
    for elements in (1, 22, 100):
        monkeypatch.setattr(_blocks, "_ELEMENTS", elements)
        again = value(name, plain, on=on, **parameters)  # sums over all blocks are rounded in another order
        torch.testing.assert_close(again, found, rtol=1e-14, atol=1e-14)


@every
def test_no_input_is_ever_whole(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heights: list[int] = []
    original = _blocks.of_delta

    def spied(*given: Any) -> _blocks.Term:
        term = original(*given)

        def read(rows: slice) -> Tensor:
            heights.append(rows.stop - rows.start)
            return term.read(rows)

        return replace(term, read=read)

    monkeypatch.setattr(_blocks, "of_delta", spied)
    monkeypatch.setattr(_blocks, "_ELEMENTS", 100)
    value(name, terms(three(40, 30)), **parameters)
    assert max(heights) == 3


@every
def test_rows_are_the_same_bits_whichever_are_asked_for(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _blocks, "_ELEMENTS", 40
    )  # three rows, so that most slices begin and end within a block
    made = merge(name, terms(three(11, 13)), **parameters)
    assert isinstance(made, Dense)
    asked = [slice(start, stop) for stop in range(12) for start in range(stop)]
    for delta in (made, total([(1.0, made)]), total([(0.5, made), (-0.3, made), (0.0, made)])):
        assert isinstance(delta.values, Rows)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(delta.rows, asked))
        for rows, each in zip(asked, found, strict=True):
            same(each, delta.weight[rows])


@pytest.mark.parametrize("form", ["linear", "embedding"])
def test_of_matrices_and_for_tables_the_result_is_whole(form: Any) -> None:
    given = [replace(each, form=form) for each in three()]
    dense_too: list[Delta] = [given[0], Dense(dense(given[1]), 4, form=form), given[2]]
    found, other = merge("ties", terms(given), density="0.5"), merge("ties", terms(dense_too), density="0.5")
    assert isinstance(found, Dense)
    assert isinstance(other, Dense)
    assert isinstance(found.values, Rows) == (form == "linear")
    assert isinstance(other.values, Tensor)
    torch.testing.assert_close(found.weight, other.weight)


@pytest.mark.parametrize(("name", "parameters"), RANDOM)
def test_draws_depend_on_seed_module_and_position_alone(name: str, parameters: dict[str, Any]) -> None:
    given = terms(three(20, 30))
    found = value(name, given, **parameters)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            same(value(name, given, **parameters), found)
    finally:
        torch.set_num_threads(before)
    for changed in ({"seed": 1}, {"module": "h.1.q"}):
        assert not torch.equal(value(name, given, **parameters, **changed), found)
    first, second = (value(name, [(1.0, given[0][1]), (w, given[0][1])], **parameters) for w in (0.0, 1.0))
    assert not torch.equal(first, second)


@every
@pytest.mark.parametrize("density", ["0", "-0.1", "1.1", "nan"])
def test_density_is_checked(name: str, parameters: dict[str, Any], density: str) -> None:
    with pytest.raises(UsageError) as caught:
        methods.build(name, {**parameters, "density": density})
    assert caught.value.message.startswith(f"{name}: density: ")
