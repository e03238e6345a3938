from __future__ import annotations

import pytest
import torch

from registry import methods
from registry.deltas import LowRank, dense
from registry.errors import Incompatible
from registry.methods import Merged, Site


def merge(terms: list[tuple[float, LowRank | None]]) -> Merged:
    site = Site("h.0.q", [f"adapter{i}" for i in range(len(terms))])
    return methods.build("factors", {}).merge([d for _, d in terms], [w for w, _ in terms], site)


def factors(terms: list[tuple[float, LowRank | None]]) -> LowRank:
    delta = merge(terms).delta
    assert isinstance(delta, LowRank)
    return delta


def pair(seed: int, drift: float = 1.0) -> LowRank:
    start = torch.Generator().manual_seed(7)
    own = torch.Generator().manual_seed(seed)
    shared = torch.randn((4, 6), generator=start)
    down = (1 - drift) * shared + drift * torch.randn((4, 6), generator=own)
    return LowRank(torch.randn((5, 4), generator=own), down, 2.0)


def test_addition_adds_the_factors_separately() -> None:
    a, b = pair(0), pair(1)
    merged = factors([(0.5, a), (0.5, b)])
    torch.testing.assert_close(merged.down, 0.5 * a.down + 0.5 * b.down)
    torch.testing.assert_close(merged.up, a.up + b.up)  # 0.5 times the scale 2
    assert merged.scale == 1


def test_negation_flips_only_the_up_factor() -> None:
    a = pair(0)
    torch.testing.assert_close(dense(factors([(-1.0, a)])), -dense(a))
    merged = factors([(1.0, a), (-0.4, pair(1))])
    torch.testing.assert_close(merged.down, a.down + 0.4 * pair(1).down)
    torch.testing.assert_close(merged.up, 2 * a.up - 0.8 * pair(1).up)


def test_one_adapter_alone_comes_back() -> None:
    merged = merge([(1.0, pair(0))])
    torch.testing.assert_close(dense(merged.delta), dense(pair(0)))
    assert merged.report == {}


def test_the_cosine_of_initializations_is_reported() -> None:
    assert merge([(0.5, pair(0, 0.01)), (0.5, pair(1, 0.01))]).report["init_cosine"] > 0.99
    assert merge([(0.5, pair(0, 0.01)), (0.5, pair(1, 0.01)), (1.0, pair(2))]).report["init_cosine"] < 0.6


def test_a_missing_module_contributes_nothing() -> None:
    a = pair(0)
    torch.testing.assert_close(dense(factors([(0.5, a), (0.5, None)])), 0.25 * dense(a))


def test_weight_zero_contributes_nothing() -> None:
    a, b = pair(0), LowRank(torch.ones(5, 9), torch.ones(9, 6))
    torch.testing.assert_close(dense(factors([(1.0, a), (0.0, b)])), dense(a))
    assert not dense(factors([(0.0, a), (0.0, b)])).any()


def test_unequal_ranks_are_refused_naming_both_inputs() -> None:
    with pytest.raises(Incompatible) as caught:
        factors([(1.0, pair(0)), (1.0, LowRank(torch.ones(5, 2), torch.ones(2, 6)))])
    assert caught.value.message == (
        "factors needs equal ranks, but in module h.0.q adapter0 has 4 and adapter1 has 2"
    )


def test_the_rank_stays_that_of_the_inputs() -> None:
    assert methods.build("factors", {}).rank_bound([4, 4]) == 4
