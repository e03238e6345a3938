"""What every merge method keeps to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from registry import methods
from registry.deltas import Delta, LowRank, dense
from registry.methods import Merged, Method, Site
from tests.methods.elements import low

NAMES = methods.family.names()
NEEDED: dict[str, dict[str, Any]] = {
    **{name: {"density": "0.5"} for name in ("ties", "dare", "dare_ties", "della", "breadcrumbs")},
    **{name: {"density": "0.5"} for name in ("magnitude_prune", "sce")},
    "truncate": {"rank": 2},
    "cart": {"rank": 2},
    "lego": {"rank": 2},
}
every = pytest.mark.parametrize("name", NAMES)


def build(name: str) -> Method:
    return methods.build(name, NEEDED.get(name, {}))


def inputs(method: Method) -> list[LowRank]:
    least, most = method.arity
    return [low(8, 6, 3, seed) for seed in range(max(least, 2) if most is None else most)]


def merge(method: Method, deltas: list[LowRank], seed: int = 0) -> Merged:
    weights, site = [0.75, 0.5][: len(deltas)], Site("h.0.q", ["a", "b"][: len(deltas)], seed)
    if not method.wraps:
        return method.merge(deltas, weights, site)
    two = [low(8, 6, 3, seed) for seed in (0, 1)]
    inner = methods.build("ties", {"density": "0.5"})
    return method.around(lambda found: inner.merge(found, [0.75, 0.5], Site("h.0.q", ["a", "b"])), two)


@every
def test_it_is_called_what_its_file_is_called(name: str) -> None:
    assert methods.family.load(name).__name__ == "".join(part.title() for part in name.split("_"))


@every
def test_explicit_parameters_build_the_same_method(name: str) -> None:
    method = build(name)
    explicit = method.explicit()
    assert explicit.keys() == type(method).model_fields.keys()
    assert methods.build(name, explicit) == method
    assert not any(isinstance(value, float) for value in explicit.values())


@every
def test_inputs_are_left_as_they_were_and_the_same_seed_gives_the_same_bits(name: str) -> None:
    method = build(name)
    deltas = inputs(method)
    before = [(delta.up.clone(), delta.down.clone()) for delta in deltas]
    first, again = (merge(method, deltas) for _ in range(2))
    for delta, (up, down) in zip(deltas, before, strict=True):
        assert torch.equal(delta.up, up)
        assert torch.equal(delta.down, down)
    assert torch.equal(dense(first.delta), dense(again.delta))
    assert first.report == again.report


@every
def test_bits_do_not_depend_on_the_number_of_threads_nor_on_global_generators(name: str) -> None:
    method, found, threads = build(name), list[Delta](), torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(count)
            found.append(merge(method, inputs(method)).delta)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(dense(found[0]), dense(found[1]))


@every
def test_the_result_fits_the_module_and_reports_finite_numbers(name: str) -> None:
    method = build(name)
    merged = merge(method, inputs(method))
    assert merged.delta.shape == (8, 6)
    assert dense(merged.delta).isfinite().all()
    assert all(math.isfinite(value) for value in merged.report.values())
    if isinstance(merged.delta, LowRank) and not method.wraps:
        assert merged.delta.rank <= method.rank_bound([delta.rank for delta in inputs(method)])
