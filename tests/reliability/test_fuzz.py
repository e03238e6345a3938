"""Input that nobody meant: taken, or refused in one line."""

from __future__ import annotations

import pytest

from tests.reliability.fuzz import fuzz

TARGETS = ("expression", "filter", "reference", "safetensors", "adapter_config", "recipe", "provenance")


@pytest.mark.parametrize("target", TARGETS)
def test_a_mutated_input_is_taken_or_refused(target: str) -> None:
    assert list(fuzz(target, 1500)) == []
