from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from registry import methods
from registry.deltas import LowRank, dense
from registry.methods import Site
from registry.methods._clusters import clusters
from tests.methods.cases import distance, low, merge, merged, wholes


def families(count: int, copies: int, noise: float) -> list[LowRank]:
    """Inputs whose units are ``count`` well separated ones, each a little different in every input."""
    a = low(9, 8, count, 0)
    found = []
    for i in range(copies):
        e = low(9, 8, count, i + 1)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(i))
        found.append(LowRank((a.up + noise * e.up)[:, order], (a.down + noise * e.down)[order]))
    return found


def nearest(deltas: list[LowRank], start: LowRank) -> list[list[Tensor]]:
    """The inputs' units, grouped by which unit of ``start`` they came from."""
    centres = torch.cat([start.down, start.up.T], dim=1)
    units = torch.cat([torch.cat([d.down, d.scale * d.up.T], dim=1) for d in deltas])
    owner = torch.cdist(units, centres).argmin(1)
    return [list(units[owner == c]) for c in range(len(centres))]


@pytest.mark.parametrize("reweight", ["none", "parameters", "output", "dual"])
@pytest.mark.parametrize("seed", range(4))
def test_separate_families_become_their_means(reweight: str, seed: int) -> None:
    deltas = families(3, 4, 0.05)
    total = torch.zeros(9, 8).double()
    for members in nearest(deltas, low(9, 8, 3, 0)):
        mean = sum(members, torch.tensor(0.0)) / len(members)
        if reweight in {"parameters", "dual"}:
            mean = mean / mean.norm() * (sum(float(x.norm()) for x in members) / len(members))
        total += torch.outer(mean[8:], mean[:8])
    method = methods.build("lego", {"reweight": reweight})
    found = method.merge(deltas, [1.0] * 4, Site("q", list("abcd"), seed))
    assert distance(dense(found.delta), total) < 1e-10
    assert found.report == {"rank": 3}


def test_the_whole_is_scaled_by_the_root_of_the_ranks() -> None:
    deltas = families(4, 3, 0.05)
    plain, scaled = (merged("lego", deltas, rank=2, reweight=how) for how in ("none", "output"))
    assert distance(scaled, 2**0.5 * plain) < 1e-12


def test_one_input_comes_back_and_copies_change_nothing() -> None:
    a = low(6, 5, 3, 0, 2.0)
    assert distance(merged("lego", [a]), wholes([a])[0]) < 1e-14
    assert distance(merged("lego", [a, a, a]), wholes([a])[0]) < 1e-14


def test_with_a_cluster_for_each_unit_it_is_the_sum() -> None:
    deltas = [low(6, 5, 3, 0), low(6, 5, 2, 1)]
    found = merged("lego", deltas, [1.0, -2.0], rank=5, reweight="parameters")
    assert distance(found, wholes(deltas)[0] - 2 * wholes(deltas)[1]) < 1e-14


def test_the_order_of_the_inputs_does_not_matter() -> None:
    deltas = [low(9, 8, k, seed) for seed, k in enumerate((4, 2, 5))]
    assert distance(merged("lego", deltas[::-1]), merged("lego", deltas)) < 1e-12


def test_the_seed_decides_and_nothing_else_does() -> None:
    deltas = [low(9, 8, 6, seed) for seed in range(3)]

    def at(seed: int, module: str) -> Tensor:
        return dense(
            methods.build("lego", {}).merge(deltas, [1.0] * 3, Site(module, list("abc"), seed)).delta
        )

    torch.rand(5)
    assert torch.equal(at(1, "q"), at(1, "q"))
    assert any(not torch.equal(at(1, "q"), at(seed, "q")) for seed in range(2, 8))
    assert any(not torch.equal(at(1, "q"), at(1, module)) for module in "abcdef")


def test_balanced_factors_give_the_same_delta() -> None:
    deltas = [low(9, 8, 4, seed) for seed in range(3)]
    delta = merge("lego", deltas, balanced=True).delta
    assert isinstance(delta, LowRank)
    torch.testing.assert_close(delta.up.norm(dim=0), delta.down.norm(dim=1))
    assert distance(dense(delta), merged("lego", deltas)) < 1e-12


def test_zero_units_and_missing_modules_are_left_out() -> None:
    a = low(6, 5, 3, 0)
    zero = LowRank(torch.zeros_like(a.up), a.down)
    assert distance(merged("lego", [a, zero, None]), wholes([a])[0]) < 1e-14
    assert not merged("lego", [zero]).any()
    assert not merged("lego", [a], [0.0]).any()


def test_the_rank_is_bounded() -> None:
    assert methods.build("lego", {}).rank_bound([4, 8]) == 8
    assert methods.build("lego", {"rank": 3}).rank_bound([4, 8]) == 3


@pytest.mark.parametrize("seed", range(8))
def test_clusters_are_a_fixed_point_of_lloyd(seed: int) -> None:
    points = torch.randn((14, 3), generator=torch.Generator().manual_seed(seed)).double()
    own = clusters(points, 4, str(seed))
    centres = torch.stack([points[own == c].mean(0) for c in range(int(own.max()) + 1)])
    assert torch.equal(torch.cdist(points, centres).argmin(1), own)
    assert 1 < len(centres) <= 4


@pytest.mark.parametrize("seed", range(8))
def test_two_clusters_are_rarely_far_from_the_best(seed: int) -> None:
    points = torch.cat(
        [torch.randn((3, 2), generator=torch.Generator().manual_seed(seed)).double() + x for x in (0, 9)]
    )

    def cost(own: Tensor) -> float:
        groups = [points[own == c] for c in (0, 1) if bool((own == c).any())]
        return sum(float((group - group.mean(0)).square().sum()) for group in groups)

    best = min(cost(torch.tensor(choice)) for choice in product(range(2), repeat=6))
    assert cost(clusters(points, 2, "key")) == pytest.approx(best)


def test_points_that_coincide_share_a_cluster() -> None:
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]).double()
    own = clusters(points, 4, "key")
    assert own.max() == 1
    assert all((own[i] == own[j]) == torch.equal(points[i], points[j]) for i, j in combinations(range(5), 2))
