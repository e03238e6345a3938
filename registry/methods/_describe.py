"""Everything there is to know of a method, read off its declarations: ``about``, the docstring, the fields."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from registry.decimals import format_decimal
from registry.methods import Method, family
from registry.methods._operators import OPERATORS
from registry.results import MethodInfo, MethodParameter


def everything() -> tuple[MethodInfo, ...]:
    """The operators, then the methods by name."""
    return (*OPERATORS, *(describe(name) for name in family.names()))


def describe(name: str) -> MethodInfo:
    """One method or operator. Raises ``Refused``, listing the methods, for an unknown one."""
    for operator in OPERATORS:
        if operator.name == name:
            return operator
    method = family.load(name)
    summary, _, definition = inspect.cleandoc(method.__doc__ or "").replace("``", "`").partition("\n")
    parameters = [_parameter(key, field) for key, field in method.model_fields.items()]
    return MethodInfo(
        name=name,
        summary=summary,
        definition="\n\n".join(" ".join(part.split()) for part in definition.strip().split("\n\n")),
        kinds=tuple(sorted(method.kinds)),
        inputs=_inputs(method),
        parameters=tuple(sorted(parameters, key=lambda parameter: not parameter.required)),
        **asdict(method.about),
    )


def _inputs(method: type[Method]) -> str:
    if method.wraps:
        return "a call of another method"
    if method.spread:
        return "a sum"
    least, most = method.arity
    return f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"


def _parameter(name: str, field: FieldInfo) -> MethodParameter:
    required = field.is_required()
    kind, choices = _type(field)
    return MethodParameter(
        name=name,
        type=kind,
        choices=choices,
        default=None if required or field.default is None else _written(field.default),
        required=required,
        description=field.description or "",
    )


def _type(field: FieldInfo) -> tuple[str, tuple[str, ...]]:
    """What may be given, in words, and the words to choose from where there are some."""
    (plain,) = (part for part in _members(field.annotation) if part is not type(None))  # None: left out
    if get_origin(plain) is Literal:
        choices = tuple(str(choice) for choice in get_args(plain))
        return f"one of {', '.join(choices)}", choices
    if plain is bool:
        return "true or false", ("true", "false")
    noun = {int: "integer", Decimal: "number"}[plain]
    return _bounded(noun, field), ()


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; anything else alone."""
    return (annotation,) if get_origin(annotation) is Literal else get_args(annotation) or (annotation,)


def _bounded(noun: str, field: FieldInfo) -> str:
    """``0 < number ≤ 1``, ``integer ≥ 1``."""
    limits = {
        key: getattr(limit, key)
        for limit in field.metadata
        for key in ("gt", "ge", "lt", "le")
        if hasattr(limit, key)
    }
    above = next((f" {sign} {limits[key]}" for key, sign in (("le", "≤"), ("lt", "<")) if key in limits), "")
    if not above:
        return noun + next(
            (f" {sign} {limits[key]}" for key, sign in (("ge", "≥"), ("gt", ">")) if key in limits), ""
        )
    below = next((f"{limits[key]} {sign} " for key, sign in (("ge", "≤"), ("gt", "<")) if key in limits), "")
    return f"{below}{noun}{above}"


def _written(default: Any) -> str:
    """A default as an expression would have it."""
    if isinstance(default, bool):
        return str(default).lower()
    return format_decimal(default) if isinstance(default, Decimal) else str(default)
