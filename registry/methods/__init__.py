"""Merge methods: one file each, found by name.

A method is a frozen pydantic model whose fields are its parameters, with one function. ``about`` states its
formula and source, its docstring says what is in the formula; both make ``registry methods`` and
``docs/methods.md``. Its parameters and ``algorithm`` are part of every recipe that uses it, so method modules import
torch only inside ``merge``: pinning a recipe must not cost it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from registry.decimals import format_decimal
from registry.errors import UsageError
from registry.plugins import Family

if TYPE_CHECKING:
    from registry.deltas import Delta


@dataclass(frozen=True)
class Site:
    """Where a merge happens: the module, names of the inputs for error messages, and the recipe's seed.

    ``level`` counts the calls nested in this one, along the longest way down: a random method draws by it, so
    that it never repeats the draws of a call inside it.
    """

    module: str
    inputs: Sequence[str]
    seed: int = 0
    level: int = 0


@dataclass(frozen=True)
class Merged:
    """A merged module, with numbers worth keeping (``rank``, ``energy``, ``error`` …)."""

    delta: Delta
    report: Mapping[str, float] = field(default_factory=dict)


Domain = Literal["vector space", "core", "element-wise", "factors"]
"""What a formula works on: the deltas as vectors, their small exact cores, single elements of ΔW, or LoRA's A and B."""


@dataclass(frozen=True)
class About:
    """What the table of methods says of one, beside its docstring and its parameters. Text is Markdown.

    δᵢ is an input's delta (``ΔWᵢ = sᵢBᵢAᵢ``, or ``ℓᵢ − 1`` for (IA)³), wᵢ its weight, N their number. ``cost`` is that of
    one module of size (m, n), with k the sum of the inputs' ranks. ``in_peft`` and the like name what computes the
    same there, with the parameters that make ours do so; None where nothing does.
    """

    formula: str
    source: str
    domain: Domain
    cost: str
    example: str
    in_peft: str | None = None
    in_mergekit: str | None = None
    in_adapters: str | None = None


Inner = Callable[[Sequence["Delta | None"]], Merged]
"""A method that another one wraps, with its weights: from its inputs' deltas to the merged one."""


class Method(BaseModel):
    """Base of the merge methods. The first line of a docstring is the method's summary, the rest its definition.

    ``algorithm`` counts up whenever the same parameters would give other numbers. ``kinds`` are the adapter
    kinds the formula is defined for, ``arity`` the least and greatest number of inputs. A ``spread`` method
    takes one linear combination and sees its terms as its inputs (``factors(0.5*a + 0.5*b)``). A method that
    ``takes_dense`` is handed dense deltas as they are; the others get them as factors of full rank. A method that
    ``wraps`` takes one call of another method and applies it elsewhere (``core(ties(a, b))``), by :meth:`around`.
    ``waives`` names what it accounts for in the adapters given to it directly, and what they are refused for
    elsewhere: ``initialization``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: ClassVar[About]
    algorithm: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"lora", "task_vector"})
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    spread: ClassVar[bool] = False
    takes_dense: ClassVar[bool] = False
    waives: ClassVar[frozenset[str]] = frozenset()
    wraps: ClassVar[bool] = False

    def merge(self, deltas: Sequence[Delta | None], weights: Sequence[float], site: Site) -> Merged:
        """Combine one module. ``None`` stands for an input without this module: a zero delta.

        At least one delta is given. Raises ``Incompatible`` where the inputs do not fit the formula.
        """
        raise NotImplementedError

    def around(self, inner: Inner, deltas: Sequence[Delta | None]) -> Merged:
        """Combine one module by applying ``inner`` to transformed deltas: what a method that ``wraps`` does.

        ``deltas`` are the inputs of the call inside, without its weights, which ``inner`` applies itself.
        """
        raise NotImplementedError

    def in_factor_space(self) -> bool:
        """Whether it works on LoRA's own factors, which parameters stored whole do not have."""
        return self.about.domain == "factors" or self.needs_equal_ranks()

    def needs_equal_ranks(self) -> bool:
        """Whether inputs of unequal ranks are refused, so that this can be said before anything is computed."""
        return False

    def rank_bound(self, ranks: Sequence[int]) -> int:
        """An upper bound of the result's rank from the inputs' ranks."""
        return sum(ranks)

    def explicit(self) -> dict[str, JsonValue]:
        """Every parameter, defaults included, as it enters a recipe."""
        return {
            name: format_decimal(value) if isinstance(value, Decimal) else value
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }


family: Family[Method] = Family(Method, "merge method")


def build(name: str, parameters: Mapping[str, Any]) -> Method:
    """The method ``name`` with ``parameters``.

    Raises ``Refused`` for an unknown method and ``UsageError`` naming the parameter that is wrong.
    """
    method = family.load(name)
    try:
        return method.model_validate(dict(parameters))
    except ValidationError as error:
        # A parameter that is not known may be the one that is missed, misspelt.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"]) or "parameters"
        known = ", ".join(method.model_fields) or "none"
        raise UsageError(
            f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}",
            hint=f"its parameters are: {known}",
        ) from None
