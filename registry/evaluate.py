"""Evaluate a recipe: one module after another, the union of its inputs' modules in sorted order.

Sums are the kind's exact linear combination; calls are merge methods. Nothing here draws random numbers or keeps
more than one module's tensors alive. torch is imported when the first module is computed, so that the checks
cost no import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry import kinds, methods
from registry.errors import Incompatible, Refused
from registry.forms import OF_PARAMETERS
from registry.inputs import Reader, check_compatible, delta_of, labelled, space
from registry.recipe import Call, Input, Recipe, Sum

if TYPE_CHECKING:
    import torch

    from registry.deltas import Delta
    from registry.kinds import Kind, Module
    from registry.methods import Merged, Method, Site


@dataclass(frozen=True)
class Evaluated:
    """One module of the result. ``report`` holds what methods reported, prefixed where several were called.

    ``place`` describes the module as the inputs do; its rank and scale are no fact of the result.
    """

    module: str
    delta: Delta
    report: Mapping[str, float] = field(default_factory=dict)
    place: Module | None = None


class Computation:
    """A recipe ready to be computed, module by module, in any order. Made by :func:`prepare`."""

    def __init__(self, evaluator: _Evaluator, space: Mapping[str, Module]) -> None:
        self._evaluator = evaluator
        self.modules = space
        """The modules of the result in sorted order, each as the first input that has it describes it."""

    def module(self, name: str) -> Evaluated:
        """Compute one module. Raises ``KeyError`` for one that no input has."""
        return self._evaluator.module(self.modules[name].name)

    def __iter__(self) -> Iterator[Evaluated]:
        """All modules as an adapter stores them, one after another.

        They are those of :meth:`module`, except that an approximation of low rank stands for a dense delta; its
        ``rank``, the ``energy`` it keeps and its relative ``error`` join the report.
        """
        return (self._evaluator.stored(name) for name in self.modules)


def prepare(
    recipe: Recipe,
    readers: Mapping[str, Reader],
    *,
    device: torch.device,
    labels: Mapping[str, str] | None = None,
) -> Computation:
    """Make ``recipe`` ready to be computed, once :func:`check` has passed it.

    ``readers`` has a reader per input digest; ``labels`` are the inputs' names for messages. Deltas come back on
    ``device`` in the accumulation dtype: float32, or float64 where inputs or methods hold it; the one rounding to
    the recipe's dtype is the writer's.
    """
    from registry._memory import keep_freed_memory

    check(recipe, readers, labels)
    keep_freed_memory()
    inputs, names = {digest: readers[digest] for digest in recipe.inputs}, _names(recipe, labels)
    kind, whole = kinds.load(recipe.kind), space(inputs)
    return Computation(_Evaluator(recipe, kind, inputs, device, names, _methods(recipe), whole), whole)


def check(recipe: Recipe, readers: Mapping[str, Reader], labels: Mapping[str, str] | None = None) -> None:
    """Check ``recipe`` against its inputs; everything that can be refused without tensors is refused here.

    Raises ``Refused`` for other algorithm versions and blocked inputs, ``Incompatible`` for inputs that do not belong
    together.
    """
    names = _names(recipe, labels)
    inputs = {digest: readers[digest] for digest in recipe.inputs}
    if recipe.kind not in kinds.family.names():
        raise Refused(f"{recipe.kind} adapters cannot be composed")
    for digest, reader in inputs.items():
        if reader.kind != recipe.kind:
            raise Incompatible(f"{names[digest]} is of kind {reader.kind}, the recipe of kind {recipe.kind}")
    kind = kinds.load(recipe.kind)
    _check_algorithm(recipe.kind, recipe.algorithm, kind.algorithm)
    built = _methods(recipe)
    for call in _calls(recipe.expression):
        if built[id(call)].in_factor_space():
            below = {digest for argument in call.arguments for digest in argument.inputs()}
            modules = space({digest: inputs[digest] for digest in sorted(below)}).values()
            if part := next((module for module in modules if module.form in OF_PARAMETERS), None):
                raise Refused(
                    f"{call.method} works on LoRA's factors, and {part.target} is stored whole",
                    hint="use the exact sum, or a method that works on deltas",
                )
    accounted, layouts = _waived(recipe, built), labelled(names, inputs)
    waived = {label for digest, label in zip(inputs, layouts, strict=True) if digest in accounted}
    check_compatible(layouts, waived=waived)


def full_rank(module: str) -> Refused:
    """Why a DoRA module is not stored without saying how much of it to keep."""
    return Refused(
        f"module {module}: with DoRA its delta has full rank",
        hint="say how much of it to keep: --rank N or --energy F; the error is reported",
    )


def _names(recipe: Recipe, labels: Mapping[str, str] | None) -> dict[str, str]:
    return {digest: (labels or {}).get(digest, digest[:19]) for digest in recipe.inputs}


def modules(
    recipe: Recipe,
    readers: Mapping[str, Reader],
    *,
    device: torch.device,
    labels: Mapping[str, str] | None = None,
) -> Iterator[Evaluated]:
    """Compute ``recipe`` module by module, in sorted order; see :func:`prepare`."""
    return iter(prepare(recipe, readers, device=device, labels=labels))


@dataclass(frozen=True)
class _Evaluator:
    """One recipe being evaluated; ``methods`` are its calls' methods by the identity of the call."""

    recipe: Recipe
    kind: Kind
    inputs: Mapping[str, Reader]
    device: torch.device
    names: Mapping[str, str]
    methods: Mapping[int, Method]
    space: Mapping[str, Module]

    def module(self, module: str) -> Evaluated:
        reports: list[tuple[str, Mapping[str, float]]] = []
        with _exact():
            delta = self._sum(self.recipe.expression, module, reports)
        if delta is None:
            raise KeyError(module)
        return Evaluated(module, delta, _merged(reports), self.space[module])

    def stored(self, module: str) -> Evaluated:
        """The module in a form that an adapter can store."""
        from registry.deltas import Dense, LowRank
        from registry.methods._lowrank import low_rank

        found, place = self.module(module), self.space[module]
        if isinstance(found.delta, Dense) and place.form not in OF_PARAMETERS:
            if place.based and found.delta.rank >= min(found.delta.shape):
                raise full_rank(module)
            with _exact():
                merged = low_rank(found.delta)
            found = replace(found, delta=merged.delta, report={**found.report, **merged.report})
        if isinstance(found.delta, LowRank) and place.groups > 1:
            return replace(found, delta=replace(found.delta, groups=place.groups))
        return found

    def _sum(self, node: Sum, module: str, reports: list[tuple[str, Mapping[str, float]]]) -> Delta | None:
        found = [(float(t.weight), self._operand(t.operand, module, reports)) for t in node.terms]
        terms = [(weight, delta) for weight, delta in found if delta is not None]
        return kinds.rules(self.kind, self.space[module]).combine(terms) if terms else None

    def _operand(
        self, node: Input | Call, module: str, reports: list[tuple[str, Mapping[str, float]]]
    ) -> Delta | None:
        if isinstance(node, Input):
            delta = delta_of(self.inputs[node.digest], self.space[module])
            return None if delta is None else delta.to(self.device)
        method = self.methods[id(node)]
        slot = len(reports)  # a call reports before the calls inside it
        last = node
        while self.methods[id(last)].wraps and (inside := wrapped(last)):
            last = inside  # where a call wraps another, the inputs are those of the innermost
        parts = self._arguments(last, self.methods[id(last)], module, reports)
        if all(delta is None for _, _, delta in parts):
            return None
        site = methods.Site(module, [name for name, _, _ in parts], self.recipe.seed, _level(last))
        deltas = [delta if method.takes_dense else _as_factors(delta) for _, _, delta in parts]
        merged = self._merge(node, deltas, [weight for _, weight, _ in parts], site)
        reports.insert(slot, (node.method, merged.report))
        return merged.delta

    def _merge(
        self, node: Call, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site
    ) -> Merged:
        method, inside = self.methods[id(node)], wrapped(node)
        if not method.wraps or inside is None:
            return method.merge(deltas, weights, site)
        return method.around(lambda found: self._merge(inside, found, weights, site), deltas)

    def _arguments(
        self, node: Call, method: Method, module: str, reports: list[tuple[str, Mapping[str, float]]]
    ) -> list[tuple[str, float, Delta | None]]:
        """Name, weight and delta of each of a method's inputs."""
        parts: list[tuple[str, float, Delta | None]] = []
        for position, argument in enumerate(node.arguments, start=1):
            if method.spread or len(argument.terms) == 1:
                for term in argument.terms:
                    name = self._name(term.operand, position)
                    parts.append((name, float(term.weight), self._operand(term.operand, module, reports)))
            else:
                parts.append((f"input {position}", 1.0, self._sum(argument, module, reports)))
        return parts

    def _name(self, node: Input | Call, position: int) -> str:
        return self.names[node.digest] if isinstance(node, Input) else f"input {position} ({node.method})"


def _methods(recipe: Recipe) -> dict[int, Method]:
    """The methods of all calls, by the identity of their node; each is checked against its recorded version."""
    found: dict[int, Method] = {}
    for call in _calls(recipe.expression):
        method = methods.build(call.method, call.parameters)
        _check_algorithm(call.method, call.algorithm, method.algorithm)
        if (kinds.load(recipe.kind).writes_as or recipe.kind) not in method.kinds:
            defined = ", ".join(sorted(method.kinds))
            raise Incompatible(f"{call.method} is defined for {defined} adapters, not for {recipe.kind}")
        count = len(call.arguments)
        least, most = (1, 1) if method.spread else method.arity
        if count < least or (most is not None and count > most):
            raise Refused(f"{call.method} takes {_count(least, most)} arguments, not {count}")
        if method.wraps and wrapped(call) is None:
            raise Refused(
                f"{call.method} takes one call of another method", hint=f"{call.method}(average(a, b))"
            )
        found[id(call)] = method
    return found


def _waived(recipe: Recipe, built: Mapping[int, Method]) -> set[str]:
    """The inputs whose changed initialization is accounted for wherever they appear."""

    def plain(node: Sum, waives: bool) -> Iterator[str]:
        for term in node.terms:
            if isinstance(term.operand, Input):
                if not waives:
                    yield term.operand.digest
                continue
            inside = "initialization" in built[id(term.operand)].waives
            for argument in term.operand.arguments:
                yield from plain(argument, inside)

    return set(recipe.inputs) - set(plain(recipe.expression, False))


def wrapped(call: Call) -> Call | None:
    """The call that is the one argument of a method that wraps; None where there is something else."""
    terms = call.arguments[0].terms
    inside = terms[0].operand if len(terms) == 1 and terms[0].weight == 1 else None
    return inside if isinstance(inside, Call) else None


def _calls(node: Sum) -> Iterator[Call]:
    for term in node.terms:
        if isinstance(term.operand, Call):
            yield term.operand
            for argument in term.operand.arguments:
                yield from _calls(argument)


def _level(call: Call) -> int:
    """How many calls are nested in one, along the longest way down; a property of the call alone."""
    operands = (term.operand for argument in call.arguments for term in argument.terms)
    return max((1 + _level(operand) for operand in operands if isinstance(operand, Call)), default=0)


def _as_factors(delta: Delta | None) -> Delta | None:
    from registry.deltas import Dense, factored

    return factored(delta) if isinstance(delta, Dense) else delta


def _count(least: int, most: int | None) -> str:
    return f"at least {least}" if most is None else str(least) if least == most else f"{least} to {most}"


def _check_algorithm(name: str, recorded: int, today: int) -> None:
    if recorded != today:
        raise Refused(
            f"the recipe was made with {name} of algorithm {recorded}, this release has {today}",
            hint="compose it again, or use the release that made it",
        )


def _merged(reports: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
    """One mapping: bare names for a single call, ``method.name`` (``method#2.name`` …) for several."""
    if len(reports) == 1:
        return dict(reports[0][1])
    merged: dict[str, float] = {}
    seen: Counter[str] = Counter()
    for method, report in reports:
        seen[method] += 1
        prefix = method if seen[method] == 1 else f"{method}#{seen[method]}"
        merged |= {f"{prefix}.{key}": value for key, value in report.items()}
    return merged


@contextmanager
def _exact() -> Iterator[None]:
    """Full float32 products (no TF32, no bfloat16 passes), no gradients, and one thread while a module is computed.

    A module is too small to be split among threads, whose results would depend on how many there are.
    """
    import torch

    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
