"""How much the inputs of an expression get in each other's way: :mod:`registry.interference` over their modules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

from registry import methods
from registry.inputs import Reader, delta_of, space
from registry.methods import Site
from registry.recipe import Call, Input, Sum
from registry.results import Conflict, ModuleConflict, ModuleReport, Range

if TYPE_CHECKING:
    from registry.deltas import Delta
    from registry.kinds import Module

_AT_EASE = 15_000_000_000
"""Operations that nobody waits for: about two seconds on one core."""

# What a module costs beside its bases, in the same operations.
_PER_INPUT, _PER_PAIR, _PER_ELEMENT = 10_000_000, 1_000_000, 20


@dataclass(frozen=True)
class Source:
    """An input of the expression: its name and coefficient there, and where its modules are read from."""

    ref: str
    digest: str
    coefficient: float
    reader: Reader


@dataclass(frozen=True)
class Measured:
    """All pairs of inputs, and what ``factors`` says of the initializations of those given to it."""

    conflicts: tuple[Conflict, ...]
    starts: tuple[ModuleReport, ...]


def measure(sources: Sequence[Source], expression: Sum, *, whole: bool) -> Measured:
    """Compare all pairs of inputs in the modules that two of them have; one module is held at a time.

    Unless ``whole``, only as many modules as are measured in about two seconds, drawn by their names.
    """
    names, places = _shared(sources), space({source.digest: source.reader for source in sources})
    given = list(_factors(expression))
    found: dict[tuple[int, int], list[ModuleConflict]] = {}
    starts: list[ModuleReport] = []
    for name in names if whole else _few(sources, names):
        deltas = [delta_of(source.reader, places[name]) for source in sources]
        for pair, conflict in _module(name, sources, deltas):
            found.setdefault(pair, []).append(conflict)
        held = {source.digest: delta for source, delta in zip(sources, deltas, strict=True)}
        starts += [report for call in given if (report := _start(name, call, held))]
    pairs = combinations(range(len(sources)), 2)
    return Measured(
        tuple(_conflict(sources[i], sources[j], found.get((i, j), [])) for i, j in pairs), tuple(starts)
    )


def calls(node: Sum) -> Iterator[Call]:
    """All calls in an expression, those inside another one before it."""
    for call in (term.operand for term in node.terms if not isinstance(term.operand, Input)):
        for argument in call.arguments:
            yield from calls(argument)
        yield call


def _shared(sources: Sequence[Source]) -> list[str]:
    """The modules that two inputs have, sorted."""
    names = [name for source in sources for name in source.reader.layout.modules]
    return sorted({name for name in names if len(_modules(sources, name)) > 1})


def _modules(sources: Sequence[Source], name: str) -> list[Module]:
    found = (source.reader.layout.modules.get(name) for source in sources)
    return [module for module in found if module is not None]


def _few(sources: Sequence[Source], names: Sequence[str]) -> list[str]:
    """As many modules as are measured at ease. Their names' digests decide, which know nothing of layers."""
    work = sum(_work(_modules(sources, name)) for name in names)
    count = max(1, len(names) * _AT_EASE // max(work, 1))
    return sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def _work(modules: Sequence[Module]) -> int:
    """Operations, about: the bases of all inputs together, what is dense, single elements, and the pairs."""
    count, k = len(modules), sum(module.rank or 0 for module in modules)
    dense = _PER_ELEMENT * sum(prod(m.shape) for m in modules if m.rank is None or m.based)
    return 2 * sum(modules[0].shape) * k**2 + dense + _PER_INPUT * count + _PER_PAIR * count**2


def _module(
    name: str, sources: Sequence[Source], deltas: Sequence[Delta | None]
) -> Iterator[tuple[tuple[int, int], ModuleConflict]]:
    from registry import interference

    measured = interference.pairwise(deltas, [source.coefficient for source in sources])
    for pair, each in measured.items():
        yield (
            pair,
            ModuleConflict(
                module=name,
                cosine=each.cosine,
                column_overlap=each.columns,
                row_overlap=each.rows,
                sign_agreement=each.agreement,
                sampled=each.sampled,
            ),
        )


def _conflict(a: Source, b: Source, measured: Sequence[ModuleConflict]) -> Conflict:
    return Conflict(
        a=a.ref,
        b=b.ref,
        common=len({*a.reader.layout.modules} & {*b.reader.layout.modules}),
        cosine=_range(each.cosine for each in measured),
        column_overlap=_range(each.column_overlap for each in measured),
        row_overlap=_range(each.row_overlap for each in measured),
        sign_agreement=_range(each.sign_agreement for each in measured),
        modules=tuple(measured),
    )


def _range(values: Iterable[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    return Range(mean=sum(known) / len(known), min=min(known), max=max(known)) if known else None


def _factors(expression: Sum) -> Iterator[list[tuple[float, str]]]:
    """Weights and digests of the adapters that each ``factors`` is given directly."""
    for call in calls(expression):
        if call.method == "factors":
            terms = [term for argument in call.arguments for term in argument.terms]
            yield [(float(t.weight), t.operand.digest) for t in terms if isinstance(t.operand, Input)]


def _start(
    name: str, call: Sequence[tuple[float, str]], held: Mapping[str, Delta | None]
) -> ModuleReport | None:
    """What ``factors`` reports of adapters given to it: how alike their initializations are."""
    from registry.deltas import LowRank

    given = [(weight, held[digest]) for weight, digest in call]
    low = [(weight, delta) for weight, delta in given if isinstance(delta, LowRank)]
    if len(low) < 2:
        return None
    weights, deltas = [weight for weight, _ in low], [delta for _, delta in low]
    merged = methods.build("factors", {}).merge(deltas, weights, Site(name, ["" for _ in low]))
    return ModuleReport(module=name, values=dict(merged.report))
