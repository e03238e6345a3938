from __future__ import annotations

import torch

from registry.methods._random import Stream, kept, uniform

KEY = Stream(7, "h.0.q", 0, 1)
GOLDEN = [872736038675156, 381195288818822, 6789036088430323, 1697025587729915]


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


def test_masks_are_row_major_and_heed_each_probability() -> None:
    values = torch.empty(6, 5)
    drawn = uniform(KEY, 30).reshape(6, 5)
    assert torch.equal(kept(KEY, values, 0.3), drawn < 0.3)
    limits = torch.linspace(0, 1, 30).reshape(6, 5)
    assert torch.equal(kept(KEY, values, limits), drawn < limits)
    assert torch.equal(kept(KEY, values[2:], limits[2:], 10), (drawn < limits)[2:])
    assert kept(KEY, values, 1.0).all()
    assert not kept(KEY, values, 0.0).any()
