"""Ranks and scales as a config states them, module by module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.errors import Refused
from registry.kinds._patterns import Patterns

_HIGHEST = 2**31
_DEFAULT = 8
"""PEFT's rank and alpha where the config leaves them out."""


class Scaling:
    """The config's ``r`` and ``alpha`` (a kind's own name for it), with ``rank_pattern`` and ``alpha_pattern``.

    ``root`` scales by ``alpha/√r`` instead of ``alpha/r``.
    """

    def __init__(self, config: Mapping[str, Any], *, alpha: str, root: bool = False) -> None:
        self._rank = number(config, "r", _DEFAULT)
        self._alpha = number(config, alpha, _DEFAULT)
        self._ranks = Patterns("rank_pattern", _numbers(config, "rank_pattern"))
        self._alphas = Patterns("alpha_pattern", _numbers(config, "alpha_pattern"))
        self._root = root

    def rank(self, module: str) -> float:
        """The stated rank. Raises ``Refused`` unless it is positive."""
        stated = self._ranks.value(module, self._rank)
        if stated <= 0:
            raise Refused(f"module {module} has rank {stated:g} in the config", hint="a rank is 1 or more")
        return stated

    def require(self, module: str, rank: int) -> None:
        """Raise ``Refused`` unless the config gives the module this rank, that of its tensors."""
        stated = self.rank(module)
        if stated != rank:
            raise Refused(
                f"module {module} has rank {rank} in its tensors but {stated:g} in the config",
                hint="the config belongs to other weights, or rank_pattern is incomplete",
            )

    def scale(self, module: str) -> float:
        """``alpha/r`` or ``alpha/√r``."""
        rank = self.rank(module)
        return self._alphas.value(module, self._alpha) / (math.sqrt(rank) if self._root else rank)


def number(config: Mapping[str, Any], key: str, default: int) -> float:
    """A number of the config; null and absent mean the default. Raises ``Refused`` for anything else."""
    value = config.get(key)
    return default if value is None else _checked(key, value)


def _numbers(config: Mapping[str, Any], key: str) -> dict[str, float]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"config entry {key} is no object")
    return {module: _checked(f"{key} of {module[:64]!r}", item) for module, item in value.items()}


def _checked(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HIGHEST < value < _HIGHEST:
        raise Refused(f"config entry {what} is {str(value)[:32]!r}, not a usable number")
    return value
