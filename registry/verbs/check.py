"""Check: what composing an expression would do, and how well its inputs get along. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from registry import evaluate, kinds, methods
from registry.blobs import BlobStore
from registry.catalog import revocations
from registry.catalog.artifacts import File
from registry.catalog.database import Database
from registry.errors import Incompatible, NotHeld
from registry.kinds import Module
from registry.peft_format import StoredAdapter
from registry.recipe import Input, Sum
from registry.results import Check, CheckedInput, CheckedModule, Conflict, Conflicts, Cost
from registry.verbs import _conflicts, _content, compose
from registry.verbs._conflicts import Measured, Source
from registry.verbs._estimate import Estimated, estimate
from registry.verbs._grounds import ground
from registry.verbs._pinning import Plan, plan

_ALIKE, _OPPOSITE = 0.99, -0.9  # mean cosines
_CONFLICT = 0.55  # of the signs; unrelated adapters have half of them opposite, by chance
_SERVED = 512  # the highest rank that vLLM loads
_NAMED = 3


@_content.unless_swept
def check(
    database: Database,
    blobs: BlobStore,
    text: str,
    *,
    rank: int | None,
    energy: str | float | None,
    dtype: str | None,
    base_path: str | Path | None = None,
    conflicts: bool | None = None,
) -> Check:
    with database.read() as session:
        made = plan(session, text, rank=rank, energy=energy, dtype=dtype)
        held = compose.recorded(session, made)
    grounds = ground(compose.opened(blobs, made, held), made.labels, base_path, made.base_model)
    made, inputs = made.on(grounds), grounds.inputs
    with database.read() as session:
        before = compose.known(session, made.recipe)
    evaluate.check(made.recipe, inputs, made.labels)
    _check_ranks(made.recipe.expression, made.labels, inputs)
    expected = estimate(made.recipe, inputs)
    for name, each in expected.items():
        if each.dense and each.module.based and (each.rank or 0) >= min(each.module.shape):
            raise evaluate.full_rank(name)
    found = _measured(made, inputs, conflicts)
    parameters = sum(each.parameters for each in expected.values())
    size = parameters * kinds.DTYPE_BYTES[made.recipe.dtype]
    return Check(
        expression=made.expression,
        resolved=made.resolved,
        recipe_digest=made.recipe.digest,
        kind=made.recipe.kind,
        base_model=made.base_model,
        dtype=made.recipe.dtype,
        inputs=tuple(
            CheckedInput(
                ref=pin.ref,
                digest=pin.digest,
                kind=pin.kind,
                base_model=pin.base_model,
                rank=pin.rank,
                parameters=pin.parameters,
                dtype=pin.dtype,
                coefficient=made.coefficient(pin),
            )
            for pin in made.pins
        ),
        modules=len(expected),
        rank=max((each.rank for each in expected.values() if each.rank is not None), default=None),
        parameters=parameters,
        size=size,
        cached=compose.usable(blobs, before) is not None,
        exact=all(each.exact for each in expected.values()),
        cost=Cost(
            read=sum(adapter.size for adapter in inputs.values()),
            written=size,
            operations=sum(each.operations for each in expected.values()),
        ),
        layout=tuple(_rows(made, inputs, expected)),
        conflicts=found.conflicts,
        warnings=(
            *made.warnings,
            *_about_ranks(expected),
            *_about_conflicts(found.conflicts, made.recipe.expression),
            *compose.factor_warnings(found.starts),
        ),
    )


@_content.unless_swept
def conflicts(database: Database, blobs: BlobStore, text: str, *, base_path: str | Path | None) -> Conflicts:
    """How the inputs get in each other's way, of whatever was composed: that some were revoked or deleted is told."""
    with database.read() as session:
        made = plan(session, text, rank=None, energy=None, dtype=None, explaining=True)
        held = compose.recorded(session, made)
        unusable = tuple(_unusable(session, made, held))
    grounds = ground(compose.opened(blobs, made, held), made.labels, base_path, made.base_model)
    made, inputs = made.on(grounds), grounds.inputs
    evaluate.check(made.recipe, inputs, made.labels)
    _check_ranks(made.recipe.expression, made.labels, inputs)
    return Conflicts(
        expression=made.expression,
        resolved=made.resolved,
        pairs=_measured(made, inputs, wanted=True).conflicts,
        warnings=(*made.warnings, *unusable),
    )


def _unusable(session: Session, made: Plan, held: Mapping[str, Mapping[str, File]]) -> Iterator[str]:
    """Which inputs are not composed any more. Raises ``NotHeld`` for one whose bytes went with it."""
    causes = revocations.causes(session, (pin.id for pin in made.pins))
    for pin in made.pins:
        yield from map(str, causes.get(pin.id, ()))
        if not pin.deleted:
            continue
        if not held[pin.digest]:
            raise NotHeld(
                f"{pin.ref} was deleted, and a garbage collection removed its bytes",
                hint="add the same files again, under any name",
            )
        yield f"{pin.ref} was deleted"


def _measured(made: Plan, inputs: Mapping[str, StoredAdapter], wanted: bool | None) -> Measured:
    """The conflicts: of all modules where they are ``wanted``, of some where nothing is said."""
    if wanted is False or len(made.pins) < 2:
        return Measured((), ())
    sources = [
        Source(pin.ref, pin.digest, float(made.coefficients[pin.id]), inputs[pin.digest]) for pin in made.pins
    ]
    return _conflicts.measure(sources, made.recipe.expression, whole=wanted is True)


def _check_ranks(expression: Sum, labels: Mapping[str, str], inputs: Mapping[str, StoredAdapter]) -> None:
    """Refuse what a method that needs equal ranks would refuse of the adapters given to it directly."""
    for call in _conflicts.calls(expression):
        if not methods.build(call.method, call.parameters).needs_equal_ranks():
            continue
        given = [term.operand for argument in call.arguments for term in argument.terms if term.weight]
        seen: dict[str, tuple[str, int | None]] = {}
        for digest in (operand.digest for operand in given if isinstance(operand, Input)):
            for name, module in inputs[digest].layout.modules.items():
                other, rank = seen.setdefault(name, (digest, module.rank))
                if rank != module.rank:
                    raise Incompatible(
                        f"{call.method} needs equal ranks, but in module {name} {labels[other]} has {rank} and "
                        f"{labels[digest]} has {module.rank}",
                        hint="use the exact sum, or truncate both to one rank first",
                    )


def _rows(
    made: Plan, inputs: Mapping[str, StoredAdapter], expected: Mapping[str, Estimated]
) -> Iterator[CheckedModule]:
    for name, each in expected.items():
        found = [inputs[pin.digest].layout.modules.get(name) for pin in made.pins]
        yield CheckedModule(
            module=name,
            shape=each.module.shape,
            form=_form(each.module),
            ranks=tuple(None if module is None else module.rank for module in found),
            rank=each.rank,
            exact=each.exact,
        )


def _form(module: Module) -> str:
    return "rescaling" if len(module.shape) == 1 else module.form


def _about_ranks(expected: Mapping[str, Estimated]) -> Iterator[str]:
    ranked = {name: each for name, each in expected.items() if each.rank is not None}
    highest = max((each.rank or 0 for each in ranked.values()), default=0)
    if highest > _SERVED:
        yield f"a rank of up to {highest} is more than vLLM loads ({_SERVED}): give the result a lower --rank"
    wide = [name for name, each in ranked.items() if (each.rank or 0) > min(each.module.shape)]
    if wide:
        first = ranked[wide[0]]
        yield (
            f"{_count(len(wide), 'module')} would be stored with a higher rank than the weight can have, such as "
            f"{wide[0]} with {first.rank} of {min(first.module.shape)}: truncate(...) holds all of it in less"
        )


def _about_conflicts(conflicts: Iterable[Conflict], expression: Sum) -> Iterator[str]:
    pairs = [(f"{each.a} and {each.b}", each) for each in conflicts]
    cosines = [(both, each.cosine.mean) for both, each in pairs if each.cosine is not None]
    alike = [f"{both} (mean cosine {cosine:.3f})" for both, cosine in cosines if cosine > _ALIKE]
    if alike:
        yield f"nearly the same: {_some(alike)}"
    opposite = {both: cosine for both, cosine in cosines if cosine < _OPPOSITE}
    if opposite:
        said = [f"{both} (mean cosine {cosine:.3f})" for both, cosine in opposite.items()]
        yield f"with these signs, what one adds the other takes away: {_some(said)}"
    signs = [
        f"{both} in {1 - each.sign_agreement.mean:.0%} of their elements"
        for both, each in pairs
        if each.sign_agreement and 1 - each.sign_agreement.mean > _CONFLICT and both not in opposite
    ]
    domains = {methods.family.load(call.method).about.domain for call in _conflicts.calls(expression)}
    if signs and "element-wise" not in domains:
        yield f"opposite signs: {_some(signs)}; ties(...) lets the inputs elect one for each element"


def _some(items: Sequence[str]) -> str:
    """The first few, and how many there are besides."""
    rest = len(items) - _NAMED
    return "; ".join([*items[:_NAMED], *([f"and {_count(rest, 'other pair')}"] if rest > 0 else [])])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
