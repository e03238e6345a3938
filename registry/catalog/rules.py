"""Rules: what is to be published where, and which versions that is now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from registry.catalog import references, search, views
from registry.catalog.database import chunked, inserted
from registry.catalog.events import now, record
from registry.catalog.tables import AdapterRow, AliasRow, RuleRow, VersionRow
from registry.errors import Conflict, NotFound
from registry.filters import And, Compare, Key, Node, conjuncts
from registry.results import Rule, Target, Version

_PAGE = 1_000


@dataclass(frozen=True)
class Draft:
    """What a rule says. ``alias`` None means the latest version, ``revision`` None the repo's main branch."""

    selector: str
    alias: str | None
    repo: str
    revision: str | None
    target: Target
    private: bool
    adopt: bool
    propose: bool
    tag: str | None
    license: str | None


def add(session: Session, draft: Draft, actor: str) -> Rule:
    """The rule that says this; ``created`` is False where it was there already.

    Raises ``Conflict`` where one asks for the same at the same place, but otherwise.
    """
    created = inserted(
        session,
        RuleRow,
        selector=draft.selector,
        alias=draft.alias or "",
        repo=draft.repo,
        revision=draft.revision or "",
        target=draft.target,
        private=draft.private,
        adopt=draft.adopt,
        propose=draft.propose,
        tag=draft.tag,
        license=draft.license,
        created_at=now(),
        created_by=actor,
    )
    row = session.scalars(
        select(RuleRow).where(
            RuleRow.selector == draft.selector,
            RuleRow.alias == (draft.alias or ""),
            RuleRow.repo == draft.repo,
            RuleRow.revision == (draft.revision or ""),
            RuleRow.target == draft.target,
        )
    ).one()
    rule = _rule(row)
    if created:
        record(session, actor, "rule add", f"rule {row.id}", **_told(rule))
        return rule
    different = [name for name, value in vars(draft).items() if getattr(rule, name) != value]
    if different:
        raise Conflict(
            f"rule {rule.id} asks for the same there already, with another {' and '.join(different)}",
            hint=f"to replace it: registry rule delete {rule.id}",
        )
    return rule.model_copy(update={"created": False})


def delete(session: Session, number: int, actor: str) -> Rule:
    """The rule as it was. What it led to stays published. Raises ``NotFound``."""
    row = session.scalars(references.locking(select(RuleRow).where(RuleRow.id == number))).one_or_none()
    if row is None:
        raise _unknown([number])
    rule = _rule(row)
    session.delete(row)
    record(session, actor, "rule delete", f"rule {number}", **_told(rule))
    return rule


def listing(session: Session, numbers: Collection[int] = ()) -> tuple[Rule, ...]:
    """All rules, or these, oldest first. Raises ``NotFound`` for a number that none has."""
    statement = select(RuleRow).order_by(RuleRow.id)
    if numbers:
        statement = statement.where(RuleRow.id.in_(list(numbers)))
    found = tuple(map(_rule, session.scalars(statement)))
    if missing := sorted(set(numbers) - {rule.id for rule in found}):
        raise _unknown(missing)
    return found


def named(
    session: Session, wanted: Collection[tuple[str, str | None]]
) -> dict[tuple[str, str | None], Version]:
    """The live version that each name with its alias, or without one its latest, means now, where there is one."""
    ids: dict[tuple[str, str], int] = {}
    names = sorted({name.lower() for name, _ in wanted})
    for some in chunked(names):
        for name, row_id in session.execute(_latest(some)):
            ids[name, ""] = row_id
        for name, alias, row_id in session.execute(_aliased(some)):
            ids[name, alias] = row_id
    keys = {pair: ids.get((pair[0].lower(), (pair[1] or "").lower())) for pair in wanted}
    present = {pair: row_id for pair, row_id in keys.items() if row_id is not None}
    return dict(zip(present, views.versions(session, list(present.values())), strict=True))


def fitting(session: Session, where: Node, alias: str | None) -> Iterator[Version]:
    """The versions that an alias, or without one the latest of each line, means, of those that fit a filter."""
    terms = conjuncts(where)
    if alias is not None:
        where = And((*terms, Compare(Key("alias"), "=", alias)))
    after = None
    while True:
        page = search.listing(
            session, where=where, latest=alias is None, sort="created", limit=_PAGE, after=after
        )
        yield from page.versions
        if (after := page.next) is None:
            return


def _latest(names: Sequence[str]) -> Select[str, int]:
    return (
        select(AdapterRow.name_key, VersionRow.id)
        .join(VersionRow, VersionRow.latest_of == AdapterRow.id)
        .where(AdapterRow.name_key.in_(names))
    )


def _aliased(names: Sequence[str]) -> Select[str, str, int]:
    return (
        select(AdapterRow.name_key, AliasRow.alias_key, VersionRow.id)
        .join(AliasRow, AliasRow.adapter_id == AdapterRow.id)
        .join(VersionRow, VersionRow.id == AliasRow.version_id)
        .where(AdapterRow.name_key.in_(names), VersionRow.deleted_at.is_(None))
    )


def _rule(row: RuleRow) -> Rule:
    values = {name: getattr(row, name) for name in Rule.model_fields if name != "created"}
    return Rule.model_validate({**values, "alias": row.alias or None, "revision": row.revision or None})


def _said(rule: Rule) -> Draft:
    return Draft(**{name: getattr(rule, name) for name in Draft.__dataclass_fields__})


def _told(rule: Rule) -> dict[str, object]:
    return dict(vars(_said(rule)))


def _unknown(numbers: Sequence[int]) -> NotFound:
    which = ", ".join(map(str, numbers))
    return NotFound(f"there is no rule {which}", hint="see: registry rule list")
