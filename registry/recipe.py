"""Recipes: an expression with every input pinned to its content digest and every parameter explicit.

A recipe holds everything that decides the result and nothing else: no names, tags, paths, hosts or times. Its
digest is the sha256 of its canonical JSON. Linear parts are kept in one canonical form: sums are flattened,
coefficients multiplied out exactly, equal operands merged, and the rest sorted by their own canonical JSON, so
that ``a + b`` and ``b + a`` (and ``2*a`` and ``a + a``) are the same recipe with the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from registry import digest
from registry.decimals import exactly, format_decimal

_WEIGHT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?")
FORMAT = 1
"""Version of the canonical JSON below; part of every recipe digest."""


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Node):
    """An adapter, by content digest."""

    digest: str

    def canonical(self) -> dict[str, Any]:
        return {"adapter": self.digest}


class Term(_Node):
    """``weight`` times an operand."""

    weight: Decimal
    operand: Input | Call

    def canonical(self) -> list[Any]:
        return [format_decimal(self.weight), self.operand.canonical()]


class Sum(_Node):
    """A linear combination in canonical form; build it with :func:`linear`."""

    terms: tuple[Term, ...]

    def canonical(self) -> dict[str, Any]:
        return {"sum": [term.canonical() for term in self.terms]}

    def inputs(self) -> Iterator[str]:
        """The digests of all adapters below this node, in canonical order, repetitions included."""
        for term in self.terms:
            if isinstance(term.operand, Input):
                yield term.operand.digest
            else:
                for argument in term.operand.arguments:
                    yield from argument.inputs()


class Call(_Node):
    """A merge method over linear combinations; ``algorithm`` is the version of the method's definition.

    ``parameters`` holds every parameter of the method, defaults included, with non-integers as exact
    decimal strings.
    """

    method: str
    algorithm: int
    parameters: dict[str, JsonValue]
    arguments: tuple[Sum, ...]

    def canonical(self) -> dict[str, Any]:
        return {
            "call": self.method,
            "algorithm": self.algorithm,
            "parameters": self.parameters,
            "arguments": [argument.canonical() for argument in self.arguments],
        }


class Recipe(_Node):
    """Everything that decides a composition's bytes.

    ``kind`` and ``algorithm`` name the adapter kind and the version of its linear algebra, ``dtype`` the
    output's (``"float32"``, ``"bfloat16"``, ``"float16"``, ``"float64"``), ``seed`` feeds the random methods.
    ``base`` identifies the base model's values that inputs are differences from, where there are any.
    """

    kind: str
    algorithm: int
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    seed: int = 0
    expression: Sum
    base: str | None = None

    def canonical(self) -> dict[str, Any]:
        based = {} if self.base is None else {"base": self.base}
        return {
            **based,
            "format": FORMAT,
            "kind": self.kind,
            "algorithm": self.algorithm,
            "dtype": self.dtype,
            "seed": self.seed,
            "expression": self.expression.canonical(),
        }

    @cached_property
    def digest(self) -> str:
        return digest.of_json(self.canonical())

    @property
    def inputs(self) -> list[str]:
        """Digests of the distinct inputs, in canonical order."""
        return list(dict.fromkeys(self.expression.inputs()))


def linear(terms: Iterable[tuple[Decimal, Input | Call | Sum]], *, merge: bool = True) -> Sum:
    """The canonical form of ``Σ weight · operand``.

    Terms whose weights cancel stay, with weight 0: they still decide which modules the result has, and they
    are part of its lineage. Without ``merge``, equal operands stay apart: for methods that are not linear in
    their inputs, ``2*a - a`` is not ``a``.
    """
    if not merge:
        apart = [Term(weight=weight, operand=operand) for weight, operand in _flatten(Decimal(1), terms)]
        return Sum(terms=tuple(sorted(apart, key=lambda term: digest.canonical_json(term.canonical()[::-1]))))
    weights: dict[bytes, Decimal] = {}
    operands: dict[bytes, Input | Call] = {}
    for weight, operand in _flatten(Decimal(1), terms):
        key = digest.canonical_json(operand.canonical())
        weights[key] = exactly.add(weights.get(key, Decimal(0)), weight)
        operands[key] = operand
    return Sum(terms=tuple(Term(weight=weights[key], operand=operands[key]) for key in sorted(weights)))


def identity(content: str, *, kind: str, algorithm: int, dtype: Any) -> Recipe:
    """The recipe of an imported adapter taken as it is: ``1 * adapter``."""
    return Recipe(
        kind=kind, algorithm=algorithm, dtype=dtype, expression=linear([(Decimal(1), Input(digest=content))])
    )


def parse(data: dict[str, Any]) -> Recipe:
    """The recipe that :meth:`Recipe.canonical` wrote. Raises ``ValueError`` for another format."""
    if data.get("format") != FORMAT:
        raise ValueError(f"recipe format {data.get('format')!r} is not {FORMAT}")
    fields = {key: data[key] for key in ("kind", "algorithm", "dtype", "seed")}
    return Recipe(**fields, expression=_parse_sum(data["expression"]), base=data.get("base"))


def _parse_sum(data: dict[str, Any]) -> Sum:
    return Sum(terms=tuple(Term(weight=_weight(w), operand=_parse_operand(o)) for w, o in data["sum"]))


def _weight(text: str) -> Decimal:
    """A weight as :func:`format_decimal` writes it: ``1e999999999`` would become as many digits."""
    if _WEIGHT.fullmatch(text) is None:
        raise ValueError("a weight that is no decimal")
    return Decimal(text)


def _parse_operand(data: dict[str, Any]) -> Input | Call:
    if "adapter" in data:
        return Input(digest=data["adapter"])
    return Call(
        method=data["call"],
        algorithm=data["algorithm"],
        parameters=data["parameters"],
        arguments=tuple(_parse_sum(argument) for argument in data["arguments"]),
    )


def _flatten(
    factor: Decimal, terms: Iterable[tuple[Decimal, Input | Call | Sum]]
) -> Iterator[tuple[Decimal, Input | Call]]:
    for weight, operand in terms:
        if isinstance(operand, Sum):
            yield from _flatten(
                exactly.multiply(factor, weight), ((term.weight, term.operand) for term in operand.terms)
            )
        else:
            yield exactly.multiply(factor, weight), operand


Term.model_rebuild()
