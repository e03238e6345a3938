"""The points of a sweep: which values, in which expression, and which of the measured ones are best. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException
from itertools import product
from typing import Literal

from registry.decimals import exactly, format_decimal
from registry.errors import ExpressionError, UsageError
from registry.results import Objective
from registry.verbs._text import check_text

MOST = 10_000
"""Points of a grid, or values of a variable."""

Values = Mapping[str, Decimal]
Metrics = Mapping[str, float]

_DIGITS = 40  # of a number in an expression
_FINE = 6  # digits of its width that a range is looked at by
_ROOM = Context(prec=exactly.prec)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_PLACE = re.compile(r"\{([^{}]*)\}")
_ENTRY = re.compile(rf"\s*(?:([0-9.]{{1,{_DIGITS}}})\s*-\s*)?({_NAME.pattern})\s*")
_CONSTRAINT = re.compile(r"\s*(\S(?:.*?\S)?)\s*(<=|>=|<|>|=)\s*(\S+)\s*")
_COMPARISON = (
    re.compile(  # what another comparison leaves in a metric's name: "18 < ppl < 21", "ppl =", "ppl !"
        r"[<>]|[=!~]\Z|\s=+\s"
    )
)
_RESERVED = {"path", "ref"}


@dataclass(frozen=True)
class Variable:
    """A variable of a sweep: its ``values`` in order, or without them every number from ``low`` to ``high``."""

    name: str
    text: str
    low: Decimal
    high: Decimal
    step: Decimal | None = None
    values: tuple[Decimal, ...] = ()

    def near(self, value: Decimal) -> Decimal:
        """The number of a range that a search takes for ``value``: of a narrow range as many as of a wide one."""
        width = exactly.subtract(self.high, self.low)
        place = Decimal(1).scaleb(max(width.adjusted() - _FINE, 1 - _DIGITS))
        found = value.quantize(place, ROUND_HALF_EVEN, context=_ROOM)
        return min(max(found, self.low), self.high)


def variable(name: str, asked: str | Sequence[str | Decimal | int]) -> Variable:
    """A variable from ``start:stop:step`` (the stop included), ``low:high`` or ``value,value,…``.

    Raises ``UsageError`` for anything else, and for more than :data:`MOST` values.
    """
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise UsageError(
            f"{name[:60]!a} cannot be the name of a variable",
            hint="letters, digits and _, not path or ref: --over w=0:1:0.1",
        )
    asked = _text(name, asked)
    if not asked.strip():
        raise UsageError(f"no values are given for {name}", hint=f"--over {name}=0:1:0.1 or {name}=0.1,0.3,1")
    parts = [_number(name, part) for part in re.split("[:,]", asked)]
    if ":" not in asked:
        values = tuple(dict.fromkeys(parts))
        return Variable(name, ",".join(map(format_decimal, values)), min(values), max(values), values=values)
    if "," in asked or len(parts) > 3:
        raise UsageError(
            f"{name}={asked[:60]} is neither a range nor a list", hint="--over w=0:1:0.1 or w=0.1,0.3,1"
        )
    low, high = parts[:2]
    text = ":".join(map(format_decimal, parts))
    if len(parts) == 2:
        if low >= high:
            raise UsageError(f"{name}={text} is an empty range", hint="--over w=0:1, the smaller one first")
        return Variable(name, text, low, high)
    step = parts[2]
    if step == 0 or (high - low) / step < 0:
        turned = f"{name}={':'.join(map(format_decimal, (low, high, -step)))}"
        raise UsageError(
            f"{name}={text} does not come from {format_decimal(low)} to {format_decimal(high)}",
            hint=f"the step goes the other way: --over {turned}"
            if step
            else "a step that is not 0, such as 0.1",
        )
    count = int(exactly.divide_int(exactly.subtract(high, low), step)) + 1
    if count > MOST:
        raise UsageError(f"{name}={text} has {count} values", hint=f"at most {MOST}: take a greater step")
    values = tuple(exactly.add(low, exactly.multiply(step, Decimal(at))) for at in range(count))
    return Variable(name, text, min(values), max(values), abs(step), values)


def _text(name: str, asked: str | Sequence[str | Decimal | int]) -> str:
    try:
        return asked if isinstance(asked, str) else ",".join(map(str, asked))
    except TypeError:
        raise UsageError(
            f"{name}={asked!r} is neither a range nor a list", hint="'0:1:0.1', or numbers: [0.1, 0.3]"
        ) from None


def _number(name: str, text: str) -> Decimal:
    try:
        value = Decimal(text.strip()) if len(text) <= 2 * _DIGITS else Decimal("NaN")
    except DecimalException:
        value = Decimal("NaN")
    if not value.is_finite() or (value and abs(value.adjusted()) >= _DIGITS):
        raise UsageError(f"{text[:60]!a} is no number for {name}", hint="for example --over w=0:1:0.1")
    return value


def check_template(text: str, names: Sequence[str]) -> None:
    """Every ``{name}`` or ``{1-name}`` is of a variable, and every variable is there. Raises ``ExpressionError``."""
    found = set()
    for place in _PLACE.finditer(text):
        entry = _entry(place[1])
        if entry is None or entry[1] not in names:
            hint = "a place is a variable, {w}, or a number less a variable, {1-w}"
            if entry is not None:
                hint = f"give some: --over {entry[1]}=0:1:0.1"
            raise ExpressionError(
                f"no values are given for {{{place[1][:60]}}}",
                text=text,
                column=place.start() + 1,
                hint=hint,
            )
        found.add(entry[1])
    stray = re.search(r"[{}]", _PLACE.sub(lambda place: " " * len(place[0]), text))
    if stray:
        raise ExpressionError(
            f"a lone {stray[0]}", text=text, column=stray.start() + 1, hint="a variable is {w}"
        )
    for name in names:
        if name not in found:
            raise UsageError(
                f"the variable {name} is not in the expression",
                hint=f"write {{{name}}} where its number stands",
            )


def filled(text: str, values: Values) -> str:
    """The expression with the values in their places: of ``{w}`` its value, of ``{1-w}`` what it lacks to 1."""

    def put(place: re.Match[str]) -> str:
        entry = _entry(place[1])
        if entry is None:
            raise ExpressionError(f"{place[0][:60]} is no place of a variable", text=text, column=1)
        whole, name = entry
        return format_decimal(values[name] if whole is None else exactly.subtract(whole, values[name]))

    return _PLACE.sub(put, text)


def _entry(text: str) -> tuple[Decimal | None, str] | None:
    """What a place holds: the number that the variable is taken from, if any, and the variable."""
    match = _ENTRY.fullmatch(text)
    if match is None:
        return None
    try:
        return None if match[1] is None else Decimal(match[1]), match[2]
    except DecimalException:
        return None


def written(values: Values) -> dict[str, str]:
    """Values as results and rows have them."""
    return {name: format_decimal(value) for name, value in values.items()}


def example(variables: Sequence[Variable]) -> dict[str, Decimal]:
    """A point that a search may ask for: of ranges one inside, which is no whole number."""
    found = {}
    for each in variables:
        inside = exactly.multiply(exactly.subtract(each.high, each.low), Decimal("0.61803"))
        found[each.name] = each.values[0] if each.values else each.near(exactly.add(each.low, inside))
    return found


def grid(variables: Sequence[Variable]) -> Iterator[dict[str, Decimal]]:
    """All combinations, the last variable fastest. Raises ``UsageError`` for a range without a step, or too many."""
    for each in variables:
        if not each.values:
            raise UsageError(
                f"{each.name}={each.text} has no step",
                hint=f"--over {each.name}={each.text}:0.1, or --search bayes",
            )
    count = math.prod(len(each.values) for each in variables)
    if count > MOST:
        raise UsageError(
            f"the grid has {count} points", hint=f"at most {MOST}: take greater steps, or --search bayes"
        )
    names = [each.name for each in variables]
    return (dict(zip(names, values, strict=True)) for values in product(*(each.values for each in variables)))


def objectives(metrics: Sequence[str], *, minimize: bool | None) -> tuple[Objective, ...]:
    """``name:min`` or ``name:max``, or ``name`` where ``minimize`` says which; first things first. Raises ``UsageError``."""
    found: list[Objective] = []
    for text in metrics:
        name, colon, said = text.rpartition(":")
        if not colon or said not in {"min", "max"}:
            if minimize is None:
                raise UsageError(
                    f"nothing says whether less or more of {text[:100]!a} is better",
                    hint="--minimize or --maximize, or --metric NAME:min",
                )
            name, said = text, "min" if minimize else "max"
        check_text("metric", name)
        found.append(Objective(metric=name, direction="min" if said == "min" else "max"))
    if not found:
        raise UsageError("no metric is named", hint="say which one decides: --metric toxicity --minimize")
    if len({each.metric for each in found}) != len(found):
        raise UsageError(
            "a metric is named twice", hint="name each once: --metric toxicity:min --metric ppl:min"
        )
    return tuple(found)


@dataclass(frozen=True)
class Constraint:
    """``metric`` compared with ``bound``."""

    metric: str
    operator: Literal["<", "<=", ">", ">=", "="]
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {repr(self.bound).removesuffix('.0')}"

    def holds(self, metrics: Metrics) -> bool:
        value = metrics[self.metric]
        match self.operator:
            case "<":
                return value < self.bound
            case "<=":
                return value <= self.bound
            case ">":
                return value > self.bound
            case ">=":
                return value >= self.bound
            case _:
                return value == self.bound

    def excess(self, metrics: Metrics) -> float:
        """How far the value is from where the constraint holds, 0 where it does."""
        if self.holds(metrics):
            return 0.0
        return abs(metrics[self.metric] - self.bound) or math.ulp(self.bound)


def constraint(text: str) -> Constraint:
    """``'ppl < 21'``. Raises ``UsageError``."""
    match = _CONSTRAINT.fullmatch(text)
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise UsageError(f"{text[:100]!a} is no constraint", hint="for example --constrain 'ppl < 21'")
    check_text("metric", match[1])
    operator = match[2]
    if operator not in {"<", "<=", ">", ">=", "="}:
        raise UsageError(f"{text[:100]!a} is no constraint", hint="one of <, <=, >, >= and =")
    return Constraint(match[1], operator, bound)  # type: ignore[arg-type]


def constraints(texts: Sequence[str]) -> list[Constraint]:
    """Constraints as they are asked for. Raises ``UsageError``, also where several are written as one."""
    found = [constraint(text) for text in texts]
    for text, each in zip(texts, found, strict=True):
        if _COMPARISON.search(each.metric):
            raise UsageError(
                f"{text[:100]!a} is no constraint",
                hint="one of <, <=, >, >= and =, and one comparison each: --constrain 'ppl > 18' --constrain 'ppl < 21'",
            )
    return found


def losses(metrics: Metrics, wanted: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives' values so that less is better."""
    return tuple(
        metrics[each.metric] if each.direction == "min" else -metrics[each.metric] for each in wanted
    )


def front(found: Mapping[int, tuple[float, ...]]) -> set[int]:
    """The Pareto front: those that no other is as good as in every loss, and better than in one."""
    best: set[tuple[float, ...]] = set()
    rests: list[tuple[float, ...]] = []  # the front of all losses but the first, of those before
    for each in sorted(set(found.values())):  # only an earlier one can be better: its first loss is as small
        rest = each[1:]
        if not any(_reaches(other, rest) for other in rests):
            best.add(each)
            rests = [other for other in rests if not _reaches(rest, other)] + [rest]
    return {position for position, each in found.items() if each in best}


def _reaches(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one is as good as the other in every loss."""
    return all(a <= b for a, b in zip(one, other, strict=True))


def excess(metrics: Metrics, constraints: Sequence[Constraint]) -> float:
    """By how much the constraints are missed, together, each in proportion to its bound."""
    return sum(each.excess(metrics) / max(1.0, abs(each.bound)) for each in constraints)


def best(
    found: Mapping[int, tuple[tuple[float, ...], Mapping[str, str]]],
) -> int | None:
    """The position of the best of these losses with their values; of equal ones that with the smaller values."""
    if not found:
        return None
    return min(
        found,
        key=lambda at: (found[at][0], tuple(abs(Decimal(value)) for value in found[at][1].values()), at),
    )
