"""Where a listing's versions are read from: what the rarest term picks, as far as a bounded look can tell.

A page then costs what it shows and what it passes over, not what the catalog holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, select, union_all

from registry.catalog import words
from registry.catalog._filtering import (
    ARTIFACT_KEYS,
    Condition,
    Filtering,
    begins,
    descendants,
    evaluations,
)
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
from registry.filters import FLAGS, Among, And, Compare, Leaf, Missing, Node, Not, Or, Words

_AHEAD = 250  # how far it is looked along each index, to see which is sparser
_FEW = 3_000  # so many may be read whole, and sorted
_DEARER = 4
_FEWER = 1_000  # the same where another term is read in order

# Under names of their own: the conditions look into the same tables.
_VERSIONS, _TAGS, _ALIASES = (
    row.__table__.alias(f"{row.__tablename__}_read") for row in (VersionRow, TagRow, AliasRow)
)
_VERSION = _VERSIONS.c
_ADAPTERS, _ARTIFACTS = AdapterRow.__table__.c, ArtifactRow.__table__.alias("artifacts_read")
_EVALUATIONS, _LINEAGE, _STALE = (
    EvaluationRow.__table__,
    LineageRow.__table__,
    stale_ids("live").subquery("stale_read"),
)
_WORDS, _NAME_WORDS = WordRow.__table__, NameWordRow.__table__


@dataclass(frozen=True)
class Posting:
    """The versions that one term picks: their row ids in a column, perhaps with repeats, under conditions.

    An ``ordered`` one is read newest first from an index, has no repeats, and is all that its term asks. ``counted``
    has about as many rows, and is quicker to count.
    """

    ids: ColumnElement[int]
    source: FromClause
    where: tuple[Condition, ...] = ()
    ordered: bool = False
    counted: Select[Any] | None = None
    term: Node | None = None

    def select(self) -> Select[int]:
        return select(self.ids.label("id")).select_from(self.source).where(*self.where)


Read = Callable[[Filtering, Leaf], Posting]


def choose(
    filtering: Filtering,
    terms: Sequence[Node],
    *,
    latest: bool,
    newest_first: bool,
    before: int | None,
    limit: int,
) -> Posting | None:
    """The best source for a page; None for every version. At most one statement is sent.

    ``before`` is the row id that a page of the newest first goes on from.
    """
    postings = [*_candidates(filtering, terms, latest=latest)]
    if not newest_first:
        postings = [replace(each, ordered=False) for each in postings]
    if not postings or (len(postings) == 1 and postings[0].ordered):
        return postings[0] if postings else None
    few = _FEWER if any(each.ordered for each in postings) else _FEW
    probes = [_probe(each, few, before) for each in postings]
    last = select(func.max(_VERSION.id)).scalar_subquery()
    *seen, everything = filtering.session.connection().execute(select(*probes, last)).one()
    best = min(range(len(postings)), key=lambda place: _rank(postings[place], seen[place], few))
    chosen, count = postings[best], seen[best]
    if chosen.ordered:
        return chosen
    # Where all are read in its order, a page passes over about limit * everything / count of them. What is read whole,
    # and from other tables first, costs some four times as much each.
    if count > few or _DEARER * count * count > limit * (everything or 0):
        return None
    whole = chosen.select().distinct().subquery()  # a database reads what is distinct before it looks further
    return Posting(whole.c.id, whole)


def _candidates(filtering: Filtering, terms: Sequence[Node], *, latest: bool) -> Iterator[Posting]:
    if latest:
        yield _LATEST
    for term in terms:
        found = posting(filtering, term)
        if found is not None:
            yield replace(found, term=term)


def _probe(posting: Posting, few: int, before: int | None) -> Any:
    """How far back a number of hits reaches (None: there are fewer), or how many there are, up to a bound."""
    if not posting.ordered:
        bounded = (posting.select() if posting.counted is None else posting.counted).limit(few + 1).subquery()
        return select(func.count()).select_from(bounded).scalar_subquery()
    ahead = posting.select() if before is None else posting.select().where(posting.ids < before)
    return ahead.order_by(posting.ids.desc()).limit(1).offset(_AHEAD).scalar_subquery()


def _rank(posting: Posting, seen: int | None, few: int) -> tuple[int, int]:
    """Lower is better: what ends soon, what is few, what reaches far back; what is many is of no use."""
    if posting.ordered:
        return (0, 0) if seen is None else (2, seen)
    count = 0 if seen is None else seen
    return (1, count) if count <= few else (3, 0)


_LATEST = Posting(_VERSION.id, _VERSIONS, (_VERSION.latest_of.is_not(None),), ordered=True)
_FLAGS = {
    "latest": _LATEST,
    "derived": Posting(_VERSION.id, _VERSIONS, (_VERSION.recipe_digest.is_not(None),)),
    "revoked": Posting(RevocationRow.__table__.c.version_id, RevocationRow.__table__),
    "affected": Posting(AffectedRow.__table__.c.version_id, AffectedRow.__table__),
    "stale": Posting(_STALE.c.version_id, _STALE),
}


def posting(filtering: Filtering, node: Node) -> Posting | None:
    """What a term picks, where something other than reading everything finds it."""
    match node:
        case And(operands):
            found = [each for operand in operands if (each := posting(filtering, operand)) is not None]
            return replace(found[0], ordered=False) if found else None
        case Or(operands):
            found = [each for operand in operands if (each := posting(filtering, operand)) is not None]
            return _union(found) if len(found) == len(operands) else None
        case Words(text):
            return _word(max(words.split(text), key=len))
        case Not() | Missing():
            return None
        case leaf:
            return _leaf(filtering, leaf)


def _union(postings: Sequence[Posting]) -> Posting:
    ids = union_all(*(each.select() for each in postings)).subquery()
    return Posting(ids.c.id, ids)


def _leaf(filtering: Filtering, leaf: Compare | Among) -> Posting | None:
    name = leaf.key.name
    if name in FLAGS:
        return _FLAGS.get(name) if isinstance(leaf, Compare) and leaf.value is True else None
    # A pattern reads everything, but for the few base models and names that start with something.
    if _is_pattern(leaf) and not (name == "base" or (name == "name" and _start(leaf))):
        return None
    read = _READ.get(name)
    return None if read is None else read(filtering, leaf)


def _tagged(filtering: Filtering, leaf: Leaf) -> Posting:
    fits = (_TAGS.c.key == leaf.key.part, filtering.compared(_TAGS.c.value, leaf))
    return Posting(_TAGS.c.version_id, _TAGS, fits, ordered=_is_one(leaf))


def _aliased(filtering: Filtering, leaf: Leaf) -> Posting:
    fits = filtering.compared(_ALIASES.c.alias_key, leaf)
    return Posting(_ALIASES.c.version_id, _ALIASES, (fits,), ordered=_is_one(leaf))


def _named(filtering: Filtering, leaf: Leaf) -> Posting:
    lines = select(_ADAPTERS.id).where(filtering.compared(_ADAPTERS.name_key, leaf))
    if _is_one(leaf):
        return Posting(
            _VERSION.id, _VERSIONS, (_VERSION.adapter_id == lines.scalar_subquery(),), ordered=True
        )
    if start := _start(leaf):
        lines = lines.where(begins(_ADAPTERS.name_key, start))
    return Posting(_VERSION.id, _VERSIONS, (_VERSION.adapter_id.in_(lines),))


def _on_base(filtering: Filtering, leaf: Leaf) -> Posting:
    bases = filtering.bases(leaf)
    one = len(bases) == 1
    on = _VERSION.base_model_id == bases[0] if one else _VERSION.base_model_id.in_(bases)
    return Posting(_VERSION.id, _VERSIONS, (on,), ordered=one)


def _indexed(filtering: Filtering, leaf: Leaf) -> Posting:
    """A column whose index goes on with the row id."""
    fits = filtering.compared(_VERSION[leaf.key.name], leaf)
    return Posting(_VERSION.id, _VERSIONS, (fits,), ordered=_is_one(leaf))


def _unordered(filtering: Filtering, leaf: Leaf) -> Posting:
    column = _VERSION.artifact_digest if leaf.key.name == "digest" else _VERSION[leaf.key.name]
    return Posting(_VERSION.id, _VERSIONS, (filtering.compared(column, leaf),))


def _held(filtering: Filtering, leaf: Leaf) -> Posting:
    fits = filtering.compared(_ARTIFACTS.c[leaf.key.name], leaf)
    # An outer join, so that SQLite begins with the artifacts; what no version has gives NULL, which is no version.
    source = _ARTIFACTS.outerjoin(_VERSIONS, _VERSION.artifact_digest == _ARTIFACTS.c.digest)
    return Posting(_VERSION.id, source, (fits,), counted=select(_ARTIFACTS.c.digest).where(fits))


def _evaluated(filtering: Filtering, leaf: Leaf) -> Posting:
    fits = (*evaluations(leaf.key), filtering.compared(_EVALUATIONS.c.value, leaf))
    return Posting(_EVALUATIONS.c.version_id, _EVALUATIONS, fits)


def _children(filtering: Filtering, leaf: Leaf) -> Posting:
    return Posting(_LINEAGE.c.child_id, _LINEAGE, (_LINEAGE.c.parent_id.in_(filtering.meant(leaf)),))


def _descendants(filtering: Filtering, leaf: Leaf) -> Posting:
    reached = descendants(filtering.meant(leaf))
    return Posting(reached.c.id, reached)


_READ: dict[str, Read] = {
    "tag": _tagged,
    "alias": _aliased,
    "name": _named,
    "base": _on_base,
    "eval": _evaluated,
    "parent": _children,
    "ancestor": _descendants,
    "digest": _unordered,
    "created_at": _unordered,
    **dict.fromkeys(("task", "license", "created_by"), _indexed),
    **dict.fromkeys(ARTIFACT_KEYS, _held),
}


def _is_one(leaf: Leaf) -> bool:
    return isinstance(leaf, Compare) and leaf.operator == "="


def _is_pattern(leaf: Leaf) -> bool:
    return isinstance(leaf, Compare) and leaf.operator in {"LIKE", "ILIKE"}


def _start(leaf: Leaf) -> str:
    """What every name begins with that fits a pattern."""
    if not isinstance(leaf, Compare) or not _is_pattern(leaf):
        return ""
    return re.split(r"[%_\\]", str(leaf.value), maxsplit=1)[0].lower()


def _word(word: str) -> Posting:
    said = Posting(_WORDS.c.version_id, _WORDS, (begins(_WORDS.c.word, word),))
    lines = select(_NAME_WORDS.c.adapter_id).where(begins(_NAME_WORDS.c.word, word))
    return _union([said, Posting(_VERSION.id, _VERSIONS, (_VERSION.adapter_id.in_(lines),))])
