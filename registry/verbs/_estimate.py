"""What a recipe's result will be, from the inputs' layouts alone: ranks, sizes and the cost of computing it.

Ranks are upper bounds, found by walking the recipe as :mod:`registry.evaluate` does, with ranks for deltas.
Operations are a rough estimate, of use to tell seconds from hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from registry import evaluate, methods
from registry.inputs import Reader, space
from registry.kinds import Module
from registry.methods import Method
from registry.recipe import Call, Input, Recipe, Sum

_NUMERICAL = frozenset({"balance", "cart", "iso", "iso_cts", "truncate", "tsv"})
"""The methods whose results are cut at their numerical rank. Others stack factors, as many as there are."""

_PER_ELEMENT = 20  # masks, top-k, votes: some passes over every element of every input
_PASSES = 6  # of the power iteration that finds a low-rank approximation, usually
_EXTRA = 8  # directions it takes beyond twice the rank
_SVD = 20  # the constant of a full singular value decomposition


@dataclass(frozen=True)
class Bound:
    """A delta as far as it is known: its factors have ``rank`` columns at most.

    Of a ``dense`` one it is the rank that an adapter stores it with. ``operations`` is what it took to get there.
    """

    rank: int
    dense: bool = False
    operations: int = 0


@dataclass(frozen=True)
class Estimated:
    """A module of the result. ``rank`` is None for what has none; ``exact`` as in ``results.CheckedModule``; ``dense`` where
    the delta is no product of factors.
    """

    module: Module
    rank: int | None
    exact: bool
    parameters: int
    operations: int
    dense: bool = False


def estimate(wanted: Recipe, inputs: Mapping[str, Reader], *, stored: bool = True) -> dict[str, Estimated]:
    """Each module of the result of ``wanted``, as an adapter has it ``stored``, or as it is merged into a model."""
    return {
        name: _Walk(name, module, inputs).estimated(wanted.expression, stored=stored)
        for name, module in space(inputs).items()
    }


@dataclass(frozen=True)
class _Walk:
    """One module's way through the recipe."""

    name: str
    module: Module
    inputs: Mapping[str, Reader]

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)``; a vector is one column."""
        m, *rest = self.module.shape
        return m, prod(rest)

    def estimated(self, node: Sum, *, stored: bool) -> Estimated:
        found, (m, n) = self._sum(node) or Bound(1), self.shape
        if self.module.rank is None:
            return Estimated(self.module, None, exact=True, parameters=m * n, operations=found.operations)
        rank, operations = found.rank, found.operations
        if found.dense:
            rank = min(rank, m, n)
            operations += _approximating(m, n, rank) if stored else 0
        groups, plain = self.module.groups, all(isinstance(term.operand, Input) for term in node.terms)
        rank = rank if plain else rank * groups  # every group of a convolution may need all directions
        exact = not found.dense or found.rank >= min(m, n)
        return Estimated(self.module, rank, exact, rank * (m // groups + n), operations, found.dense)

    def _sum(self, node: Sum) -> Bound | None:
        terms = [(term.weight != 0, self._operand(term.operand)) for term in node.terms]
        given = [(used, bound) for used, bound in terms if bound is not None]
        if not given:
            return None
        (m, n), live = self.shape, [bound for used, bound in given if used]
        rank, dense = sum(bound.rank for bound in live), any(bound.dense for _, bound in given)
        own = sum(m * n * (1 if b.dense else 2 * b.rank) for b in live) if dense else rank * (m + n)
        return Bound(max(1, rank), dense, own + sum(bound.operations for _, bound in given))

    def _operand(self, node: Input | Call) -> Bound | None:
        if isinstance(node, Input):
            module = self.inputs[node.digest].layout.modules.get(self.name)
            if module is None:
                return None
            dense = module.rank is None or module.based
            return Bound(min(self.shape) if dense else module.rank or 1, dense)
        last, method = node, _built(node)
        while _built(last).wraps and (inside := evaluate.wrapped(last)):
            last = inside
        parts = [bound for bound in self._arguments(last) if bound is not None]
        if not parts:
            return None
        handed = [self._handed(bound, method) for bound in parts]
        found = self._merged(node, handed, self.shape)
        return replace(found, operations=found.operations + sum(bound.operations for bound in parts))

    def _arguments(self, node: Call) -> Iterable[Bound | None]:
        """The bound of each of a method's inputs. One of weight 0 counts: it may decide a default rank."""
        for argument in node.arguments:
            if _built(node).spread or len(argument.terms) == 1:
                yield from (self._operand(term.operand) for term in argument.terms)
            else:
                yield self._sum(argument)

    def _handed(self, bound: Bound, method: Method) -> Bound:
        """What a method gets. Of a dense delta only the element-wise methods take its rank to be that of storing."""
        whole = bound.dense and not _elementwise(method)
        return Bound(min(self.shape)) if whole else Bound(bound.rank, bound.dense)

    def _merged(self, node: Call, parts: Sequence[Bound], shape: tuple[int, int]) -> Bound:
        method, inside, (m, n) = _built(node), evaluate.wrapped(node), shape
        ranks = [bound.rank for bound in parts]
        k = sum(ranks)
        if method.wraps and inside is not None:
            found = self._merged(inside, parts, (min(m, k), n))
            rank = min(m, n, k) if found.dense else found.rank
            return Bound(rank, operations=found.operations + _bases(m, n, k) + 2 * (m + n) * k * rank)
        rank = max(1, method.rank_bound(ranks))
        if _elementwise(method) and not method.needs_equal_ranks():
            work = sum(m * n * (_PER_ELEMENT + (0 if b.dense else 2 * b.rank)) for b in parts)
            return Bound(rank, dense=True, operations=work)
        if node.method in _NUMERICAL or getattr(method, "balanced", False):
            rank = min(rank, m, n)
        if method.about.domain in {"factors", "vector space"}:
            return Bound(rank, operations=2 * k * (m + n))
        return Bound(rank, operations=_bases(m, n, k) + 2 * (m + n) * k * rank)


def _built(call: Call) -> Method:
    return methods.build(call.method, call.parameters)


def _elementwise(method: Method) -> bool:
    return method.about.domain == "element-wise"


def _bases(m: int, n: int, k: int) -> int:
    """Orthonormal bases of k columns and k rows, and the singular values of the core: O((m + n)·k² + k³)."""
    p, q = min(m, k), min(n, k)
    return 4 * k * (m * p + n * q) + _SVD * p * q * min(p, q)


def _approximating(m: int, n: int, rank: int) -> int:
    """A low-rank approximation of a dense ΔW."""
    width = 2 * rank + _EXTRA
    if 2 * width >= min(m, n):
        return _SVD * m * n * min(m, n)
    return _PASSES * 4 * m * n * width + 2 * m * n * rank
