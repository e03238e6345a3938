"""The parser of expressions: ``expression.lark`` through Lark's LALR parser, errors that point at the column."""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError

from registry import reference
from registry.decimals import exactly
from registry.errors import ExpressionError, UsageError
from registry.expression import Call, Node, Scaled, Sum
from registry.reference import Reference

MAX_LENGTH = 100_000
MAX_DEPTH = 50
_MAX_DIGITS = 40
_MAX_CHARACTERS = 100  # the longest plain notation of a number within the two bounds has fewer
_MAX_EXPONENT = 38  # beyond it a coefficient is no finite float32
_SPACES = "binary + and - need a space on both sides; a-b is a name"


class _Located(Exception):
    """Something wrong with the token at ``column``."""

    def __init__(self, message: str, column: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.column, self.hint = message, column, hint


def parse(text: str) -> Node:
    """The syntax tree of ``text``. Raises ``ExpressionError``."""
    if len(text) > MAX_LENGTH:
        raise UsageError(f"an expression of {len(text)} characters is too long", hint=f"at most {MAX_LENGTH}")
    if not text.strip():
        raise ExpressionError("an adapter is missing", text=text, column=1)
    try:
        tree: Any = _lark().parse(text)
    except UnexpectedInput as error:
        raise _explain(text, error) from None
    except VisitError as error:
        raise _wrapped(text, error.orig_exc) from None
    except _Located as error:
        raise _wrapped(text, error) from None
    if not isinstance(tree, Node):
        raise TypeError(f"the grammar gave {tree!r}")
    return tree


@v_args(inline=True)
class _Build(Transformer[Token, Node]):
    """Builds the tree while parsing, so that no recursion depends on the input."""

    def reference(self, token: Token) -> Node:
        try:
            return reference.parse(str(token), column=_column(token))
        except UsageError as error:
            raise _Located(error.message, _column(token), error.hint) from None

    def scaled(self, token: Token, operand: Node) -> Node:
        return _scale(_number(token), operand)

    def negated(self, operand: Node) -> Node:
        return _scale(Decimal(-1), operand)

    def sum(self, first: Node, *rest: Any) -> Node:
        if not rest:
            return first
        terms = [first]
        for operator, term in zip(rest[::2], rest[1::2], strict=True):
            terms.append(_scale(Decimal(-1), term) if "-" in operator else term)
        # A sum inside a sum is a level, as a call is: what walks the tree recurses once for each.
        depth = max(map(_depth, terms)) + any(map(_is_sum, terms))
        if depth > MAX_DEPTH:
            raise _Located(f"sums are nested deeper than {MAX_DEPTH}", _first_column(terms))
        return Sum(tuple(terms), depth)

    def call(self, method: Token, *items: Any) -> Node:
        return _call(method, items)

    def parameter(self, name: Token, value: Any) -> tuple[str, Any]:
        return str(name), value

    def number(self, token: Token) -> int | Decimal:
        value = _number(token)
        return int(value) if str(token).isdigit() else value

    def negative(self, token: Token) -> int | Decimal:
        return -self.number(token)

    def string(self, token: Token) -> str:
        return str(token)[1:-1]

    def word(self, token: Token) -> Any:
        return {"true": True, "false": False, "none": None}.get(str(token).lower(), str(token))


@cache
def _lark() -> Lark:
    grammar = files("registry").joinpath("expression.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Build())


def _column(token: Token) -> int:
    """Where a token starts in the whole text, counting from 1, line breaks included."""
    return (token.start_pos or 0) + 1


def _number(token: Token) -> Decimal:
    try:
        value = Decimal(str(token)) if len(token) <= _MAX_CHARACTERS else Decimal("NaN")
    except decimal.DecimalException:  # an exponent beyond what Decimal holds
        value = Decimal("NaN")
    if not _sound(value):
        raise _Located(
            f"the number {str(token)[:_MAX_DIGITS]} is not a finite 32-bit float, or too long",
            _column(token),
            f"write at most {_MAX_DIGITS} digits, of a size below 1e{_MAX_EXPONENT}",
        )
    return value


def _sound(value: Decimal) -> bool:
    """Whether a coefficient can be used, and written so that it is read again."""
    if not value.is_finite() or (value != 0 and abs(value.adjusted()) >= _MAX_EXPONENT):
        return False
    return len(value.normalize(exactly).as_tuple().digits) <= _MAX_DIGITS


def _scale(factor: Decimal, node: Node) -> Node:
    if isinstance(node, Scaled):
        product = exactly.multiply(factor, node.coefficient)  # of two sound numbers: exact
        if not _sound(product):
            message = f"a product of coefficients has more than {_MAX_DIGITS} digits, or is out of range"
            raise _Located(message, 1)
        factor, node = product.normalize(exactly), node.operand
    return node if factor == 1 else Scaled(factor, node)


def _call(method: Token, items: tuple[Any, ...]) -> Call:
    arguments = tuple(item for item in items if not isinstance(item, tuple))
    parameters = tuple(item for item in items if isinstance(item, tuple))
    names = [name for name, _ in parameters]
    if not arguments:
        raise _Located(f"{method} needs at least one adapter", _column(method))
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _Located(f"{method} is given {twice} twice", _column(method))
    depth = 1 + max(map(_depth, arguments))
    if depth > MAX_DEPTH:
        raise _Located(f"methods are nested deeper than {MAX_DEPTH}", _column(method))
    return Call(str(method), arguments, parameters, _column(method), depth)


def _depth(node: Node) -> int:
    match node:
        case Scaled(operand=operand):
            return _depth(operand)
        case Sum(depth=depth) | Call(depth=depth):
            return depth
        case _:
            return 0


def _is_sum(node: Node) -> bool:
    return isinstance(node.operand if isinstance(node, Scaled) else node, Sum)


def _first_column(nodes: list[Node]) -> int:
    """Where the first of these nodes stands, as far as it says so."""
    node = nodes[0]
    while not isinstance(node, Call | Reference):
        node = node.operand if isinstance(node, Scaled) else node.terms[0]
    return node.column


def _wrapped(text: str, error: BaseException) -> BaseException:
    if isinstance(error, _Located):
        return ExpressionError(error.message, text=text, column=error.column, hint=error.hint)
    return error


def _explain(text: str, error: UnexpectedInput) -> ExpressionError:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return ExpressionError("the expression ends too early", text=text, column=len(text) + 1)
    start: Any = error.pos_in_stream  # annotated as None in Lark
    column = start + 1
    before, after = text[: column - 1].rstrip(), text[column - 1 :]
    if after.strip() in {"+", "-"}:
        return ExpressionError("the expression ends too early", text=text, column=len(text) + 1)
    found = after[:1] or "the end"
    if found == "*" and before.lower().endswith(("inf", "nan", "infinity")):
        return ExpressionError("the coefficient is not a finite number", text=text, column=column)
    hint = None
    if found == "*":
        hint = "a coefficient stands before its adapter: 0.4*toxic"
    elif found in "+-" or before.endswith("-"):
        hint = _SPACES
    elif before[-1:].isdigit() and found.isalpha():
        hint = "between a coefficient and its adapter stands '*': 0.4*toxic"
    return ExpressionError(f"unexpected {found!r}", text=text, column=column, hint=hint)
