"""What is said about versions afterwards: aliases, tags and evaluations. Every change leaves an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.catalog import references, revocations, views, words
from registry.catalog.events import now, record
from registry.catalog.references import Pin
from registry.catalog.tables import AdapterRow, AliasRow, EvaluationRow, TagRow, VersionRow
from registry.errors import Conflict, NotFound
from registry.results import Alias, Evaluation

Expected = int | Literal["none"] | None
"""Where an alias is expected to point before it moves: a version number, nowhere yet, or no matter where."""


def set_alias(
    session: Session, pin: Pin, alias: str, *, expect: Expected, protect: bool, actor: str
) -> Alias:
    """Point the alias of the pinned version's adapter at it; compare-and-set with ``expect``.

    ``protect`` makes it one that moves only so from then on. Raises ``Conflict`` where it points elsewhere than
    expected, or is protected and would move without anybody having looked; ``Refused`` for a version that is revoked
    or was derived from one that is.
    """
    adapter = references.locked(session, pin)
    row = session.get(AliasRow, (adapter.id, alias.lower()))
    previous = None if row is None else row.number
    _check_expected(f"{adapter.name}@{alias}", previous, expect)
    moved = previous != pin.number
    if moved:
        revocations.refuse(session, [pin], f"{adapter.name}@{alias} does not move")
    if row is not None and moved and row.protected and expect is None:
        raise _protected(adapter.name, row, "moves")
    if row is None:
        row = AliasRow(
            adapter_id=adapter.id,
            alias_key=alias.lower(),
            alias=alias,
            number=pin.number,
            version_id=pin.id,
            updated_at=now(),
            updated_by=actor,
            protected=False,
        )
        session.add(row)
    elif moved:
        row.number, row.version_id, row.updated_at, row.updated_by = pin.number, pin.id, now(), actor
    if moved:
        detail = {"alias": row.alias, "from": previous, "to": pin.number}
        record(session, actor, "alias", adapter.name, **detail)
    if protect:
        _protect(session, row, adapter.name, actor, protected=True)
    return _alias(row, adapter.name, moved=moved, previous=previous)


def protect_alias(session: Session, name: str, alias: str, actor: str, *, protected: bool) -> Alias:
    """Make the alias one that moves only by compare-and-set, or no longer one."""
    adapter = references.adapter(session, name, lock=True)
    row = _existing(session, adapter, alias)
    _protect(session, row, adapter.name, actor, protected=protected)
    return _alias(row, adapter.name, moved=False)


def delete_alias(session: Session, name: str, alias: str, actor: str, *, expect: Expected = None) -> Alias:
    """Remove the alias, whatever its case; returns it as it was. A protected one needs ``expect``."""
    adapter = references.adapter(session, name, lock=True)
    row = _existing(session, adapter, alias)
    _check_expected(f"{adapter.name}@{row.alias}", row.number, expect)
    if row.protected and expect is None:
        raise _protected(adapter.name, row, "is deleted")
    record(session, actor, "alias", adapter.name, **{"alias": row.alias, "from": row.number, "to": None})
    session.delete(row)
    return _alias(row, adapter.name)


def _existing(session: Session, adapter: AdapterRow, alias: str) -> AliasRow:
    row = session.get(AliasRow, (adapter.id, alias.lower()), populate_existing=True)
    if row is None:
        raise NotFound(
            f"{adapter.name} has no alias {alias!r}", hint=f"see: registry alias list {adapter.name}"
        )
    return row


def _check_expected(alias: str, previous: int | None, expect: Expected) -> None:
    if expect is not None and previous != (None if expect == "none" else expect):
        there = "does not exist" if previous is None else f"points at {previous}"
        raise Conflict(
            f"{alias} {there}" if expect == "none" else f"{alias} {there}, not at {expect}",
            hint="somebody moved it; look again and decide",
        )


def _protected(name: str, row: AliasRow, verb: str) -> Conflict:
    return Conflict(
        f"{name}@{row.alias} is protected: it {verb} only for those who say where it points now",
        hint=f"it points at {row.number}: --expect {row.number}",
    )


def _protect(session: Session, row: AliasRow, name: str, actor: str, *, protected: bool) -> None:
    if row.protected != protected:
        row.protected = protected
        record(session, actor, "protect", name, alias=row.alias, protected=protected)


def aliases(session: Session, name: str | None) -> tuple[Alias, ...]:
    statement = select(AliasRow, AdapterRow.name).join(AdapterRow, AliasRow.adapter_id == AdapterRow.id)
    if name is not None:
        statement = statement.where(AliasRow.adapter_id == references.adapter(session, name).id)
    rows = session.execute(statement.order_by(AdapterRow.name_key, AliasRow.alias_key))
    return tuple(_alias(row.AliasRow, row.name) for row in rows)


def set_tags(session: Session, pin: Pin, tags: Mapping[str, str], actor: str) -> None:
    references.locked(session, pin)
    for key, value in tags.items():
        row = session.get(TagRow, (pin.id, key))
        if row is None:
            session.add(TagRow(version_id=pin.id, key=key, value=value))
        elif row.value == value:
            continue
        else:
            row.value = value
        record(session, actor, "tag", pin.ref, key=key, value=value)
    words.index(session, pin.id)


def delete_tags(session: Session, pin: Pin, keys: Sequence[str], actor: str) -> None:
    references.locked(session, pin)
    for key in keys:
        removed = session.execute(
            delete(TagRow).where(TagRow.version_id == pin.id, TagRow.key == key).returning(TagRow.key)
        ).all()
        if not removed:
            raise NotFound(f"{pin.ref} has no tag {key!r}", hint=f"see: registry show {pin.ref}")
        record(session, actor, "tag", pin.ref, key=key, value=None)
    words.index(session, pin.id)


def tags(session: Session, pin: Pin) -> dict[str, str]:
    return views.version(session, pin.id).tags


def set_note(session: Session, pin: Pin, note: str | None, actor: str) -> None:
    """Write or remove the version's note; the one before goes to the event."""
    references.locked(session, pin)
    row = session.get_one(VersionRow, pin.id)
    if row.note != note:
        record(session, actor, "note", pin.ref, note=note, previous=row.note)
        row.note = note
        words.index(session, pin.id)


def add_evaluation(
    session: Session, pin: Pin, metric: str, value: float, *, dataset: str, split: str | None, actor: str
) -> Evaluation:
    """Record a metric's value; the previous value for the same metric, dataset and split goes to the event."""
    references.locked(session, pin)
    key = (
        EvaluationRow.version_id == pin.id,
        EvaluationRow.dataset == dataset,
        EvaluationRow.split == (split or ""),
        EvaluationRow.metric == metric,
    )
    row = session.execute(select(EvaluationRow).where(*key)).scalar_one_or_none()
    previous = None if row is None else row.value
    if row is None:
        row = EvaluationRow(version_id=pin.id, metric=metric, dataset=dataset, split=split or "")
        session.add(row)
    row.value, row.created_at, row.created_by = value, now(), actor
    detail = {"metric": metric, "dataset": dataset, "split": split, "value": value, "previous": previous}
    record(session, actor, "evaluate", pin.ref, **detail)
    return views.evaluation(row, {pin.id: pin.ref})


def _alias(row: AliasRow, name: str, *, moved: bool = True, previous: int | None = None) -> Alias:
    return Alias(
        name=name,
        alias=row.alias,
        ref=f"{name}@{row.number}",
        moved=moved,
        previous=previous,
        protected=row.protected,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
