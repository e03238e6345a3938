"""The parser of filters: ``filters.lark`` through Lark's LALR parser, errors that point at the column."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError

from registry import reference
from registry.errors import ExpressionError, UsageError
from registry.filters import (
    FLAGS,
    KEYS,
    NUMBERS,
    REFERENCES,
    SYNONYMS,
    TEXTS,
    TIMES,
    Among,
    And,
    Compare,
    Key,
    Missing,
    Node,
    Not,
    Or,
    Value,
    Words,
)
from registry.reference import Reference

MAX_LENGTH = 10_000
MAX_DEPTH = 50
MAX_TERMS = 200
MAX_VALUES = 500
_LARGEST = 2**62  # nothing that is counted comes near, and it fits the databases' integers
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_LONGEST_AGO = timedelta(days=365_000)
_LONGEST_INTEGER = 100  # digits; float() has made sure that it is not far beyond
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_ATTRIBUTES = ("attribute", "attributes", "attr")
_MEANT = {
    "author": "created_by",
    "base_model": "base",
    "created": "created_at",
    "metric": "eval.METRIC",
    "metrics": "eval.METRIC",
}
"""What others, and our own JSON, call what filters have."""
_SPELLINGS = {"==": "=", "<>": "!=", "&&": "AND", "||": "OR", "null": "IS NULL or IS NOT NULL"}
_PARTS = {"tag": "team", "eval": "accuracy"}
_ORDERS = ("=", "!=", "<", "<=", ">", ">=")
_LIKES = ("LIKE", "ILIKE")
_TERM = "a term is KEY OPERATOR VALUE, or a word to search for; terms are joined by AND, OR, NOT, ( )"


class _Located(Exception):
    """Something wrong with what starts at ``column``."""

    def __init__(self, message: str, column: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.column, self.hint = message, column, hint


class _Built(NamedTuple):
    """A node, how deeply it nests, how many terms it holds, and where it begins."""

    node: Node
    depth: int
    terms: int
    column: int


def parse(text: str) -> Node:
    """The tree of ``text``. Raises ``ExpressionError``."""
    if len(text) > MAX_LENGTH:
        raise UsageError(f"a filter of {len(text)} characters is too long", hint=f"at most {MAX_LENGTH}")
    if not text.strip():
        raise ExpressionError("the filter is empty", text=text, column=1, hint=_TERM)
    if unsafe := _UNSAFE.search(text):
        column = unsafe.start() + 1
        raise ExpressionError("a character that no text can hold", text=text, column=column)
    try:
        built: Any = _lark().parse(text)
    except UnexpectedInput as error:
        raise _explain(text, error) from None
    except (VisitError, _Located) as error:
        cause = error.orig_exc if isinstance(error, VisitError) else error
        if not isinstance(cause, _Located):
            raise
        raise ExpressionError(cause.message, text=text, column=cause.column, hint=cause.hint) from None
    node: Node = built.node
    return node


@cache
def _lark() -> Lark:
    grammar = files("registry").joinpath("filters.lark").read_text(encoding="utf-8")
    # Each keyword is one wherever it stands: with a lexer that knows the context, "a OR OR b" would search for "or".
    return Lark(grammar, parser="lalr", lexer="basic", transformer=_Build())


@v_args(inline=True)
class _Build(Transformer[Token, Any]):
    """Builds the tree while parsing, so that no recursion depends on the input."""

    def disjunction(self, *items: _Built) -> _Built:
        return _joined(Or, items)

    def conjunction(self, *items: _Built) -> _Built:
        return _joined(And, items)

    def negated(self, item: _Built) -> _Built:
        return _negated(item)

    def grouped(self, item: _Built) -> _Built:
        return _bounded(item._replace(depth=item.depth + 1))

    def compared(self, key: _Key, operator: Token, value: Token) -> _Built:
        return _compared(key, " ".join(operator.upper().split()), value)

    def not_compared(self, key: _Key, operator: Token, value: Token) -> _Built:
        return _negated(_compared(key, operator.upper().split()[-1], value))

    def among(self, key: _Key, values: Sequence[Token]) -> _Built:
        return _among(key, values)

    def not_among(self, key: _Key, values: Sequence[Token]) -> _Built:
        return _negated(_among(key, values))

    def missing(self, key: _Key) -> _Built:
        return _missing(key)

    def not_missing(self, key: _Key) -> _Built:
        return _negated(_missing(key))

    def words(self, token: Token) -> _Built:
        text = _unquoted(token)
        if token.type != "STRING":
            _meant_as_word(token)
        if not any(character.isalnum() for character in text):
            hint = f"write {_SPELLINGS[token]}" if token in _SPELLINGS else _TERM
            raise _Located(f"{str(token)!r} has no word to search for", _column(token), hint)
        return _leaf(Words(text), _column(token))

    def key(self, name: Token, *where: Token) -> _Key:
        return _key(name, [_unquoted(each) for each in where])

    def values(self, *tokens: Token) -> Sequence[Token]:
        return tokens

    def value(self, token: Token) -> Token:
        return token


def _meant_as_word(token: Token) -> None:
    """Refuse a bare word that is a condition half written: searched for, it would quietly find the wrong versions."""
    name, _, part = str(token).lower().partition(".")
    name = SYNONYMS.get(name, name)
    if name in FLAGS and not part:
        hint = f"write {name} = true, or '{token}' to search for the word"
    elif name in _PARTS and part:
        hint = f"write {token} IS NOT NULL, or '{token}' to search for the word"
    else:
        return
    raise _Located(f"{token} is compared with nothing", _column(token), hint)


class _Key(NamedTuple):
    key: Key
    column: int


def _leaf(node: Node, column: int) -> _Built:
    return _Built(node, 0, 1, column)


def _joined(kind: type[And | Or], items: Sequence[_Built]) -> _Built:
    """Terms under one AND or OR; what is joined the same way already becomes part of it."""
    operands: list[Node] = []
    for item in items:
        operands += item.node.operands if isinstance(item.node, kind) else [item.node]
    depth, terms = max(item.depth for item in items), sum(item.terms for item in items)
    if terms > MAX_TERMS:
        raise _Located(f"{terms} terms are too many", items[0].column, f"at most {MAX_TERMS}")
    return _bounded(_Built(kind(tuple(operands)), depth, terms, items[0].column))


def _negated(item: _Built) -> _Built:
    if isinstance(item.node, Not):
        return item._replace(node=item.node.operand)
    return item._replace(node=Not(item.node))


def _bounded(built: _Built) -> _Built:
    if built.depth > MAX_DEPTH:
        raise _Located(f"terms are nested deeper than {MAX_DEPTH}", built.column)
    return built


def _compared(key: _Key, operator: str, token: Token) -> _Built:
    rule = _rule(key, operator)
    value = _pattern(token) if operator in _LIKES else rule.read(token)
    if operator == "!=":
        return _leaf(Not(Compare(key.key, "=", value)), key.column)
    return _leaf(Compare(key.key, operator, value), key.column)


def _among(key: _Key, tokens: Sequence[Token]) -> _Built:
    rule = _rule(key, "IN")
    if len(tokens) > MAX_VALUES:
        raise _Located(f"{len(tokens)} values are too many", key.column, f"at most {MAX_VALUES}")
    return _leaf(Among(key.key, tuple(map(rule.read, tokens))), key.column)


def _missing(key: _Key) -> _Built:
    if key.key.name in FLAGS:
        raise _Located(f"{key.key} is true or false, never NULL", key.column, f"write {key.key} = false")
    return _leaf(Missing(key.key), key.column)


def _key(token: Token, where: Sequence[str]) -> _Key:
    """``name``, ``tag.team``, ``tags.`any text```, ``eval.acc['imdb', 'test']``."""
    column = _column(token)
    written, dot, part = str(token).partition(".")
    if dot and written.lower() in _ATTRIBUTES:
        written, dot, part = part, "", ""
    name = SYNONYMS.get(written.lower(), written.lower())
    if name not in KEYS:
        raise _Located(f"there is no key {str(token)!r}", column, _suggestion(written.lower()))
    if (name in _PARTS) != bool(part):
        raise _Located(
            *(
                (f"{name} needs a name after a dot", column, f"for example {name}.{_PARTS[name]}")
                if name in _PARTS
                else (f"{name} has no parts", column, f"write {name}")
            )
        )
    if where and name != "eval":
        raise _Located(f"{name} is not measured on datasets", column, "only eval.METRIC['dataset'] is")
    part = part[1:-1] if token.type == "QUALIFIED" else part
    return _Key(Key(name, part, *where), column)


def _suggestion(written: str) -> str:
    if meant := _MEANT.get(written):
        return f"write {meant}"
    close = difflib.get_close_matches(written, [*KEYS, *SYNONYMS], n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"one of: {', '.join(KEYS)}; a tag is written tag.KEY, a metric eval.METRIC"


class _Rule(NamedTuple):
    """What a key can be compared with, and how its value is read."""

    operators: Sequence[str]
    read: Callable[[Token], Value]


def _rule(key: _Key, operator: str) -> _Rule:
    rule = _RULES[key.key.name]
    if operator not in rule.operators:
        known = " ".join(rule.operators)
        raise _Located(f"{key.key} cannot be compared by {operator}", key.column, f"it has: {known}")
    return rule


def _text(token: Token) -> str:
    if token.type != "STRING":
        raise _Located(f"{str(token)!r} is not quoted", _column(token), f"write '{token}'")
    return _unquoted(token)


def _pattern(token: Token) -> str:
    text = _text(token)
    if re.sub(r"\\.", "", text, flags=re.DOTALL).endswith("\\"):
        raise _Located("the pattern ends in a backslash", _column(token), r"a backslash itself is \\\\")
    return text


def _number(token: Token) -> float:
    if token.type == "STRING" or _NUMBER.fullmatch(token) is None or not math.isfinite(float(token)):
        raise _Located(f"{str(token)!r} is not a number", _column(token), "numbers are not quoted: 0.8")
    return float(token)


def _integer(token: Token) -> int:
    number = _number(token)
    if not number.is_integer():
        raise _Located(f"{str(token)!r} is not a whole number", _column(token))
    exact = (
        int(token) if str(token).lstrip("+-").isdecimal() and len(token) < _LONGEST_INTEGER else int(number)
    )
    return max(-_LARGEST, min(_LARGEST, exact))


def _time(token: Token) -> Value:
    """An ISO date or time (in UTC where it does not say), a span such as ``'7d'`` ago, or milliseconds."""
    column = _column(token)
    try:
        if token.type != "STRING":
            milliseconds = _integer(token)
            _ = _EPOCH + timedelta(milliseconds=milliseconds + 1)
            return milliseconds
        text = _unquoted(token).strip()
        if ago := _AGO.fullmatch(text):
            span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return min(span, _LONGEST_AGO)
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        hint = "for example '2026-11-01', '2026-11-01T12:30:00+02:00', '7d' (ago), or milliseconds since 1970"
        raise _Located(f"{str(token)!r} is not a time", column, hint) from None


def _flag(token: Token) -> bool:
    if token.lower() not in {"true", "false"}:
        raise _Located(f"{str(token)!r} is not true or false", _column(token))
    return token.lower() == "true"


def _reference(token: Token) -> Reference:
    try:
        return reference.parse(_text(token), column=_column(token))
    except UsageError as error:
        raise _Located(error.message, _column(token), error.hint) from None


_RULES = {
    **dict.fromkeys(("name", "tag", *TEXTS), _Rule((*_ORDERS, *_LIKES, "IN"), _text)),
    **dict.fromkeys(("base", "alias"), _Rule(("=", "!=", *_LIKES, "IN"), _text)),
    **dict.fromkeys(NUMBERS, _Rule((*_ORDERS, "IN"), _integer)),
    "eval": _Rule((*_ORDERS, "IN"), _number),
    **dict.fromkeys(TIMES, _Rule((*_ORDERS, "IN"), _time)),
    **dict.fromkeys(FLAGS, _Rule(("=", "!="), _flag)),
    **dict.fromkeys(REFERENCES, _Rule(("=", "!=", "IN"), _reference)),
}


def _unquoted(token: Token) -> str:
    if token.type != "STRING":
        return str(token)
    quote = token[0]
    return str(token)[1:-1].replace(quote * 2, quote)


def _column(token: Token) -> int:
    """Where a token starts in the whole text, counting from 1, line breaks included."""
    return (token.start_pos or 0) + 1


def _explain(text: str, error: UnexpectedInput) -> ExpressionError:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return ExpressionError("the filter ends too early", text=text, column=len(text) + 1, hint=_TERM)
    start: Any = error.pos_in_stream  # annotated as None in Lark
    if text[start] in "'\"`" and text.count(text[start], start) % 2:
        return ExpressionError("a quote is not closed", text=text, column=start + 1)
    found = str(error.token) if isinstance(error, UnexpectedToken) else text[start]
    ours = _SPELLINGS.get(text[max(start - 1, 0) : start + 1]) or _SPELLINGS.get(found.lower())
    hint = _TERM if ours is None else f"write {ours}"
    return ExpressionError(f"unexpected {found!r}", text=text, column=start + 1, hint=hint)
