"""What a published provenance claims of an adapter that is imported, and how that is recorded.

A claim decides about names, lineage and what is shown, and about nothing that is computed: no realisation is written,
so that composing the recipe here computes it, and ``verify --rebuild`` tells whether it gives what was claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, DecimalException
from typing import Any

from sqlalchemy.orm import Session

from registry import expression, hub, kinds
from registry.catalog import origins, references, revocations, versions
from registry.catalog.artifacts import Content
from registry.catalog.database import Contended
from registry.catalog.origins import Here
from registry.catalog.versions import Draft, Edge
from registry.decimals import exactly, format_decimal
from registry.errors import Refused, RegistryError
from registry.hub import FetchedRepo
from registry.peft_format import CONFIG, TENSORS, StoredAdapter
from registry.publishers import PROVENANCE
from registry.publishers._provenance import MAX_SIZE, NotOurs
from registry.publishers._statement import (
    Statement,
    ToldParent,
    ToldRecipe,
    ToldVersion,
    contradictions,
    in_order,
    read,
)
from registry.reference import MAX_LENGTH, Reference
from registry.results import BaseModelIdentity
from registry.verbs import _content
from registry.verbs._pinning import base_difference

_PART = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_MOST_NAMES = 1_000


def claim(
    repo: str, fetched: FetchedRepo, stored: StoredAdapter, base: BaseModelIdentity
) -> tuple[Claim | None, tuple[str, ...]]:
    """What the provenance of a fetched repo claims of its adapter; None, with a warning, where it cannot be used."""
    if PROVENANCE not in fetched.listed:
        return None, ()
    place = f"{hub.SCHEME}{repo}@{fetched.commit}"
    try:
        statement = _statement(repo, fetched)
        made = Claim(statement, place, base)
        against = next(made.objections(stored, fetched), None)
    except NotOurs as error:
        against = str(error)
    if against is not None:
        return None, (f"{PROVENANCE} of {repo} is left aside: {against}",)
    return made, ()


def _statement(repo: str, fetched: FetchedRepo) -> Statement:
    listed = fetched.listed[PROVENANCE]
    if listed.size > MAX_SIZE:
        raise NotOurs(f"it has {listed.size} bytes, more than {MAX_SIZE}")
    return read(hub.read_checked(repo, fetched.commit, PROVENANCE, listed))


@dataclass(frozen=True)
class _Known:
    """What a version that somebody tells of is here: its row, its reference, and its adapter's row."""

    id: int
    ref: str


@dataclass(frozen=True)
class Claim:
    """A statement about an adapter that was fetched from ``place``, on the base model ``base`` as it is called here."""

    statement: Statement
    place: str
    base: BaseModelIdentity

    @property
    def owner(self) -> str:
        return origins.owner_of(self.place)

    @property
    def itself(self) -> ToldVersion:
        if (found := self.statement.itself) is None:
            raise NotOurs("it does not tell of the lineage")
        return found

    def objections(self, stored: StoredAdapter, fetched: FetchedRepo) -> Iterator[str]:
        """Why the statement is not about what was fetched, or cannot be relied on."""
        statement = self.statement
        for name in (CONFIG, TENSORS):
            if statement.subjects.get(name) != _content.sha256(fetched.folder / name):
                yield f"it is not about the {name} that is there"
        if statement.target != "adapter":
            yield "it is about a merged model"
        if statement.digest != stored.digest:
            yield f"it tells of the content {statement.digest}, and this is {stored.digest}"
        if statement.upstream is None:
            yield "it does not tell of the lineage, or in a way of a later release"
            return
        yield from contradictions(statement)
        if self.itself.kind != stored.kind:
            yield f"it tells of {self.itself.kind}, and this is {stored.kind}"
        yield from self._against_bases()

    def _against_bases(self) -> Iterator[str]:
        for told in (self.statement.upstream or {}).values():
            repo = told.base.repo
            if told.base != self.itself.base and (repo is None or not hub.is_repo_id(repo)):
                yield f"it does not say which base model {told.ref} is on"
            try:
                known = kinds.load(told.kind) is not None and told.kind == told.kind.lower()
            except Refused:
                known = False
            if not known:
                yield f"{told.ref} is of the kind {told.kind}, which is not known here"
        named = self.itself.base.identity
        if named.repo is None:  # it was a path there, which says nothing here
            named = named.model_copy(update={"repo": self.base.repo, "revision": self.base.revision})
        if difference := base_difference(named, self.base):
            yield f"it is on another base model: {difference}"

    def write(self, session: Session, draft: Draft) -> tuple[Draft, tuple[str, ...]]:
        """The draft with what is claimed of it, its ancestors written before it where they are not here.

        Nothing is written where the adapter has this content already, or a base model is not what it is here.
        """
        itself, origin = self.itself, f"{self.place}#{self.statement.ref}"
        if origins.same_in(session, draft.name, draft.content.digest):
            return replace(draft, origin=origin), ()
        known, new = self._split(session)
        for told in {told.base: told for told in (itself, *new)}.values():
            there = origins.base_named(session, self._base(told))
            if there is not None and base_difference(there, told.base.identity if told.base.repo else there):
                return draft, (f"{PROVENANCE} of {self.place} is left aside: {there} has other weights here",)
        names = _Names(session, draft.name, self.owner)
        for told in new:
            names.choose(told, self._base(told))
        if itself.parents:
            revocations.await_edges(session)
        ids = origins.named(session, {draft.name, *names.chosen.values()}, draft.actor)
        references.held(session, {*ids.values(), *(each.adapter_id for each in known.values())})
        names.check()
        here = {ref: _Known(each.id, each.ref) for ref, each in known.items()}
        for told in new:
            here[told.ref] = self._record(session, told, names.chosen[told.ref], here, draft.actor)
        made = replace(
            draft,
            **_recipe(itself.recipe, itself.parents, here),
            parents=[*_edges(itself.parents, here), *_others(draft.parents, itself.parents, here)],
            task=itself.task if draft.task is None else draft.task,
            license=itself.license if draft.license is None else draft.license,
            origin=origin,
        )
        copies = revocations.twins_among(
            session, {here[told.ref].id: (told.ref, told.digest) for told in new}
        )
        return made, (*copies, *self._left_out([itself, *new], here))

    def _split(self, session: Session) -> tuple[dict[str, Here], list[ToldVersion]]:
        """Which of the ancestors are here, by reference there, and which have to be recorded, parents first.

        What is here is taken as it is, with the parents that it has here.
        """
        upstream = self.statement.upstream or {}
        digests = {parent.digest for told in upstream.values() for parent in told.parents}
        there = origins.with_content(session, digests)
        # Of several copies the one that was revoked: that judgement is about the content.
        bad = revocations.causes(session, [each.id for some in there.values() for each in some])
        known: dict[str, Here] = {}
        wanted: set[str] = set()
        front = list(self.itself.parents)
        while front:
            parent = front.pop()
            if parent.ref in known or parent.ref in wanted:
                continue
            told = upstream.get(parent.ref)
            base = self.itself.base.identity if told is None else told.base.identity
            same = [each for each in there.get(parent.digest, []) if _fits(each.base, base, self.base)]
            if same:
                known[parent.ref] = next((each for each in same if each.id in bad), same[0])
            elif told is not None:
                wanted.add(parent.ref)
                front.extend(told.parents)
        return known, [told for told in in_order(self.statement) if told.ref in wanted]

    def _base(self, told: ToldVersion) -> BaseModelIdentity:
        """The base model as it is recorded here: its weights are known only to those who saw them."""
        if told.base == self.itself.base:
            return self.base
        return BaseModelIdentity(repo=told.base.repo, revision=told.base.revision)

    def _record(
        self, session: Session, told: ToldVersion, name: str, here: Mapping[str, _Known], actor: str
    ) -> _Known:
        """A version that is known and not held."""
        content = Content(
            digest=told.digest,
            target="adapter",
            kind=told.kind,
            rank=told.rank,
            parameters=told.parameters,
            modules=told.modules,
            dtype=told.dtype,
            size=told.size,
            files={},
            not_composable=told.not_composable,
        )
        draft = Draft(
            name=name,
            content=content,
            base_model=self._base(told),
            actor=actor,
            parents=_edges(told.parents, here),
            task=told.task,
            license=told.license,
            source=None if told.place is None else told.source,
            origin=f"{self.place}#{told.ref}",
        )
        row_id, _ = versions.write(session, replace(draft, **_recipe(told.recipe, told.parents, here)))
        return _Known(row_id, references.ref_of(session, row_id))

    def _left_out(self, told: Sequence[ToldVersion], here: Mapping[str, _Known]) -> tuple[str, ...]:
        missing = {parent.ref for each in told for parent in each.parents if parent.ref not in here}
        if not missing:
            return ()
        return (
            f"the lineage of {self.statement.ref} was too large to be published whole: it ends early here",
        )


class _Names:
    """What versions that are only known are called here.

    The name they have there, where no adapter has it here, or one that was never held and is known from the same owner
    on the Hub, of the same kind and base model. Else ``OWNER/NAME``, ``OWNER/NAME-2`` and so on. So no version that is
    only known becomes the latest of a line that somebody works with here.
    """

    def __init__(self, session: Session, imported: str, owner: str) -> None:
        self.chosen: dict[str, str] = {}
        self._session = session
        self._owner = owner
        self._taken: dict[str, tuple[str, str, BaseModelIdentity] | None] = {imported.lower(): None}
        self._seen: dict[str, int] = {}

    def choose(self, told: ToldVersion, base: BaseModelIdentity) -> None:
        line = (told.name, told.kind, base)
        for name in self._candidates(told.name):
            key = name.lower()
            if key in self._taken:
                if self._taken[key] == line:
                    self.chosen[told.ref] = name
                    return
            elif self._is_free(name, told.kind, base):
                self._taken[key] = line
                self.chosen[told.ref] = name
                return
        raise Refused(
            f"no name is free for {told.ref}, which this was derived from", hint="use --no-provenance"
        )

    def check(self) -> None:
        """Now that they are held: nobody wrote to these adapters since they were chosen."""
        for name, last in self._seen.items():
            there = origins.line(self._session, name)
            if there is not None and there.last_version != last:
                raise Contended(f"somebody added to {name} meanwhile", hint="try again")

    def _candidates(self, name: str) -> Iterator[str]:
        yield name
        owner = self._owner if _PART.fullmatch(self._owner) else f"hub-{self._owner}"
        tail = name.rpartition("/")[2]
        for number in range(1, _MOST_NAMES):
            suffix = "" if number == 1 else f"-{number}"
            yield f"{owner}/{tail[: MAX_LENGTH - len(owner) - len(suffix) - 1]}{suffix}"

    def _is_free(self, name: str, kind: str, base: BaseModelIdentity) -> bool:
        there = origins.line(self._session, name)
        free = there is None
        if there is not None and there.only_known and there.name == name and there.base is not None:
            fits = there.kind == kind and there.base.repo == base.repo
            free = fits and there.owners == {self._owner}
        if free:
            self._seen[name] = 0 if there is None else there.last_version
        return free


def _fits(here: BaseModelIdentity, told: BaseModelIdentity, ours: BaseModelIdentity) -> bool:
    return base_difference(here, told if told.repo else ours) is None


def _recipe(
    told: ToldRecipe | None, parents: Sequence[ToldParent], here: Mapping[str, _Known]
) -> dict[str, Any]:
    """The fields of a draft that tell its recipe."""
    if told is None:
        return {}
    refs = {each.ref: here[each.ref].ref for each in parents if each.ref in here}
    return {"recipe": told.parsed, "expression": told.expression, "resolved": _resolved(told.resolved, refs)}


def _resolved(text: str, refs: Mapping[str, str]) -> str:
    """What an expression resolved to there, with the references that these versions have here."""

    def name(ref: Reference) -> str:
        return refs[str(ref)]

    try:
        return expression.render(expression.parse(text), name)
    except (RegistryError, KeyError):
        return text


def _edges(parents: Sequence[ToldParent], here: Mapping[str, _Known]) -> list[Edge]:
    """Edges to the parents; two contents that are one version here are one edge, with the sum of both."""
    edges: dict[tuple[int, str], Edge] = {}
    for each in parents:
        if each.ref not in here:
            continue
        edge = Edge(here[each.ref].id, each.relation, each.coefficient)
        key = (edge.version_id, edge.relation)
        edges[key] = edge if key not in edges else _sum(edges[key], edge)
    return list(edges.values())


def _sum(one: Edge, other: Edge) -> Edge:
    if one.coefficient is None or other.coefficient is None:
        return replace(one, coefficient=None)
    try:
        total = exactly.add(Decimal(one.coefficient), Decimal(other.coefficient))
    except DecimalException:
        return replace(one, coefficient=None)
    return replace(one, coefficient=format_decimal(total))


def _others(said: Sequence[Edge], parents: Sequence[ToldParent], here: Mapping[str, _Known]) -> list[Edge]:
    """The parents that the caller declared and that are not told of anyway."""
    told = {(edge.version_id, edge.relation) for edge in _edges(parents, here)}
    return [edge for edge in said if (edge.version_id, edge.relation) not in told]
