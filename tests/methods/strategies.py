"""Adapters in memory and expressions over them, for what holds of every sum and of every merge method.

Nothing here names a method: ``NAMES`` are those that there are, ``parameters`` finds some to call one with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property, reduce
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from registry import evaluate, kinds, methods, recipe
from registry.decimals import format_decimal
from registry.deltas import Delta, LowRank, Rescaling, dense
from registry.errors import UsageError
from registry.kinds import Kind, Layout
from registry.methods import Method
from registry.recipe import Call, Input, Recipe, Sum
from tests.adapters import call

NAMES = methods.family.names()
MODULE, OTHER = "h.0.q", "h.1.other"
DEVICE = torch.device("cpu")
LAW = settings(deadline=None, max_examples=25)
FEW = settings(deadline=None, max_examples=10)
WEIGHTS = st.decimals("-3", "3", places=2)
ENOUGH: list[dict[str, Any]] = [{}, {"rank": 2}, {"density": "0.5"}, {"rank": 2, "density": "0.5"}]
"""Parameters that are required somewhere; the first that are enough for a method are taken."""


@cache
def rules_of(kind: str) -> Kind:
    return kinds.load(kind)


@dataclass(frozen=True)
class Held:
    """An adapter in memory, known by its digest; an ``inputs.Reader``."""

    digest: str
    deltas: Mapping[str, Delta]

    @property
    def kind(self) -> str:
        return "ia3" if any(isinstance(delta, Rescaling) for delta in self.deltas.values()) else "lora"

    @cached_property
    def layout(self) -> Layout:
        rules = rules_of(self.kind)
        return Layout({name: rules.describe(name, delta) for name, delta in sorted(self.deltas.items())})

    def delta(self, module: str) -> Delta:
        return self.deltas[module]


@dataclass(frozen=True)
class Expression:
    """An expression over adapters in three ways: as text, as it is pinned, and as the matrices that it stands for.

    ``sizes`` bound the size of what is added in a module, and with it the rounding that is due. Operators do to all
    of them what they mean.
    """

    text: str
    pinned: Sum
    matrices: Mapping[str, Tensor]
    sizes: Mapping[str, float]
    adapters: Mapping[str, Held]

    def __add__(self, other: Expression) -> Expression:
        return Expression(
            f"({self.text}) + ({other.text})",
            recipe.linear([(Decimal(1), self.pinned), (Decimal(1), other.pinned)]),
            _added(self.matrices, other.matrices),
            _added(self.sizes, other.sizes),
            {**self.adapters, **other.adapters},
        )

    def __sub__(self, other: Expression) -> Expression:
        found = self + -other
        return Expression(
            f"({self.text}) - ({other.text})", found.pinned, found.matrices, found.sizes, found.adapters
        )

    def __rmul__(self, weight: Decimal) -> Expression:
        return self._times(weight, f"{format_decimal(weight)}*")

    def __neg__(self) -> Expression:
        return self._times(Decimal(-1), "-")

    def _times(self, weight: Decimal, prefix: str) -> Expression:
        return Expression(
            f"{prefix}({self.text})",
            recipe.linear([(weight, self.pinned)]),
            {name: float(weight) * matrix for name, matrix in self.matrices.items()},
            {name: abs(float(weight)) * size for name, size in self.sizes.items()},
            self.adapters,
        )

    def computation(self, *, seed: int = 0) -> evaluate.Computation:
        return computation(self.pinned, self.adapters.values(), seed=seed)

    def computed(self) -> dict[str, Tensor]:
        """What the registry makes of it: ΔW (or ℓ − 1) by module, in float64."""
        found = self.computation()
        return {name: dense(found.module(name).delta) for name in found.modules}


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: one[name] + other[name] if name in one and name in other else one.get(name, other.get(name))
        for name in {**one, **other}
    }


def leaf(name: str, adapter: Held) -> Expression:
    matrices = {module: dense(delta) for module, delta in adapter.deltas.items()}
    sizes = {
        module: abs(delta.scale) * float(delta.up.double().norm()) * float(delta.down.double().norm())
        if isinstance(delta, LowRank)
        else float(dense(delta).norm())
        for module, delta in adapter.deltas.items()
    }
    pinned = recipe.linear([(Decimal(1), Input(digest=adapter.digest))])
    return Expression(name, pinned, matrices, sizes, {adapter.digest: adapter})


def leaves(adapters: Sequence[Held]) -> list[Expression]:
    return [leaf("abcd"[i], adapter) for i, adapter in enumerate(adapters)]


def trees(of: Sequence[Expression]) -> st.SearchStrategy[Expression]:
    """Sums, differences, multiples and negatives of some expressions, nested."""

    def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.one_of(
            st.builds(operator.add, inner, inner),
            st.builds(operator.sub, inner, inner),
            st.builds(lambda weight, one: weight * one, WEIGHTS, inner),
            st.builds(operator.neg, inner),
        )

    return st.recursive(st.sampled_from(list(of)), larger, max_leaves=6)


SPACE: Mapping[str, Callable[[int, int], LowRank]] = {
    "square": lambda k, seed: low(5, 5, k, seed),
    "wide": lambda k, seed: low(3, 8, k, seed),
    "row": lambda k, seed: low(1, 7, k, seed),
    "column": lambda k, seed: low(6, 1, k, seed),
    "point": lambda k, seed: low(1, 1, k, seed),
    "table": lambda k, seed: LowRank(low(4, 9, k, seed).up, low(4, 9, k, seed).down, 1.5, "embedding"),
    "conv": lambda k, seed: LowRank(low(4, 12, k, seed).up, low(4, 12, k, seed).down, 0.5, "conv", (2, 2)),
}
"""The modules of an imaginary model, of every awkward shape, by rank and seed."""


def low(
    m: int, n: int, k: int, seed: int, scale: float = 1.0, *, dtype: torch.dtype = torch.float64
) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((m, k), (k, n)))
    return LowRank(up.to(dtype), down.to(dtype), scale)


@st.composite
def lora(draw: st.DrawFn, digest: str) -> Held:
    """An adapter on some modules: mixed ranks, beyond min(m, n) too, rank-deficient, zero, with its own scale."""
    chosen = draw(st.lists(st.sampled_from(sorted(SPACE)), min_size=1, unique=True))
    deltas: dict[str, Delta] = {}
    for name in chosen:
        made = SPACE[name](draw(st.integers(1, 9)), draw(st.integers(0, 2**16)))
        sort = draw(st.sampled_from(["plain", "plain", "plain", "deficient", "zero"]))
        if sort == "deficient":
            made.up[:, made.rank // 2 :] = made.up[:, :1]
        elif sort == "zero":
            made.up.zero_()
        scale = draw(st.sampled_from([1.0, 2.0, -0.3]))
        deltas[name] = LowRank(made.up, made.down, made.scale * scale, made.form, made.kernel)
    return Held(digest, deltas)


@st.composite
def vectors(draw: st.DrawFn, digest: str) -> Held:
    """An (IA)³ adapter on some modules, both sides."""
    chosen = draw(st.lists(st.sampled_from(range(4)), min_size=1, unique=True))
    deltas: dict[str, Delta] = {}
    for i in chosen:
        drawn = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
        offset = torch.randn(i + 1, generator=drawn, dtype=torch.float64)
        deltas[f"h.{i}"] = Rescaling(offset, feedforward=i % 2 == 1)
    return Held(digest, deltas)


def three(of: Callable[[str], st.SearchStrategy[Held]]) -> st.SearchStrategy[list[Expression]]:
    """Three adapters to make expressions of."""
    return st.tuples(*(of(f"sha256:{letter * 64}") for letter in "abc")).map(leaves)


def held(*stack: Delta | None) -> list[Held]:
    """An adapter for each delta of ``MODULE``; one without it has another module instead."""
    return [
        Held(f"sha256:{i:064}", {OTHER: low(3, 2, 1, i)} if delta is None else {MODULE: delta})
        for i, delta in enumerate(stack)
    ]


def computation(pinned: Sum, adapters: Any, *, seed: int = 0) -> evaluate.Computation:
    readers = {adapter.digest: adapter for adapter in adapters}
    kind = next(adapter.kind for adapter in readers.values())
    made = Recipe(kind=kind, algorithm=1, dtype="float64", seed=seed, expression=pinned)
    return evaluate.prepare(made, readers, device=DEVICE)


@cache
def parameters(name: str) -> Mapping[str, Any]:
    """Some parameters that the method can be called with."""
    for chosen in ENOUGH:
        try:
            methods.build(name, chosen)
        except UsageError:
            continue
        return chosen
    raise LookupError(f"{name} needs parameters that ENOUGH does not have")


@cache
def built(name: str) -> Method:
    return methods.build(name, parameters(name))


def called(name: str, terms: Sequence[tuple[Any, Held]], **options: Any) -> Call:
    """A call of a method on weighted adapters, as many as it takes; what wraps is put around an election of signs."""
    chosen = {**parameters(name), **options}
    method = built(name)
    sums = [
        recipe.linear([(Decimal(str(weight)), Input(digest=adapter.digest))]) for weight, adapter in terms
    ]
    if method.wraps:
        return call(name, alone(call("ties", *sums, density="0.5")), **chosen)
    if method.spread or method.arity == (1, 1):
        whole = recipe.linear([(Decimal(1), each) for each in sums], merge=not method.spread)
        return call(name, whole, **chosen)
    return call(name, *sums[: method.arity[1]], **chosen)


def calling(name: str, terms: Sequence[tuple[Any, Held]], **options: Any) -> Expression:
    """The call as an expression; its matrices are the registry's own."""
    made = called(name, terms, **options)
    adapters = {adapter.digest: adapter for _, adapter in terms}
    found = computation(alone(made), [adapters[digest] for digest in alone(made).inputs()])
    matrices = {module: dense(found.module(module).delta) for module in found.modules}
    sizes = {module: float(matrix.norm()) for module, matrix in matrices.items()}
    return Expression(name, alone(made), matrices, sizes, adapters)


def merged(
    name: str, stack: Sequence[Delta | None], weights: Sequence[Any] | None = None, **options: Any
) -> Tensor:
    """ΔW of ``MODULE`` in float64, computed from a recipe."""
    return dense(outcome(name, stack, weights, **options).delta)


def outcome(
    name: str, stack: Sequence[Delta | None], weights: Sequence[Any] | None = None, **options: Any
) -> evaluate.Evaluated:
    """``MODULE``, computed from a recipe."""
    return started(name, stack, weights, **options).module(MODULE)


def started(
    name: str, stack: Sequence[Delta | None], weights: Sequence[Any] | None = None, **options: Any
) -> evaluate.Computation:
    """The call on inputs that have these deltas of ``MODULE``."""
    adapters = held(*stack)
    chosen = [1] * len(stack) if weights is None else weights
    return computation(alone(called(name, list(zip(chosen, adapters, strict=True)), **options)), adapters)


def stored(computed: evaluate.Computation) -> evaluate.Evaluated:
    """``MODULE`` as an adapter stores it."""
    return {item.module: item for item in computed}[MODULE]


def alone(one: Call) -> Sum:
    return recipe.linear([(Decimal(1), one)])


def taken(name: str, stack: Sequence[Delta | None]) -> list[Delta | None]:
    """The inputs that a call of the method has: the first ones, where it takes no more."""
    method = built(name)
    single = method.spread or method.wraps or method.arity == (1, 1)
    return list(stack if single else stack[: method.arity[1]])


def gross(stack: Sequence[Delta | None]) -> float:
    """The sum of the inputs' sizes, 1 where all are zero."""
    return sum(float(dense(delta).norm()) for delta in stack if delta is not None) or 1.0


def regauged(delta: LowRank, seed: int) -> LowRank:
    """Whole-numbered factors ``(B·G, G⁻¹·A)`` of the same ΔW, exactly: G is a product of whole shears."""
    generator, k = torch.Generator().manual_seed(seed), delta.rank

    def shear(*, upper: bool) -> Tensor:
        drawn = torch.randint(-2, 3, (k, k), generator=generator).double()
        triangle = drawn.triu(1) if upper else drawn.tril(-1)
        return triangle + torch.eye(k, dtype=torch.float64)

    shears = shear(upper=True), shear(upper=False)
    up = reduce(operator.matmul, shears, delta.up.double())
    down = delta.down.double()
    for one in shears:
        down = torch.linalg.solve(one, down).round()
    return LowRank(up, down, delta.scale, delta.form, delta.kernel)


def reordered(delta: LowRank, seed: int) -> LowRank:
    """Factors of the same ΔW, exactly: in another order, with other signs, and scaled by powers of two."""
    generator, k = torch.Generator().manual_seed(seed), delta.rank
    order = torch.randperm(k, generator=generator)
    sizes = torch.tensor([-2.0, -1.0, 0.5, 4.0])[torch.randint(4, (k,), generator=generator)].double()
    up, down = delta.up[:, order] * sizes, delta.down[order] / sizes[:, None]
    return LowRank(up, down, delta.scale, delta.form, delta.kernel)


def whole(m: int, n: int, k: int, seed: int) -> LowRank:
    """Factors of whole numbers, whose products are exact."""
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randint(-99, 100, size, generator=generator).double() for size in ((m, k), (k, n)))
    return LowRank(up, down, 0.5)
