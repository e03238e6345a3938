"""Expressions: what a user types, as a syntax tree. The grammar is in ``expression.lark``; pure."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from registry import reference
from registry.errors import ExpressionError, UsageError
from registry.recipe import exactly, format_decimal

if TYPE_CHECKING:
    from lark import Lark
    from lark.exceptions import UnexpectedInput

    from registry.reference import Reference

MAX_LENGTH = 100_000
MAX_DEPTH = 50
_MAX_DIGITS = 40
_MAX_EXPONENT = 38  # beyond it a coefficient is no finite float32
_SPACES = "binary + and - need a space on both sides; a-b is a name"


@dataclass(frozen=True)
class Scaled:
    """``coefficient`` times ``operand``; negation is a coefficient of -1."""

    coefficient: Decimal
    operand: Reference | Call | Sum


@dataclass(frozen=True)
class Sum:
    terms: tuple[Node, ...]
    depth: int


@dataclass(frozen=True)
class Call:
    """``method(argument, …, parameter=value, …)``; parameter values are int, Decimal, bool, str or None."""

    method: str
    arguments: tuple[Node, ...]
    parameters: tuple[tuple[str, Any], ...]
    column: int
    depth: int


Node = Scaled | Sum | Call | reference.Reference


def parse(text: str) -> Node:
    """The syntax tree of an expression. Raises ``ExpressionError``, which points at the column."""
    from lark.exceptions import UnexpectedInput, VisitError

    if len(text) > MAX_LENGTH:
        raise UsageError(f"an expression of {len(text)} characters is too long", hint=f"at most {MAX_LENGTH}")
    if not text.strip():
        raise ExpressionError("an adapter is missing", text=text, column=1)
    try:
        tree: Node = _parser(text).parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise _explain(text, error) from None
    except VisitError as error:
        if isinstance(error.orig_exc, UsageError):
            raise error.orig_exc from None
        raise
    return tree


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
            return f"-{inner}" if coefficient == -1 else f"{_coefficient(coefficient)}*{inner}"
        case Sum(terms=terms):
            return _render_sum(terms, name)
        case Call(method=method, arguments=arguments, parameters=parameters):
            parts = [render(argument, name) for argument in arguments]
            parts += [f"{key}={_value(value)}" for key, value in parameters]
            return f"{method}({', '.join(parts)})"
        case _:
            return name(node)


def _render_sum(terms: tuple[Node, ...], name: Callable[[Reference], str]) -> str:
    text = render(terms[0], name)
    for term in terms[1:]:
        if isinstance(term, Scaled) and term.coefficient < 0:
            text += " - " + render(Scaled(-term.coefficient, term.operand), name)
        else:
            text += " + " + (f"({render(term, name)})" if isinstance(term, Sum) else render(term, name))
    return text


def _coefficient(value: Decimal) -> str:
    return format_decimal(value)


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


@cache
def _grammar() -> str:
    return files("registry").joinpath("expression.lark").read_text(encoding="utf-8")


def _parser(text: str) -> Lark:
    from lark import Lark, Transformer, v_args

    @v_args(inline=True)
    class Build(Transformer[Any, Any]):
        """Builds the tree while parsing, so that no recursion depends on the input."""

        def reference(self, token: Any) -> Node:
            return _located(text, token, lambda: reference.parse(str(token), column=token.column))

        def scaled(self, token: Any, operand: Node) -> Node:
            return _scale(_number(text, token), operand)

        def negated(self, operand: Node) -> Node:
            return _scale(Decimal(-1), operand)

        def sum(self, first: Node, *rest: Any) -> Node:
            if not rest:
                return first
            terms = [first]
            for operator, term in zip(rest[::2], rest[1::2], strict=True):
                terms.append(_scale(Decimal(-1), term) if "-" in operator else term)
            return Sum(tuple(terms), max(map(_depth, terms)))

        def call(self, method: Any, *arguments: Any) -> Node:
            return _call(text, method, arguments)

        def parameter(self, name: Any, value: Any) -> tuple[str, Any]:
            return str(name), value

        def number(self, token: Any) -> int | Decimal:
            value = _number(text, token)
            return int(value) if str(token).isdigit() else value

        def negative(self, token: Any) -> int | Decimal:
            return -self.number(token)

        def string(self, token: Any) -> str:
            return str(token)[1:-1]

        def word(self, token: Any) -> Any:
            return {"true": True, "false": False, "none": None}.get(str(token).lower(), str(token))

    return Lark(_grammar(), parser="lalr", transformer=Build(), propagate_positions=False)


def _located(text: str, token: Any, make: Callable[[], Reference]) -> Reference:
    try:
        return make()
    except UsageError as error:
        raise ExpressionError(error.message, text=text, column=token.column, hint=error.hint) from None


def _number(text: str, token: Any) -> Decimal:
    value = Decimal(str(token)) if len(token) <= _MAX_DIGITS else Decimal("NaN")
    if not value.is_finite() or (value != 0 and abs(value.adjusted()) >= _MAX_EXPONENT):
        raise ExpressionError(
            f"the number {str(token)[:_MAX_DIGITS]} is not a finite 32-bit float or too long",
            text=text,
            column=token.column,
            hint=f"write at most {_MAX_DIGITS} digits, of a size below 1e{_MAX_EXPONENT}",
        )
    return value


def _scale(factor: Decimal, node: Node) -> Node:
    if not isinstance(node, Scaled):
        return Scaled(factor, node)
    try:
        return Scaled(exactly.multiply(factor, node.coefficient), node.operand)
    except decimal.DecimalException:
        raise UsageError("the product of the coefficients is too long or too large") from None


def _call(text: str, method: Any, items: tuple[Any, ...]) -> Call:
    arguments = tuple(item for item in items if not isinstance(item, tuple))
    parameters = tuple(item for item in items if isinstance(item, tuple))
    names = [name for name, _ in parameters]
    column = method.column
    if not arguments:
        raise ExpressionError(f"{method} needs at least one adapter", text=text, column=column)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExpressionError(f"{method} is given {twice} twice", text=text, column=column)
    depth = 1 + max(map(_depth, arguments))
    if depth > MAX_DEPTH:
        raise ExpressionError(f"methods are nested deeper than {MAX_DEPTH}", text=text, column=column)
    return Call(str(method), arguments, parameters, column, depth)


def _depth(node: Node) -> int:
    match node:
        case Scaled(operand=operand):
            return _depth(operand)
        case Sum(depth=depth) | Call(depth=depth):
            return depth
        case _:
            return 0


def _explain(text: str, error: UnexpectedInput) -> ExpressionError:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    column = max(error.column, 1) if isinstance(error.column, int) else len(text) + 1
    before = text[: column - 1].rstrip()
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return ExpressionError("the expression ends too early", text=text, column=len(text) + 1)
    found = text[column - 1 :][:1] or "the end"
    hint = None
    if found == "*" and before.rsplit(maxsplit=1)[-1:] and before.lower().endswith(("inf", "nan", "infinity")):
        return ExpressionError("the coefficient is not a finite number", text=text, column=column)
    if found == "*":
        hint = "a coefficient stands before its adapter: 0.4*toxic"
    elif found in "+-" or isinstance(error, UnexpectedCharacters | UnexpectedToken):
        hint = _SPACES if _looks_unspaced(before, text[column - 1 :]) else None
    return ExpressionError(f"unexpected {found!r}", text=text, column=column, hint=hint)


def _looks_unspaced(before: str, after: str) -> bool:
    return after[:1] in "+-" or before.endswith("-")
