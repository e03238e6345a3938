"""Where a listing's versions are read from: what the rarest term picks, as far as a bounded look can tell.

A page then costs what it shows and what it passes over, not what the catalog holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Subquery, func, select, union_all
from sqlalchemy.sql.selectable import Select

from registry.catalog import words
from registry.catalog._filtering import ARTIFACT_KEYS, Filtering, Leaf, begins, descendants, evaluations
from registry.catalog.staleness import stale_ids
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactRow,
    EvaluationRow,
    LineageRow,
    NameWordRow,
    RevocationRow,
    TagRow,
    VersionRow,
    WordRow,
)
from registry.filters import Among, And, Compare, Missing, Node, Not, Or, Words

_AHEAD = 250  # how far it is looked along each index, to see which is sparser
_FEWER = 1_000  # so many may be read whole and sorted, where another term is read in order
_FEW = 5_000  # the same where none is
_MANY = 20_000  # the same where no term's order is the one that is asked for


_VERSION = VersionRow.__table__.alias("p").c


@dataclass(frozen=True)
class Posting:
    """The versions that one term picks, as a select of row ids called ``id``, perhaps with repeats.

    An ``ordered`` one is read newest first from an index, and has no repeats. ``cost`` is about how many rows are
    looked at for one that it has.
    """

    ids: Select[Any]
    ordered: bool = False
    cost: int = 1


def choose(
    filtering: Filtering, terms: Sequence[Node], *, latest: bool, newest_first: bool, before: int | None
) -> tuple[Subquery, bool] | None:
    """The best source for a page: a select of ids, and whether it is read in order. None: every _VERSION.

    ``before`` is the row id that an ordered page goes on from. At most one statement is sent.
    """
    postings = [_latest()] if latest else []
    postings += [found for term in terms if (found := posting(filtering, term)) is not None]
    if not newest_first:
        postings = [Posting(each.ids, cost=each.cost) for each in postings]
    if not postings:
        return None
    if len(postings) == 1 and postings[0].ordered:
        return postings[0].ids.subquery(), True
    few = _FEW if newest_first else _MANY
    if any(each.ordered for each in postings):
        few = _FEWER
    probes = [_probe(each, few // each.cost, before) for each in postings]
    seen = filtering.session.execute(select(*probes)).one()
    short = [each for each, mark in zip(postings, seen, strict=True) if each.ordered and mark is None]
    if short:
        return short[0].ids.subquery(), True
    counts = [
        (count, place)
        for place, (each, count) in enumerate(zip(postings, seen, strict=True))
        if not each.ordered and count <= few // each.cost
    ]
    if counts:
        chosen = postings[min(counts)[1]]
        # The limit is not reached; it makes a database read this first.
        return select(chosen.ids.limit(few + 1).subquery().c.id).distinct().subquery(), False
    sparsest = [
        (mark, place) for place, (each, mark) in enumerate(zip(postings, seen, strict=True)) if each.ordered
    ]
    return (postings[min(sparsest)[1]].ids.subquery(), True) if sparsest else None


def _probe(posting: Posting, few: int, before: int | None) -> Any:
    """How far back a number of hits reaches (None: there are fewer), or how many there are, up to a bound."""
    if not posting.ordered:
        return select(func.count()).select_from(posting.ids.limit(few + 1).subquery()).scalar_subquery()
    ids = posting.ids.subquery().c.id
    ahead = select(ids).order_by(ids.desc()).limit(1).offset(_AHEAD)
    return (ahead if before is None else ahead.where(ids < before)).scalar_subquery()


def _latest() -> Posting:
    return Posting(select(_VERSION.id).where(_VERSION.latest_of.is_not(None)), ordered=True)


def posting(filtering: Filtering, node: Node) -> Posting | None:
    """What a term picks, where something other than reading everything finds it."""
    match node:
        case And(operands):
            found = [each for operand in operands if (each := posting(filtering, operand)) is not None]
            return found[0] if found else None
        case Or(operands):
            each = [posting(filtering, operand) for operand in operands]
            found = [one for one in each if one is not None]
            return _union(found) if len(found) == len(each) else None
        case Words(text):
            return _word(max(words.split(text), key=len))
        case Not() | Missing():
            return None
        case leaf:
            return _leaf(filtering, leaf)


def _union(postings: Sequence[Posting]) -> Posting:
    ids = union_all(*(each.ids for each in postings)).subquery()
    return Posting(select(ids.c.id), cost=max(each.cost for each in postings))


def _leaf(filtering: Filtering, leaf: Compare | Among) -> Posting | None:
    one = isinstance(leaf, Compare) and leaf.operator == "="
    start = ""
    if isinstance(leaf, Compare) and leaf.operator in {"LIKE", "ILIKE"}:
        start = _start(str(leaf.value)).lower()
        if leaf.key.name != "base" and not (leaf.key.name == "name" and start):
            return None  # a pattern reads everything, but a name that starts with something
    match leaf.key.name:
        case "tag":
            rows = select(TagRow.version_id.label("id")).where(TagRow.key == leaf.key.part)
            return Posting(rows.where(filtering.compared(TagRow.value, leaf)), ordered=one)
        case "alias" if _exact(leaf):
            rows = select(AliasRow.version_id.label("id"))
            return Posting(rows.where(filtering.compared(AliasRow.alias_key, leaf)), ordered=one)
        case "name":
            named = select(AdapterRow.id).where(filtering.compared(AdapterRow.name_key, leaf))
            named = named.where(begins(AdapterRow.name_key, start)) if start else named
            lines = _VERSION.adapter_id == named.scalar_subquery() if one else _VERSION.adapter_id.in_(named)
            return Posting(select(_VERSION.id).where(lines), ordered=one)
        case "task" | "license" | "created_by" if _exact(leaf):
            own = _VERSION[leaf.key.name]
            return Posting(select(_VERSION.id).where(filtering.compared(own, leaf)), ordered=one)
        case "base":
            bases = filtering.bases(leaf)
            same = (
                _VERSION.base_model_id == bases[0] if len(bases) == 1 else _VERSION.base_model_id.in_(bases)
            )
            return Posting(select(_VERSION.id).where(same), ordered=len(bases) == 1)
        case "digest" if _exact(leaf):
            return Posting(select(_VERSION.id).where(filtering.compared(_VERSION.artifact_digest, leaf)))
        case "created_at":
            return Posting(select(_VERSION.id).where(filtering.compared(_VERSION.created_at, leaf)))
        case name if name in ARTIFACT_KEYS:
            column = ArtifactRow.__table__.c[name]
            rows = select(_VERSION.id).join(
                ArtifactRow.__table__, ArtifactRow.digest == _VERSION.artifact_digest
            )
            return Posting(rows.where(filtering.compared(column, leaf)), cost=10)
        case "eval":
            rows = select(EvaluationRow.version_id.label("id")).where(*evaluations(leaf.key))
            return Posting(rows.where(filtering.compared(EvaluationRow.value, leaf)))
        case "parent":
            rows = select(LineageRow.child_id.label("id"))
            return Posting(rows.where(LineageRow.parent_id.in_(filtering.meant(leaf))))
        case "ancestor":
            return Posting(select(descendants(filtering.meant(leaf)).c.id))
        case name if isinstance(leaf, Compare) and leaf.value is True:
            return _flag(name)
        case _:
            return None


def _exact(leaf: Leaf) -> bool:
    return isinstance(leaf, Among) or (isinstance(leaf, Compare) and leaf.operator == "=")


def _start(pattern: str) -> str:
    """The text that everything begins with that fits a pattern."""
    return re.split(r"[%_\\\\]", pattern, maxsplit=1)[0]


def _flag(name: str) -> Posting | None:
    match name:
        case "latest":
            return _latest()
        case "derived":
            return Posting(select(_VERSION.id).where(_VERSION.recipe_digest.is_not(None)))
        case "revoked":
            return Posting(select(RevocationRow.version_id.label("id")))
        case "affected":
            return Posting(select(AffectedRow.version_id.label("id")))
        case "stale":
            return Posting(select(stale_ids("live").subquery().c.version_id.label("id")))
        case _:
            return None


def _word(word: str) -> Posting:
    said = select(WordRow.version_id.label("id")).where(begins(WordRow.word, word))
    named = select(NameWordRow.adapter_id).where(begins(NameWordRow.word, word))
    return _union([Posting(said), Posting(select(_VERSION.id).where(_VERSION.adapter_id.in_(named)))])
