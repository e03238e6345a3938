"""Expressions: what a user types, as a syntax tree and back. The grammar is in ``expression.lark``; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from registry.decimals import format_decimal
from registry.reference import Reference


@dataclass(frozen=True)
class Scaled:
    """``coefficient`` times ``operand``; negation is a coefficient of -1."""

    coefficient: Decimal
    operand: Reference | Call | Sum


@dataclass(frozen=True)
class Sum:
    """A sum of terms; ``depth`` is how deep methods and sums are nested inside."""

    terms: tuple[Node, ...]
    depth: int


@dataclass(frozen=True)
class Call:
    """``method(argument, …, parameter=value, …)``; parameter values are int, Decimal, bool, str or None."""

    method: str
    arguments: tuple[Node, ...]
    parameters: tuple[tuple[str, Any], ...]
    column: int = field(compare=False)
    depth: int


Node = Scaled | Sum | Call | Reference


def parse(text: str) -> Node:
    """The syntax tree of an expression. Raises ``ExpressionError``, which points at the column."""
    from registry import _parser  # the parser library is paid for where something is parsed

    return _parser.parse(text)


def references(node: Node) -> Iterator[Reference]:
    """Every reference in the tree, left to right, repetitions included."""
    match node:
        case Scaled(operand=operand):
            yield from references(operand)
        case Sum(terms=parts) | Call(arguments=parts):
            for part in parts:
                yield from references(part)
        case _:
            yield node


def render(node: Node, name: Callable[[Reference], str] = str) -> str:
    """The expression as text, each reference written by ``name``; parses back to the same tree."""
    match node:
        case Scaled(coefficient=coefficient, operand=operand):
            inner = render(operand, name)
            inner = f"({inner})" if isinstance(operand, Sum) else inner
            if coefficient == 1:
                return inner
            return f"-{inner}" if coefficient == -1 else f"{format_decimal(coefficient)}*{inner}"
        case Sum(terms=terms):
            return _render_sum(terms, name)
        case Call(method=method, arguments=arguments, parameters=parameters):
            parts = [render(argument, name) for argument in arguments]
            parts += [f"{key}={_value(value)}" for key, value in parameters]
            return f"{method}({', '.join(parts)})"
        case _:
            return name(node)


def _render_sum(terms: tuple[Node, ...], name: Callable[[Reference], str]) -> str:
    text = _render_term(terms[0], name)
    for term in terms[1:]:
        if isinstance(term, Scaled) and term.coefficient < 0:
            text += " - " + render(Scaled(-term.coefficient, term.operand), name)
        else:
            text += " + " + _render_term(term, name)
    return text


def _render_term(term: Node, name: Callable[[Reference], str]) -> str:
    return f"({render(term, name)})" if isinstance(term, Sum) else render(term, name)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "none"
        case Decimal():
            return format_decimal(value)
        case str():
            return f'"{value}"'
        case _:
            return str(value)
