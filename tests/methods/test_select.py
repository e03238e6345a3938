"""Which numbers are the largest, found without sorting: exactly those that sorting finds."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registry.methods import _select
from registry.methods._select import Numbers, largest
from tests.methods.elements import LAW


def in_blocks(values: Tensor, length: int) -> Numbers:
    def numbers() -> Iterator[tuple[int, Tensor]]:
        return ((start, values[start : start + length].abs()) for start in range(0, len(values), length))

    return numbers


def trimmed(values: Tensor, count: int, length: int) -> Tensor:
    cut = largest(in_blocks(values, length), len(values), count)
    return torch.cat([cut.trim(values[i : i + length], i) for i in range(0, len(values), length)])


def sorted_out(values: Tensor, count: int) -> Tensor:
    """The definition: of equal ones, the first."""
    stay = values.abs().sort(descending=True, stable=True).indices[: max(0, count)]
    return torch.zeros_like(values).index_copy(0, stay, values[stay])


@LAW
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 1e-45, 1e38]), min_size=1, max_size=40),
    count=st.integers(-1, 41),
    length=st.integers(1, 9),
)
def test_few_numbers_many_of_them_equal(values: list[float], count: int, length: int) -> None:
    given = torch.tensor(values)
    assert torch.equal(trimmed(given, count, length), sorted_out(given, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [1e-5, 0.001, 0.2, 0.5, 0.99, 0.99999])
def test_many_numbers(dtype: torch.dtype, share: float) -> None:
    values = torch.randn(300_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    count = int(share * len(values))
    assert torch.equal(trimmed(values, count, 7_000), sorted_out(values, count))
    rounded = (values * 4).round()  # ties over many blocks
    assert torch.equal(trimmed(rounded, count, 7_000), sorted_out(rounded, count))


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (2.0, inf), (3.0, 3.5), (0.1, 0.2), (1e9, inf)])
def test_where_the_sample_misleads_it_is_found_all_the_same(
    bounds: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(5_000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(_select, "_bounds", lambda *_: bounds)
    for count in (1, 2_500, 4_999):
        assert torch.equal(trimmed(values, count, 900), sorted_out(values, count))


def test_a_sample_is_nearly_never_misleading(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, original = [], _select._between

    def counted(numbers: Numbers, low: float, high: float) -> Any:
        passes.append(high)
        return original(numbers, low, high)

    monkeypatch.setattr(_select, "_between", counted)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        rows, columns = (torch.rand(200, generator=generator) ** 3 for _ in range(2))  # of uneven sizes
        values = (torch.randn(200, 200, generator=generator) * rows[:, None] * columns).flatten()
        trimmed(values, 20_000, 2_000)
    assert len(passes) == 50


def test_what_is_not_a_number_stays_and_ends() -> None:
    values = torch.tensor([float("nan")] * 5 + [1.0, 2.0, 3.0])
    assert trimmed(values, 3, 3).isnan().sum() == 5
    assert trimmed(values, 6, 3).isnan().sum() == 5
