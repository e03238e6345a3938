"""Filters as SQL: for each term a condition on one version.

A condition looks up what it needs by the version's row id, as a value in SQL's logic of three values: nothing is
joined, so that a hundred terms are no harder to plan than one. Where the versions are read from is another matter,
which ``_postings`` decides.
"""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    FromClause,
    String,
    and_,
    cast,
    collate,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    union,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import CTE

from registry.catalog import references, words
from registry.catalog.events import now
from registry.catalog.staleness import is_stale
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactRow,
    BaseAliasRow,
    BaseModelRow,
    EvaluationRow,
    LineageRow,
    NameWordRow,
    RevocationRow,
    TagRow,
    UTCDateTime,
    VersionRow,
    WordRow,
)
from registry.filters import Among, And, Compare, Key, Leaf, Missing, Node, Not, Or, Value, Words
from registry.reference import Reference

Condition = ColumnElement[bool]

ARTIFACT_KEYS = ("kind", "rank", "parameters", "size")
_LAST = "\U0010ffff"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PLUS = custom_op[Any]("+")
_PIECE = re.compile(r"([%_])|\\(.)|([^%_\\]+)", re.DOTALL)
_ESCAPED, _GLOBBED = re.compile(r"[%_\\]"), re.compile(r"[*?\[]")
_GLOBS = {"%": "*", "_": "?"}
_ORDERS: dict[str, Callable[[Any, Any], Condition]] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}

_ADAPTER = AdapterRow.__table__.c
_AFFECTED = AffectedRow.__table__.c
_ALIAS = AliasRow.__table__.c
_ARTIFACT = ArtifactRow.__table__.c
_BASE_ALIAS = BaseAliasRow.__table__.c
_EVALUATION = EvaluationRow.__table__.c
_LINEAGE = LineageRow.__table__.c
_NAME_WORD = NameWordRow.__table__.c
_REVOCATION = RevocationRow.__table__.c
_TAG = TagRow.__table__.c
_WORD = WordRow.__table__.c
VERSION = VersionRow.__table__.alias("v")
"""The version that conditions are about."""


class Filtering:
    """Compiles the filter of one listing, whose versions are ``version``.

    References and base models are looked up when they are met: ``NotFound`` for a version that is not there.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.postgresql = session.get_bind().dialect.name == "postgresql"
        self.version = VERSION
        self.id: ColumnElement[int] = VERSION.c.id
        self._outer: list[FromClause] = [VERSION]
        self._now = now()
        self._bases: dict[tuple[str, str], list[int]] = {}
        self._meant: dict[str, list[int]] = {}

    def read_from(self, source: FromClause, ids: ColumnElement[int]) -> None:
        """Take the row id from where the versions are read: what fails is then not looked up itself."""
        self.id = ids
        self._outer.append(source)

    def condition(self, node: Node) -> Condition:
        """Whether a version fits."""
        match node:
            case And(operands):
                return and_(*map(self.condition, operands))
            case Or(operands):
                return or_(*map(self.condition, operands))
            case Not(operand):
                return not_(self.condition(operand))
            case Words(text):
                return and_(*map(self._word, words.split(text)))
            case leaf:
                return self._leaf(leaf)

    def _leaf(self, leaf: Leaf) -> Condition:
        fits: Condition
        match leaf.key.name:
            case "base":
                missing = isinstance(leaf, Missing)  # every version has a base model
                fits = false() if missing else self.own("base_model_id").in_(self.bases(leaf))
            case "alias":
                missing = isinstance(leaf, Missing)
                said = [] if missing else [self.compared(_ALIAS.alias_key, leaf)]
                fits = self._any(_ALIAS.version_id == self.id, *said, negated=missing)
            case "eval":
                fits = self._evaluated(leaf)
            case "parent" | "ancestor":
                fits = self._derived(leaf)
            case name if isinstance(leaf, Compare) and isinstance(leaf.value, bool):
                fits = self._flag(name) if leaf.value else not_(self._flag(name))
            case _:
                fits = self.compared(self._value(leaf.key), leaf)
        return fits

    def _derived(self, leaf: Leaf) -> Condition:
        edge = _LINEAGE.child_id == self.id
        if isinstance(leaf, Missing):
            return self._any(edge, negated=True)
        if leaf.key.name == "parent":
            return self._any(edge, _LINEAGE.parent_id.in_(self.meant(leaf)))
        return self.id.in_(select(descendants(self.meant(leaf)).c.id))

    def own(self, name: str) -> ColumnElement[Any]:
        """A column of the version, hidden from SQLite's planner: it would take any index before the right one."""
        column = self.version.c[name]
        return column if self.postgresql else UnaryExpression(column, operator=_PLUS, type_=column.type)

    def _any(self, *conditions: Condition, negated: bool = False) -> Condition:
        """Whether there is such a row. Not EXISTS, which PostgreSQL may answer by reading all such rows of all versions."""
        found = (
            select(literal_column("1")).where(*conditions).limit(1).correlate(*self._outer).scalar_subquery()
        )
        return found.is_(None) if negated else found.is_not(None)

    def _value(self, key: Key) -> ColumnElement[Any]:
        """What a key of one value means for a version."""
        version = self.version.c
        match key.name:
            case "run_id":
                return cast(null(), String())
            case "digest":
                return self.own("artifact_digest")
            case "version":
                return self.own("number")
            case "name":
                found = select(_ADAPTER.name_key).where(_ADAPTER.id == version.adapter_id)
            case "tag":
                found = select(_TAG.value).where(_TAG.version_id == self.id, _TAG.key == key.part)
            case name if name in ARTIFACT_KEYS:
                column = _ARTIFACT[name]
                found = select(column).where(_ARTIFACT.digest == version.artifact_digest)
            case name:
                return self.own(name)
        return found.correlate(*self._outer).scalar_subquery()

    def _flag(self, name: str) -> Condition:
        version = self.version.c
        match name:
            case "derived":
                return version.recipe_digest.is_not(None)
            case "latest":
                return version.latest_of.is_not(None)
            case "deleted":
                return version.deleted_at.is_not(None)
            case "revoked":
                return self._any(_REVOCATION.version_id == self.id)
            case "affected":
                return self._any(_AFFECTED.version_id == self.id)
            case _:
                return is_stale(self.id)

    def _evaluated(self, leaf: Leaf) -> Condition:
        """Whether any of the metric's values fits; unknown where there is none."""
        rows = evaluations(leaf.key)
        if isinstance(leaf, Missing):
            return self._any(_EVALUATION.version_id == self.id, *rows, negated=True)
        fits = self.compared(_EVALUATION.value, leaf)
        any_fits = func.bool_or(fits) if self.postgresql else func.max(fits, type_=Boolean())
        found = select(any_fits).where(*rows, _EVALUATION.version_id == self.id)
        return found.correlate(*self._outer).scalar_subquery()

    def _word(self, word: str) -> Condition:
        version = self.version.c
        named = self._any(_NAME_WORD.adapter_id == version.adapter_id, begins(_NAME_WORD.word, word))
        said = self._any(_WORD.version_id == self.id, begins(_WORD.word, word))
        return or_(named, said)

    def compared(self, column: ColumnElement[Any], leaf: Leaf) -> Condition:
        """Whether a value fits: unknown where it is missing, unless that is what is asked."""
        match leaf:
            case Missing():
                return column.is_(None)
            case Among(key, values) if key.name == "created_at":
                return or_(*(self._at(column, "=", value) for value in values))
            case Among(key, values):
                return column.in_([_bound(key, value) for value in values])
            case Compare(key, operator, value) if key.name == "created_at":
                return self._at(column, operator, value)
            case Compare(key, "LIKE" | "ILIKE" as operator, str(pattern)):
                return self._like(column, _folded(key, pattern), folding=operator == "ILIKE")
            case Compare(key, operator, value):
                text = self.postgresql and isinstance(value, str) and operator != "="
                # By code point on both databases, whatever PostgreSQL's own order is.
                ordered = collate(column, "C") if text else column
                return _ORDERS[operator](ordered, _bound(key, value))

    def _at(self, column: ColumnElement[Any], operator: str, value: Value) -> Condition:
        """A time compared; milliseconds mean the whole millisecond, as times are finer than that."""
        length = timedelta(0)
        match value:
            case timedelta():
                start = self._now - value
            case datetime():
                start = value
            case milliseconds:
                length = _MILLISECOND
                start = _EPOCH + int(str(milliseconds)) * _MILLISECOND
        first, after = (literal(each, UTCDateTime()) for each in (start, start + length))
        if not length:
            return _ORDERS[operator](column, first)
        match operator:
            case "=":
                return and_(column >= first, column < after)
            case "<" | ">=":
                return _ORDERS[operator](column, first)
            case "<=":
                return column < after
            case _:
                return column >= after

    def _like(self, column: ColumnElement[Any], pattern: str, *, folding: bool) -> Condition:
        r"""``%`` is any text, ``_`` one character, ``\`` takes the next as it is; folding is of ASCII letters only."""
        if folding or self.postgresql:
            text = "".join(
                piece if wild else _ESCAPED.sub(r"\\\g<0>", piece) for wild, piece in _pieces(pattern)
            )
            if not self.postgresql:
                return column.like(literal(text, String()), escape="\\")
            like = collate(column, "C").ilike if folding else collate(column, "C").like
            return like(literal(text, String()), escape="\\")
        # SQLite's LIKE ignores case, its GLOB does not.
        glob = "".join(
            _GLOBS[piece] if wild else _GLOBBED.sub(r"[\g<0>]", piece) for wild, piece in _pieces(pattern)
        )
        return column.op("GLOB", is_comparison=True)(literal(glob, String()))

    def bases(self, leaf: Leaf) -> list[int]:
        """Base models that a repo, ``repo@revision`` or alias means, and all with the same weights."""
        values, operator = _values(leaf), leaf.operator if isinstance(leaf, Compare) else "="
        found: dict[int, None] = {}
        for value in values:
            if (operator, str(value)) not in self._bases:
                self._bases[operator, str(value)] = self._find_bases(operator, str(value))
            found.update(dict.fromkeys(self._bases[operator, str(value)]))
        return [*found]

    def _find_bases(self, operator: str, text: str) -> list[int]:
        base, same = BaseModelRow.__table__.alias().c, BaseModelRow.__table__.alias().c
        aliased = select(_BASE_ALIAS.base_model_id)
        if operator == "=":
            repo, _, revision = text.partition("@")
            named = and_(base.repo == repo, *([base.revision == revision] if revision else []))
            aliased = aliased.where(_BASE_ALIAS.alias_key == text.lower())
        else:
            folding = operator == "ILIKE"
            named = or_(
                self._like(base.repo, text, folding=folding),
                self._like(base.repo + "@" + base.revision, text, folding=folding),
            )
            aliased = aliased.where(self._like(_BASE_ALIAS.alias_key, text.lower(), folding=False))
        meant = or_(named, base.id.in_(aliased))
        with_same = select(same.id).where(same.fingerprint == base.fingerprint, meant)
        return [*self.session.scalars(union(select(base.id).where(meant), with_same))]

    def meant(self, leaf: Leaf) -> list[int]:
        """The row ids of the versions that the references mean now."""
        found: list[int] = []
        for value in _values(leaf):
            if isinstance(value, Reference):
                if str(value) not in self._meant:
                    self._meant[str(value)] = references.meant(self.session, value)
                found += self._meant[str(value)]
        return found


def _values(leaf: Leaf) -> tuple[Value, ...]:
    match leaf:
        case Among(_, values):
            return values
        case Compare(_, _, value):
            return (value,)
        case Missing():
            return ()


def evaluations(key: Key) -> list[Condition]:
    """What a metric's rows are told by."""
    rows = [_EVALUATION.metric == key.part]
    rows += [_EVALUATION.dataset == key.dataset] if key.dataset is not None else []
    rows += [_EVALUATION.split == key.split] if key.split is not None else []
    return rows


def descendants(ids: Sequence[int]) -> CTE:
    """Everything derived from these versions, over any number of steps."""
    reached = select(_LINEAGE.child_id.label("id")).where(_LINEAGE.parent_id.in_(ids)).cte(recursive=True)
    return reached.union(select(_LINEAGE.child_id).join(reached, _LINEAGE.parent_id == reached.c.id))


def begins(column: Any, word: str) -> Condition:
    """Whether a word begins so, as a range of an index."""
    return and_(column >= word, column <= word + _LAST)


def _bound(key: Key, value: Value) -> Any:
    match value:
        case str():
            return literal(_folded(key, value), String())
        case int():
            return literal(value, BigInteger())
        case _:
            return literal(value, Float())


def _folded(key: Key, text: str) -> str:
    """Names and aliases are unique regardless of case, and so they are compared."""
    return text.lower() if key.name in {"name", "alias"} else text


def _pieces(pattern: str) -> Iterator[tuple[bool, str]]:
    """The wildcards of a pattern (True), and the texts between them."""
    for match in _PIECE.finditer(pattern):
        wild, escaped, text = match.groups()
        yield bool(wild), wild or escaped or text
