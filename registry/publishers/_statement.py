"""Reading somebody's ``provenance.json``: hostile until it was checked, and a claim even then.

What is read here says what another registry says. Shapes, sizes and text are bounded while it is parsed;
:func:`contradictions` then finds where it disagrees with itself.
"""

from __future__ import annotations

import heapq
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from registry import digest, expression
from registry import recipe as recipes
from registry.errors import RegistryError
from registry.publishers._provenance import BUILD_TYPE, MAX_SIZE, PREDICATE, STATEMENT, NotOurs
from registry.publishers._upstream import FORMAT, MAX_NODES
from registry.recipe import Recipe
from registry.reference import MAX_LENGTH, NAME
from registry.results import BaseModelIdentity, Target

_MOST_FILES = 100_000
_MOST_PARENTS = 10_000
_LONGEST = 10_000
_MOST_VALUES = 200_000  # in a recipe
_MOST_TEXT = 1_000_000  # of all expressions
_DEEPEST = 300
_WEIGHT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?")
_HEX = re.compile(r"[0-9a-f]{64}")
_REF = re.compile(rf"({NAME})@([1-9][0-9]{{0,8}})")
_PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+)@([0-9a-f]{40})", re.ASCII)


class Unusable(NotOurs):
    """A registry's provenance that cannot be read, with the reason."""


def _plain(text: str) -> str:
    """Text that can be stored and shown: no control characters but those of layout, and encodable."""
    if any(unicodedata.category(each) in {"Cc", "Cs"} and each not in "\n\t" for each in text):
        raise ValueError("it holds control characters")
    return text


def _reference(text: str) -> str:
    if (found := _REF.fullmatch(text)) is None or len(found[1]) > MAX_LENGTH:
        raise ValueError("it is not NAME@NUMBER")
    return text


Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Ref = Annotated[str, AfterValidator(_reference)]
Short = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Name = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_plain)]
Long = Annotated[str, Field(min_length=1, max_length=_LONGEST), AfterValidator(_plain)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
Coefficient = Annotated[str, Field(max_length=900, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Few = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ToldParent(_Model):
    """A parent, as somebody tells."""

    ref: Ref
    digest: Digest
    relation: Literal["input", "declared"]
    coefficient: Coefficient | None


class ToldBase(_Model):
    """A base model, as somebody tells; the repo is None where it was a path."""

    repo: Name | None
    revision: Name | None
    fingerprint: Digest | None

    @property
    def identity(self) -> BaseModelIdentity:
        return BaseModelIdentity(repo=self.repo, revision=self.revision, fingerprint=self.fingerprint)


class ToldRecipe(_Model):
    """A recipe, as somebody tells."""

    digest: Digest
    expression: Long
    resolved: Long
    canonical: dict[str, Any]

    @cached_property
    def parsed(self) -> Recipe:
        return parsed(self.canonical, self.digest)


class ToldVersion(_Model):
    """A version of another catalog, as somebody tells. ``source`` has its bytes, ``hf://REPO@COMMIT``."""

    ref: Ref
    digest: Digest
    kind: Word
    rank: Few | None
    parameters: Count
    modules: Few
    dtype: Word
    size: Count
    not_composable: Annotated[tuple[Long, ...], Field(max_length=1_000, strict=False)]
    base: ToldBase
    license: Short | None
    task: Short | None
    recipe: ToldRecipe | None
    parents: Annotated[tuple[ToldParent, ...], Field(max_length=_MOST_PARENTS, strict=False)]
    source: Name | None

    @property
    def name(self) -> str:
        return self.ref.partition("@")[0]

    @property
    def place(self) -> tuple[str, str] | None:
        """The repo and the commit that have its bytes."""
        found = _PLACE.fullmatch(self.source or "")
        return None if found is None else (found[1], found[2])


class _Upstream(_Model):
    format: int
    truncated: bool
    versions: Annotated[tuple[ToldVersion, ...], Field(max_length=MAX_NODES, strict=False)]


class Dependency(_Model):
    """Something that the build needed: ``role`` is ``input``, ``declared``, ``base model``, or None."""

    name: Name | None = None
    uri: Name | None = None
    digest: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, Any] = Field(default_factory=dict)

    @property
    def role(self) -> str | None:
        found = self.annotations.get("role")
        return found if isinstance(found, str) else None

    @property
    def sha256(self) -> str | None:
        found = self.digest.get("sha256")
        return None if found is None else digest.PREFIX + found


class _Adapter(_Model):
    ref: Ref
    digest: Digest


class _Pinned(_Model):
    digest: Digest
    canonical: dict[str, Any]


class _Asked(_Model):
    target: Target
    adapter: _Adapter
    expression: Long | None = None
    resolved: Long | None = None
    recipe: _Pinned | None = None


@dataclass(frozen=True)
class Statement:
    """What a registry says of a published adapter or model: its files, what it is, and what it was derived from.

    ``upstream`` has the version itself and its ancestors by reference; None of an older release that told of the inputs
    only. ``truncated`` says that some ancestors were left out.
    """

    subjects: Mapping[str, str]
    target: Target
    ref: str
    digest: str
    recipe: ToldRecipe | None
    dependencies: tuple[Dependency, ...]
    upstream: Mapping[str, ToldVersion] | None
    truncated: bool = False

    @property
    def itself(self) -> ToldVersion | None:
        return None if self.upstream is None else self.upstream.get(self.ref)

    @property
    def base(self) -> BaseModelIdentity:
        """The base model that it was computed on."""
        for each in self.dependencies:
            if each.role == "base model":
                repo, revision = each.annotations.get("repo"), each.annotations.get("revision")
                return BaseModelIdentity(
                    repo=repo if isinstance(repo, str) else None,
                    revision=revision if isinstance(revision, str) else None,
                    fingerprint=each.sha256,
                )
        return BaseModelIdentity(repo=None)


def read(content: bytes) -> Statement:
    """Raises ``NotOurs`` for what no registry wrote, and ``Unusable``, with the reason, for what is not sound."""
    if len(content) > MAX_SIZE:
        raise Unusable(f"it has {len(content)} bytes, more than {MAX_SIZE}")
    try:
        said = json.loads(content)
        made = said["predicate"]["buildDefinition"]
        kinds = said["_type"], said["predicateType"], made["buildType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotOurs("it is not a provenance statement") from None
    if kinds != (STATEMENT, PREDICATE, BUILD_TYPE):
        raise NotOurs("it is the provenance of something else")
    try:
        return _statement(said, made)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:50] for part in first["loc"])
        raise Unusable(f"{_shown(where)}: {_shown(first['msg'])}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable("it is malformed") from error


def _statement(said: Mapping[str, Any], made: Mapping[str, Any]) -> Statement:
    asked = _Asked.model_validate(made["externalParameters"])
    recipe = None
    if asked.recipe is not None:
        if asked.expression is None or asked.resolved is None:
            raise Unusable("its recipe has no expression")
        recipe = ToldRecipe(
            digest=asked.recipe.digest,
            canonical=asked.recipe.canonical,
            expression=asked.expression,
            resolved=asked.resolved,
        )
    told = made.get("internalParameters", {}).get("upstream")
    found = None if told is None else _Upstream.model_validate(told)
    if found is not None and found.format != FORMAT:
        found = None  # of a later release; the rest is as it always was
    versions = None if found is None else {each.ref: each for each in found.versions}
    if found is not None and versions is not None and len(versions) != len(found.versions):
        raise Unusable("it tells of a version twice")
    dependencies = made.get("resolvedDependencies", [])
    if not isinstance(dependencies, list) or len(dependencies) > _MOST_PARENTS:
        raise Unusable("its dependencies are no list of a sensible length")
    return Statement(
        subjects=_subjects(said["subject"]),
        target=asked.target,
        ref=asked.adapter.ref,
        digest=asked.adapter.digest,
        recipe=recipe,
        dependencies=tuple(Dependency.model_validate(each) for each in dependencies),
        upstream=versions,
        truncated=found is not None and found.truncated,
    )


def _subjects(said: Any) -> dict[str, str]:
    if not isinstance(said, list) or len(said) > _MOST_FILES:
        raise Unusable("its subjects are no list of a sensible length")
    found: dict[str, str] = {}
    for each in said:
        name, value = each["name"], each["digest"]["sha256"]
        if not isinstance(name, str) or not isinstance(value, str) or _HEX.fullmatch(value) is None:
            raise Unusable("a subject has no name and sha256")
        if not 0 < len(name) <= _LONGEST or name in found:
            raise Unusable(f"it names the file {_shown(name)} twice, or has a name of no sensible length")
        found[_plain(name)] = digest.PREFIX + value
    if not found:
        raise Unusable("it tells of no file")
    return found


def parsed(canonical: Mapping[str, Any], expected: str) -> Recipe:
    """The recipe of its canonical JSON. Raises ``Unusable`` where that is none, or not of this digest."""
    if not _is_sane(canonical):
        raise Unusable("a recipe is larger or deeper than any sensible one")
    try:
        made = recipes.parse(dict(canonical))
        agree = digest.of_json(canonical) == expected == made.digest
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise Unusable("a recipe is of no format that is known here") from None
    if not agree:
        raise Unusable(f"a recipe is not the one of its digest {expected}")
    return made


def _is_sane(canonical: Any) -> bool:
    """Whether a recipe can be parsed without harm: bounded in size and depth, its weights plain decimals."""
    front: list[tuple[Any, int]] = [(canonical, 0)]
    seen = 0
    while front:
        value, depth = front.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST_VALUES:
            return False
        match value:
            case {"sum": list(terms)}:
                front += [(term, depth + 1) for term in terms]
                weights = [term[0] for term in terms if isinstance(term, list) and term]
                if not all(isinstance(each, str) and _WEIGHT.fullmatch(each) for each in weights):
                    return False
            case dict():
                front += [(each, depth + 1) for each in value.values()]
            case list():
                front += [(each, depth + 1) for each in value]
    return True


def contradictions(statement: Statement) -> Iterator[str]:
    """Where a statement disagrees with itself."""
    recipe = statement.recipe
    if recipe is not None:
        try:
            inputs = set(recipe.parsed.inputs)
        except Unusable as error:
            yield str(error)
            return
        used = {each.sha256 for each in statement.dependencies if each.role == "input"}
        if inputs != used:
            yield "its dependencies are not the inputs of its recipe"
    if statement.upstream is None:
        return
    itself = statement.itself
    if itself is None or itself.digest != statement.digest:
        yield f"its lineage does not begin with {statement.ref}"
        return
    if (itself.recipe and itself.recipe.digest) != (recipe and recipe.digest):
        yield f"its lineage has another recipe for {statement.ref}"
    texts = [
        each.recipe.expression + each.recipe.resolved for each in statement.upstream.values() if each.recipe
    ]
    if sum(map(len, texts)) > _MOST_TEXT:
        yield "its expressions are longer than any sensible ones"
        return
    for each in statement.upstream.values():
        yield from _against(each, statement)
    if len(in_order(statement)) != len(statement.upstream):
        yield "its lineage has a cycle"


def _against(told: ToldVersion, statement: Statement) -> Iterator[str]:
    for parent in told.parents:
        there = (statement.upstream or {}).get(parent.ref)
        if there is None:
            if not statement.truncated:
                yield f"it tells nothing of {parent.ref}, which {told.ref} was derived from"
        elif there.digest != parent.digest:
            yield f"{parent.ref} is two contents"
        elif parent.relation == "input" and not _may_be_one(there.base, told.base):
            yield f"{told.ref} and {parent.ref}, which it was composed of, are on different base models"
    yield from _against_recipe(told)


def _against_recipe(told: ToldVersion) -> Iterator[str]:
    inputs = {parent.digest for parent in told.parents if parent.relation == "input"}
    if len({(parent.relation, parent.ref) for parent in told.parents}) != len(told.parents):
        yield f"{told.ref} has a parent twice"
    if told.recipe is None:
        if inputs:
            yield f"{told.ref} has inputs and no recipe"
        return
    try:
        made = told.recipe.parsed
        expression.parse(told.recipe.expression)
    except RegistryError as error:
        yield f"{told.ref}: {_shown(str(error))}"
        return
    if set(made.inputs) != inputs:
        yield f"the parents of {told.ref} are not the inputs of its recipe"


def _may_be_one(a: ToldBase, b: ToldBase) -> bool:
    if a.fingerprint and b.fingerprint:
        return a.fingerprint == b.fingerprint
    return a.repo == b.repo and (not a.revision or not b.revision or a.revision == b.revision)


def in_order(statement: Statement) -> Sequence[ToldVersion]:
    """The versions of the lineage, each after its parents and else by name and number.

    Those on a cycle, and what hangs on one, are left out.
    """
    known = statement.upstream or {}
    left = {ref: {p.ref for p in each.parents if p.ref in known} for ref, each in known.items()}
    children: dict[str, list[str]] = {ref: [] for ref in known}
    for ref, parents in left.items():
        for parent in parents:
            children[parent].append(ref)
    ready = [(_key(ref), ref) for ref, parents in left.items() if not parents]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, ref = heapq.heappop(ready)
        ordered.append(known[ref])
        for child in children[ref]:
            left[child].discard(ref)
            if not left[child]:
                heapq.heappush(ready, (_key(child), child))
    return ordered


def _key(ref: str) -> tuple[str, int]:
    name, _, number = ref.partition("@")
    return name, int(number)


def _shown(text: str) -> str:
    """Somebody's text in a message of one line."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= 200 else line[:200] + "…"
