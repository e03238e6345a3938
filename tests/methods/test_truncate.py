from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import methods
from registry.deltas import LowRank, dense
from registry.errors import UsageError
from registry.methods import Site, _core

LAW = settings(deadline=None, max_examples=60)
SITE = Site("q", ["a"])


def truncated(delta: LowRank, **parameters: Any) -> tuple[LowRank, Mapping[str, float]]:
    merged = methods.build("truncate", parameters).merge([delta], [1.0], SITE)
    assert isinstance(merged.delta, LowRank)
    return merged.delta, merged.report


@st.composite
def stacks(draw: st.DrawFn) -> LowRank:
    """Factors of any rank, some beyond min(m, n), some rank-deficient."""
    m, n, k = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    up, down = torch.randn((m, k), generator=generator), torch.randn((k, n), generator=generator)
    if draw(st.booleans()):
        up[:, k // 2 :] = up[:, :1]
    return LowRank(up, down, draw(st.sampled_from([1.0, -2.0, 0.3])))


@LAW
@given(stacks(), st.integers(1, 14))
def test_no_matrix_of_that_rank_is_closer(delta: LowRank, rank: int) -> None:
    whole = dense(delta)
    values = torch.linalg.svdvals(whole)
    merged, report = truncated(delta, rank=rank)
    error = float((dense(merged) - whole).norm() / whole.norm())
    best = float(values[rank:].norm() / values.norm())
    assert error == pytest.approx(best, abs=1e-9)
    assert report["error"] == pytest.approx(best, abs=1e-9)
    assert report["energy"] == pytest.approx(1 - best**2, abs=1e-9)
    assert report["rank"] == merged.rank <= min(rank, *whole.shape)


@LAW
@given(stacks(), st.sampled_from(["0.5", "0.9", "0.999", "1"]))
def test_energy_keeps_the_fewest_directions_that_suffice(delta: LowRank, energy: str) -> None:
    squares = torch.linalg.svdvals(dense(delta)).square()
    _, report = truncated(delta, energy=energy)
    q = int(report["rank"])
    assert report["energy"] >= float(energy) - 1e-12
    assert q == 1 or float(squares[: q - 1].sum()) < float(energy) * float(squares.sum()) * (1 + 1e-12)


@LAW
@given(stacks(), st.integers(0, 2**16))
def test_the_result_does_not_depend_on_how_the_product_is_factored(delta: LowRank, seed: int) -> None:
    k = delta.rank
    gauge = torch.randn((k, k), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gauge = gauge + 4 * torch.eye(k, dtype=torch.float64)
    other = LowRank(delta.up.double() @ gauge, torch.linalg.solve(gauge, delta.down.double()), delta.scale)
    values = torch.linalg.svdvals(dense(delta))
    if len(values) > 1 and float(values[0] - values[1]) < 1e-3 * float(values[0]):
        return  # with equal singular values the best approximation is not unique
    torch.testing.assert_close(dense(truncated(delta, rank=1)[0]), dense(truncated(other, rank=1)[0]))


def test_signs_are_canonical_and_singular_values_shared_evenly() -> None:
    delta = LowRank(torch.randn(9, 4), torch.randn(4, 7))
    flipped = LowRank(-delta.up, -delta.down)
    first, second = (truncated(d, rank=3)[0] for d in (delta, flipped))
    torch.testing.assert_close(first.up, second.up)
    assert (first.up.gather(0, first.up.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(first.up.norm(dim=0), first.down.norm(dim=1))


def test_a_repeated_adapter_has_no_more_rank_than_one() -> None:
    up, down = torch.randn(40, 4), torch.randn(4, 30)
    doubled = LowRank(torch.cat([up, up], 1), torch.cat([down, down]))
    _, report = truncated(doubled, rank=8)
    assert report["rank"] == 4
    assert report["error"] < 1e-12


def test_zero_stays_zero_with_rank_one() -> None:
    merged, report = truncated(LowRank(torch.zeros(5, 3), torch.randn(3, 4)), rank=2)
    assert merged.rank == 1
    assert not dense(merged).any()
    assert report == {"rank": 1, "energy": 1, "error": 0}


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_cut_offs_are_relative(scale: float) -> None:
    delta = LowRank(torch.randn(6, 3), torch.randn(3, 5), scale)
    assert truncated(delta, rank=3)[1]["rank"] == 3


def test_the_form_of_the_module_is_kept() -> None:
    delta = LowRank(torch.randn(6, 3), torch.randn(3, 12), form="conv", kernel=(2, 2))
    merged, _ = truncated(delta, rank=1)
    assert (merged.form, merged.kernel) == ("conv", (2, 2))


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    delta = LowRank(torch.randn(700, 64), torch.randn(64, 500))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(truncated(delta, rank=16)[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].up, found[1].up)
    assert torch.equal(found[0].down, found[1].down)


def test_the_core_is_exact() -> None:
    delta = LowRank(torch.randn(6, 9), torch.randn(9, 5), -0.5)
    core = _core.core(delta)
    torch.testing.assert_close(core.left @ core.middle @ core.right, dense(delta))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "truncate: parameters: give either rank or energy"),
        ({"rank": 2, "energy": "0.9"}, "truncate: parameters: give either rank or energy"),
        ({"rank": 0}, "truncate: rank: Input should be greater than or equal to 1"),
        ({"rank": Decimal("1.5")}, "truncate: rank: "),
        ({"energy": "1.1"}, "truncate: energy: Input should be less than or equal to 1"),
        ({"energy": "0"}, "truncate: energy: Input should be greater than 0"),
        ({"rang": 2}, "truncate: rang: Extra inputs are not permitted"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        methods.build("truncate", parameters)
    assert caught.value.message.startswith(message)
    assert caught.value.hint == "its parameters are: rank, energy"


def test_parameters_are_explicit_and_build_the_same_method() -> None:
    method = methods.build("truncate", {"energy": Decimal("0.90")})
    assert method.explicit() == {"rank": None, "energy": "0.9"}
    assert methods.build("truncate", method.explicit()) == method
    assert methods.build("truncate", {"rank": 4}).rank_bound([8, 8]) == 4
    assert method.rank_bound([8, 8]) == 16


def test_a_parameter_misspelt_is_named_before_the_one_that_is_missed_by_that() -> None:
    with pytest.raises(UsageError, match=r"^ties: dens: "):
        methods.build("ties", {"dens": "0.2"})
