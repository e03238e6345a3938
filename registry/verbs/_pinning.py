"""From an expression to a pinned recipe: resolve every reference, check that they belong together, fix parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, DecimalException
from itertools import combinations
from typing import Any

from sqlalchemy.orm import Session

from registry import evaluate, expression, kinds, methods, recipe
from registry.catalog import references, revocations
from registry.catalog.references import Pin
from registry.catalog.versions import Edge, Followed
from registry.decimals import exactly, format_decimal
from registry.errors import Incompatible, Refused, UsageError
from registry.expression import Call, Node, Scaled
from registry.recipe import Input, Recipe, Sum
from registry.reference import Reference
from registry.results import BaseModelIdentity
from registry.verbs._grounds import Grounds

DTYPES = ("float64", "float32", "bfloat16", "float16")
_GREATEST = Decimal("3.4028234e38")  # a coefficient has to be a finite float32

_TOO_LONG = "the coefficients multiply to a number that is too long"


@dataclass(frozen=True)
class Plan:
    """An expression, resolved. ``pins`` are the distinct versions in it, ``coefficients`` theirs by row id."""

    expression: str
    resolved: str
    recipe: Recipe
    pins: tuple[Pin, ...]
    coefficients: Mapping[int, Decimal]
    followed: tuple[Followed, ...]
    base_model: BaseModelIdentity
    warnings: tuple[str, ...]

    @property
    def labels(self) -> dict[str, str]:
        """Names of the inputs by digest, for messages."""
        return {pin.digest: pin.ref for pin in reversed(self.pins)}

    @property
    def task(self) -> str | None:
        """The task that all inputs share, if they do."""
        tasks = {pin.task for pin in self.pins}
        return tasks.pop() if len(tasks) == 1 else None

    @property
    def stored_as(self) -> str:
        """The kind of the result."""
        return kinds.load(self.recipe.kind).writes_as or self.recipe.kind

    def on(self, grounds: Grounds) -> Plan:
        """The same plan with the base model's values pinned, where inputs are differences from them."""
        pinned = self.recipe.model_copy(update={"base": grounds.digest})
        return replace(self, recipe=pinned, warnings=(*self.warnings, *grounds.warnings))

    def edges(self) -> list[Edge]:
        return [Edge(pin.id, "input", self.coefficient(pin)) for pin in self.pins]

    def coefficient(self, pin: Pin) -> str:
        return format_decimal(self.coefficients[pin.id])


def plan(
    session: Session,
    text: str,
    *,
    rank: int | None,
    energy: str | float | None,
    dtype: str | None,
    seed: int = 0,
    explaining: bool = False,
) -> Plan:
    """Resolve and check an expression; reads the catalog only. ``explaining`` is as in :func:`resolve`.

    Raises ``ExpressionError``, ``NotFound``, ``Incompatible`` (naming two inputs and their difference) and
    ``Refused`` (naming an input and the part of it that cannot be composed, or what was revoked).
    """
    tree = parsed(text, rank=rank, energy=energy)
    found = resolve(session, tree, explaining=explaining)
    return pinned(
        tree, found, text=text.strip() if rank is None and energy is None else None, dtype=dtype, seed=seed
    )


def parsed(text: str, *, rank: int | None, energy: str | float | None) -> Node:
    """The tree of an expression, truncated as asked. Raises ``ExpressionError``."""
    return _truncated(expression.parse(text), rank=rank, energy=energy)


def resolve(session: Session, tree: Node, *, explaining: bool = False) -> dict[Reference, Pin]:
    """The version behind each reference of an expression, none of them revoked, all of them fit for one another.

    What is only ``explaining``, and makes nothing, is given those that are revoked or deleted, too.
    """
    asked = dict.fromkeys(expression.references(tree))
    found = {ref: references.resolve(session, ref, deleted=explaining) for ref in asked}
    if not explaining:
        revocations.refuse(session, _distinct(found), "not composed")
    check_together(_distinct(found))
    return found


def _distinct(found: Mapping[Reference, Pin]) -> tuple[Pin, ...]:
    return tuple({pin.id: pin for pin in found.values()}.values())


def pinned(
    tree: Node, found: Mapping[Reference, Pin], *, text: str | None, dtype: str | None, seed: int = 0
) -> Plan:
    """The plan of an expression whose references were resolved; ``text`` is how it was typed, if not as rendered."""
    pins = _distinct(found)
    kind = kinds.load(pins[0].kind)
    made = Recipe(
        kind=pins[0].kind,
        algorithm=kind.algorithm,
        dtype=_dtype(dtype, pins),
        seed=seed,
        expression=_sum(tree, found, pins[0].kind),
    )
    coefficients: dict[int, Decimal] = {}
    try:
        _weigh(tree, Decimal(1), found, coefficients)
    except DecimalException:
        raise UsageError(_TOO_LONG) from None
    return Plan(
        expression=expression.render(tree) if text is None else text,
        resolved=expression.render(tree, lambda ref: found[ref].ref),
        recipe=made,
        pins=pins,
        coefficients=coefficients,
        followed=_followed(found),
        base_model=_most_specific(pins),
        warnings=tuple(_warnings(pins)),
    )


def check_together(pins: Iterable[Pin]) -> None:
    """Raise unless the versions are of one kind, on one base model, and can be composed at all."""
    for one, other in combinations(pins, 2):
        if one.kind != other.kind:
            raise Incompatible(
                f"{one.ref} is {one.kind} and {other.ref} is {other.kind}: different kinds do not compose",
                hint="compose adapters of one kind",
            )
        if difference := base_difference(one.base_model, other.base_model):
            raise Incompatible(
                f"{one.ref} and {other.ref} are on different base models: {difference}",
                hint="adapters compose only on the base model they were trained on",
            )
    for pin in pins:
        if pin.not_composable:
            raise Refused(f"{pin.ref} cannot be composed: {pin.not_composable[0]}")


def base_difference(a: BaseModelIdentity, b: BaseModelIdentity) -> str | None:
    """How two names are not those of one base model, as far as is known; None where they may be."""
    if a.fingerprint and b.fingerprint:
        return None if a.fingerprint == b.fingerprint else f"{a} and {b} have different weights"
    if a.repo != b.repo or (a.revision and b.revision and a.revision != b.revision):
        return f"{a} and {b}"
    return None


def _followed(found: Mapping[Reference, Pin]) -> tuple[Followed, ...]:
    moving = (
        Followed(pin.adapter_id, (ref.alias or "").lower(), pin.id)
        for ref, pin in found.items()
        if ref.digest is None and ref.version is None
    )
    return tuple(dict.fromkeys(moving))


def _warnings(pins: tuple[Pin, ...]) -> Iterable[str]:
    revisions = {pin.base_model.revision for pin in pins}
    if None in revisions and len(revisions) > 1:
        unsure = next(pin for pin in pins if pin.base_model.revision is None)
        yield f"{unsure.ref} does not say which revision of {unsure.base_model} it was trained on"


def _most_specific(pins: tuple[Pin, ...]) -> BaseModelIdentity:
    return max(
        (pin.base_model for pin in pins), key=lambda base: (bool(base.revision), bool(base.fingerprint))
    )


def _truncated(tree: Node, *, rank: int | None, energy: str | float | None) -> Node:
    if rank is not None and energy is not None:
        raise UsageError("--rank and --energy exclude one another", hint="give the one that matters")
    if rank is None and energy is None:
        return tree
    parameter = ("rank", rank) if rank is not None else ("energy", _decimal(energy))
    return Call("truncate", (tree,), (parameter,), column=1, depth=0)


def _decimal(value: str | float | None) -> Decimal:
    try:
        return Decimal(str(value))
    except DecimalException:
        raise UsageError(
            f"an energy of {value!r} is not a number", hint="for example --energy 0.95"
        ) from None


def _dtype(wanted: str | None, pins: tuple[Pin, ...]) -> Any:
    """The dtype asked for, or the narrowest that holds all inputs."""
    if wanted is not None:
        if wanted not in DTYPES:
            raise UsageError(f"unknown dtype {wanted!r}", hint=f"one of: {', '.join(DTYPES)}")
        return wanted
    found = {pin.dtype for pin in pins}
    if found == {"bfloat16", "float16"}:
        return "float32"
    return next((dtype for dtype in DTYPES if dtype in found), "float32")


def _sum(node: Node, pins: Mapping[Reference, Pin], kind: str, *, merge: bool = True) -> Sum:
    match node:
        case Scaled(coefficient=coefficient, operand=operand):
            return _linear([(coefficient, _sum(operand, pins, kind, merge=merge))], merge=merge)
        case expression.Sum(terms=terms):
            return _linear([(Decimal(1), _sum(term, pins, kind, merge=merge)) for term in terms], merge=merge)
        case Call():
            return recipe.linear([(Decimal(1), _call(node, pins, kind))])
        case _:
            return recipe.linear([(Decimal(1), Input(digest=pins[node].digest))])


def _linear(terms: list[tuple[Decimal, Sum]], *, merge: bool) -> Sum:
    try:
        result = recipe.linear(terms, merge=merge)
    except DecimalException:
        raise UsageError("the coefficients multiply to a number that is too long") from None
    for term in result.terms:
        if abs(term.weight) > _GREATEST:
            raise UsageError(
                f"the coefficient {format_decimal(term.weight)[:40]} is not a finite 32-bit float"
            )
    return result


def _call(node: Call, pins: Mapping[Reference, Pin], kind: str) -> recipe.Call:
    method = methods.build(node.method, dict(node.parameters))
    if (kinds.load(kind).writes_as or kind) not in method.kinds:
        raise Refused(
            f"{node.method} is not defined for {kind} adapters",
            hint=f"it is for: {', '.join(sorted(method.kinds))}",
        )
    least, most = (1, 1) if method.spread else method.arity
    if len(node.arguments) < least or (most is not None and len(node.arguments) > most):
        wanted = (
            f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        )
        hint = "join the adapters with + and -" if method.spread or most == 1 else None
        raise UsageError(f"{node.method} takes {wanted} argument(s), not {len(node.arguments)}", hint=hint)
    call = recipe.Call(
        method=node.method,
        algorithm=method.algorithm,
        parameters=method.explicit(),
        arguments=tuple(_sum(argument, pins, kind, merge=not method.spread) for argument in node.arguments),
    )
    if method.wraps and evaluate.wrapped(call) is None:
        raise UsageError(
            f"{node.method} takes one call of another method, and no coefficient before it",
            hint=f"for example {node.method}(average(a, b)), or 0.5*{node.method}(average(a, b))",
        )
    return call


def _weigh(node: Node, factor: Decimal, pins: Mapping[Reference, Pin], into: dict[int, Decimal]) -> None:
    """Each version's coefficient: what stands before it, multiplied along the nesting, added over its places."""
    match node:
        case Scaled(coefficient=coefficient, operand=operand):
            _weigh(operand, exactly.multiply(factor, coefficient), pins, into)
        case expression.Sum(terms=parts) | Call(arguments=parts):
            for part in parts:
                _weigh(part, factor, pins, into)
        case _:
            pin = pins[node]
            into[pin.id] = exactly.add(into.get(pin.id, Decimal(0)), factor)
