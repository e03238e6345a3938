from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from registry.methods._random import Stream, kept, uniform
from tests.methods.elements import LAW

KEY = Stream(7, "h.0.q", 0, 1)
GOLDEN = [5807509975724872, 4893777895674446, 8920939977316045, 872687166761032]
MANY = 300_000  # so that some leading bits equal those of any limit


def test_the_numbers_never_change() -> None:
    """Recipes made with random methods rest on these."""
    words = (uniform(KEY, 4) * 2**53).to(torch.int64).tolist()
    assert words == GOLDEN
    assert uniform(KEY, 4).dtype == torch.float64


def test_they_are_uniform_and_in_range() -> None:
    drawn = uniform(KEY, 100_000)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    quantiles = torch.quantile(drawn, torch.tensor([0.1, 0.5, 0.9]).double())
    torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.5, 0.9]).double(), rtol=0, atol=0.01)


def test_every_part_of_the_key_makes_another_stream() -> None:
    others = [
        Stream(8, "h.0.q", 0, 1),
        Stream(7, "h.1.q", 0, 1),
        Stream(7, "h.0.q", 1, 1),
        Stream(7, "h.0.q"),
    ]
    drawn = [uniform(key, 8) for key in (KEY, *others, Stream(7, "h.0.q", 0, 1, "A"))]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert not (one == other).any()


def test_drawing_from_anywhere_on_is_drawing_from_the_start() -> None:
    whole = uniform(KEY, 1000)
    for start in range(9):
        assert torch.equal(uniform(KEY, 900, start), whole[start : start + 900])


@LAW
@given(
    start=st.integers(0, 2**40),
    sizes=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    share=st.one_of(st.floats(0, 1), st.integers(0, 2**16).map(lambda k: k / 2**16)),
    each=st.booleans(),
)
def test_an_element_survives_where_its_number_is_below_its_probability(
    start: int, sizes: list[int], share: float, *, each: bool
) -> None:
    """From any position on, and however a range is split into blocks."""
    drawn = uniform(KEY, sum(sizes), start)
    limits = (drawn + share - 0.5).clamp(0, 1) if each else torch.full_like(drawn, share)
    found, position = [], 0
    for size in sizes:
        some = limits[position : position + size]
        found.append(kept(KEY, torch.empty(size), some if each else share, start + position))
        position += size
    assert torch.equal(torch.cat(found), drawn < limits)


@pytest.mark.parametrize("beyond", [0.0, 2.0**-53, 2.0**-17, 2.0**-16 - 2.0**-53])
@pytest.mark.parametrize("part", [0, 1, 32768, 65535])
def test_equal_leading_bits_are_decided_by_the_other_ones(part: int, beyond: float) -> None:
    drawn, limit = uniform(KEY, MANY), part / 2**16 + beyond
    assert ((drawn * 2**16).floor() == part).any()
    for probability in (limit, torch.full((MANY,), limit, dtype=torch.float64)):
        assert torch.equal(kept(KEY, drawn, probability), drawn < limit)


def test_a_number_as_the_limit_is_not_below_it_and_the_next_one_is() -> None:
    """All leading bits are equal here."""
    drawn = uniform(KEY, 500)
    assert not kept(KEY, drawn, drawn).any()
    assert kept(KEY, drawn, drawn + 2**-53).all()


def test_certain_ones_are_kept_and_impossible_ones_are_not() -> None:
    values = torch.empty(MANY)
    for one, zero in ((1.0, 0.0), (torch.ones(MANY), torch.zeros(MANY))):
        assert kept(KEY, values, one).all()
        assert not kept(KEY, values, zero).any()


def test_leading_and_other_bits_are_uniform_and_independent() -> None:
    drawn = uniform(KEY, MANY) * 2**16
    bits = torch.stack([drawn.floor() / 2**16, drawn - drawn.floor()])
    torch.testing.assert_close(bits.mean(1), torch.full((2,), 0.5).double(), rtol=0, atol=0.005)
    torch.testing.assert_close(bits.var(1), torch.full((2,), 1 / 12).double(), rtol=0.01, atol=0)
    assert abs(float(torch.corrcoef(bits)[0, 1])) < 0.01


def test_masks_are_row_major_and_heed_each_probability() -> None:
    values = torch.empty(6, 5)
    drawn = uniform(KEY, 30).reshape(6, 5)
    assert torch.equal(kept(KEY, values, 0.3), drawn < 0.3)
    limits = torch.linspace(0, 1, 30).reshape(6, 5)
    assert torch.equal(kept(KEY, values, limits), drawn < limits)
    assert torch.equal(kept(KEY, values[2:], limits[2:], 10), (drawn < limits)[2:])
