"""Tell which merge methods there are. Needs no catalog."""

from __future__ import annotations

from registry.methods import _describe
from registry.results import MethodInfo


def methods() -> tuple[MethodInfo, ...]:
    return _describe.everything()


def method(name: str) -> MethodInfo:
    return _describe.describe(name)
