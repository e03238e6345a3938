"""Truncation through Gram matrices: as good as QR where it is used, and not used where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from registry import methods
from registry.deltas import LowRank, dense, stack
from registry.methods import Site
from registry.methods._gram import is_suited

M, N, K = 400, 300, 16


def draw(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator)


def distinct(size: float) -> list[LowRank]:
    """Four adapters whose A's are ``size`` away from a common start."""
    new = draw(1)
    start = new(K, N)
    return [LowRank(new(M, K), start + size * new(K, N)) for _ in range(4)]


def near_duplicates(size: float) -> list[LowRank]:
    new = draw(2)
    up, down = new(M, K), new(K, N)
    return [LowRank(up + size * new(M, K), down + size * new(K, N)) for _ in range(4)]


def decaying(powers: int) -> list[LowRank]:
    new = draw(3)
    return [LowRank(new(M, K) * torch.logspace(0, -powers, K), new(K, N)) for _ in range(4)]


CASES: dict[str, tuple[list[LowRank], list[float], int, float | None]] = {
    "distinct": (distinct(10.0), [0.25] * 4, 16, 32),
    "one start, drifted": (distinct(0.3), [0.25] * 4, 16, 32),
    "one start, hardly drifted": (distinct(1e-2), [0.25] * 4, 16, 64),
    "one start, not drifted": (distinct(1e-5), [0.25] * 4, 16, None),
    "nearly cancelling": (near_duplicates(1e-2), [1.0, -1.0, 1.0, -1.0], 16, None),
    "the same four times": (near_duplicates(0.0), [0.25] * 4, 8, None),
    "decaying": (decaying(2), [0.25] * 4, 16, 32),
    "decaying far": (decaying(4), [0.25] * 4, 40, 64),
    "all of it": (distinct(10.0), [0.25] * 4, 64, None),
    "signs": (distinct(0.5), [1.0, -0.5, 0.25, -2.0], 4, 32),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_is_the_least_there_is(case: str) -> None:
    deltas, weights, rank, bits = CASES[case]
    whole = stack(list(zip(weights, deltas, strict=True)))
    assert is_suited(whole.up, whole.down)
    wanted = dense(whole)
    values = torch.linalg.svdvals(wanted)
    least = float(values[rank:].norm() / values.norm())
    found = methods.build("truncate", {"rank": rank}).merge([whole], [1.0], Site("m", ["a"]))
    error = float((wanted - dense(found.delta)).norm() / wanted.norm())
    assert found.report.get("gram") == bits
    assert error <= least * (1 + 1e-6) + 1e-9
    assert found.report["error"] == pytest.approx(least, rel=1e-3, abs=1e-9)
    assert isinstance(found.delta, LowRank)
    up, down = found.delta.up, found.delta.down
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1), rtol=1e-4, atol=1e-6)  # √σ on both


def test_either_side_may_be_the_good_one() -> None:
    """Dependent A's and independent B's, or the other way round: no need for QR."""
    deltas, weights, rank, _ = CASES["one start, hardly drifted"]
    turned = [LowRank(delta.down.T, delta.up.T) for delta in deltas]
    for inputs in (deltas, turned):
        whole = stack(list(zip(weights, inputs, strict=True)))
        found = methods.build("truncate", {"rank": rank}).merge([whole], [1.0], Site("m", ["a"]))
        assert found.report["gram"] > 0


def test_energy_keeps_what_it_says() -> None:
    whole = stack(list(zip([0.25] * 4, distinct(10.0), strict=True)))
    found = methods.build("truncate", {"energy": "0.5"}).merge([whole], [1.0], Site("m", ["a"]))
    values = torch.linalg.svdvals(dense(whole)).square().cumsum(0)
    assert found.report["rank"] == int((values < 0.5 * values[-1]).sum()) + 1
    assert found.report["gram"] == 32


def test_float64_and_small_modules_keep_their_precision() -> None:
    deltas = [LowRank(d.up.double(), d.down.double()) for d in distinct(10.0)]
    for inputs in (deltas, [LowRank(d.up[:100], d.down[:, :90]) for d in distinct(10.0)]):
        found = methods.build("truncate", {"rank": 4}).merge([inputs[0]], [1.0], Site("m", ["a"]))
        assert "gram" not in found.report
