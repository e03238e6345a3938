from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registry import methods
from registry.deltas import LowRank
from registry.errors import Incompatible
from tests.methods.cases import distance, low, merge, merged, turned


def kept(factor: Tensor, density: float) -> Tensor:
    """All entries at least as large as the one at place ⌊(1 − density)·size⌋ of the sorted sizes."""
    ordered = sorted(abs(float(x)) for x in factor.flatten())
    floor = (
        ordered[int(round(len(ordered) * (1 - density), 9)) - 1]
        if round(len(ordered) * (1 - density), 9) >= 1
        else 0
    )
    rows = [[float(x) if abs(float(x)) >= floor else 0.0 for x in row] for row in factor]
    return torch.tensor(rows, dtype=torch.float64)


def plain(deltas: list[LowRank], density: float, tail: float, scale: float) -> Tensor:
    """The definition, entry by entry."""
    rank = deltas[0].rank
    ups, downs, makeup = [], [], []
    for delta in deltas:
        up, down = kept(delta.scale * delta.up, density), kept(delta.down, density)
        ratios = []
        for j in range(rank):
            left = float(down[j].abs().sum())
            ratios.append(float(delta.down[j].abs().sum()) / left if left else 0.0)
        ratios = [x or max(ratios) for x in ratios]
        floor = sorted(ratios)[min(int(round(rank * (1 - tail), 9)), rank - 1)]
        makeup.append([max(x, floor) for x in ratios])
        ups.append(up)
        downs.append(down)
    columns = []
    for j in range(rank):
        above = sum((c[j] * b[:, j] for c, b in zip(makeup, ups, strict=True)), torch.tensor(0.0))
        columns.append(scale * above / sum(c[j] for c in makeup))
    return torch.stack(columns, dim=1) @ (scale * torch.stack(downs).sum(0))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("parameters", [("0.2", "0.2", "2"), ("0.5", "0.6", "1"), ("1", "0", "2")])
@pytest.mark.parametrize("shape", [(9, 7, 5), (1, 6, 2), (5, 1, 1), (3, 4, 6)])
def test_it_is_its_definition(
    seed: int, parameters: tuple[str, str, str], shape: tuple[int, int, int]
) -> None:
    density, tail, scale = parameters
    deltas = [low(*shape, 7 * seed + i, 0.5 + i) for i in range(3)]
    expected = plain(deltas, float(density), float(tail), float(scale))
    found = merged("robust_merge", deltas, density=density, tail=tail, scale=scale)
    assert distance(found, expected) < 1e-10


def test_order_does_not_matter_and_weights_scale_the_up_factors() -> None:
    deltas = [low(9, 7, 4, seed) for seed in range(3)]
    first = merged("robust_merge", deltas)
    assert distance(merged("robust_merge", deltas[::-1]), first) < 1e-12
    assert distance(merged("robust_merge", deltas, [-3.0] * 3), -3 * first) < 1e-12


def test_with_nothing_pruned_one_input_comes_back() -> None:
    a = low(6, 5, 3, 0, 2.0)
    found = merged("robust_merge", [a], density=1, scale=1)
    assert distance(found, a.scale * a.up @ a.down) < 1e-14


def test_balanced_factors_give_the_same_delta() -> None:
    deltas = [low(9, 7, 4, seed) for seed in range(3)]
    delta = merge("robust_merge", deltas, balanced=True).delta
    assert isinstance(delta, LowRank)
    torch.testing.assert_close(delta.up.norm(dim=0), delta.down.norm(dim=1))
    assert distance(merged("robust_merge", deltas, balanced=True), merged("robust_merge", deltas)) < 1e-12


def test_missing_and_weightless_inputs_contribute_nothing() -> None:
    a, b = low(6, 5, 3, 0), low(6, 5, 2, 1)
    assert distance(merged("robust_merge", [a, None, b], [1.0, 1.0, 0.0]), merged("robust_merge", [a])) == 0
    assert not merged("robust_merge", [a], [0.0]).any()


def test_zero_adapters_stay_zero() -> None:
    a = low(6, 5, 3, 0)
    zero = LowRank(torch.zeros_like(a.up), torch.zeros_like(a.down))
    assert not merged("robust_merge", [zero, zero]).any()
    assert merged("robust_merge", [a, zero]).isfinite().all()


def test_it_is_a_method_of_the_factors() -> None:
    a = low(9, 7, 4, 0)
    assert distance(merged("robust_merge", [turned(a, 1)]), merged("robust_merge", [a])) > 1e-3
    with pytest.raises(Incompatible, match="adapter0 has 4 and adapter1 has 3"):
        merge("robust_merge", [a, low(9, 7, 3, 1)])
    assert methods.build("robust_merge", {}).rank_bound([4, 4]) == 4
