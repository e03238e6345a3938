"""Say something about versions: aliases, tags, evaluations, tombstones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from registry import reference
from registry.catalog import marks, references, versions, views
from registry.catalog.database import Database
from registry.errors import UsageError
from registry.reference import Reference
from registry.results import Alias, Deleted, Evaluation, Tagged, Version
from registry.verbs._text import check_tags, check_text


def set_alias(
    database: Database,
    name: str,
    alias: str,
    version: int | str,
    *,
    expect: marks.Expected,
    protect: bool,
    actor: str,
) -> Alias:
    reference.check_name(name)
    reference.check_alias(alias)
    wanted = _version_of(name, version)

    def work(session: Session) -> Alias:
        pin = references.resolve(session, wanted)
        if pin.name.lower() != name.lower():
            raise _foreign(str(version), name)
        return marks.set_alias(session, pin, alias, expect=expect, protect=protect, actor=actor)

    return database.transact(work)


def delete_alias(database: Database, name: str, alias: str, *, expect: marks.Expected, actor: str) -> Alias:
    reference.check_name(name)
    reference.check_alias(alias)
    return database.transact(lambda session: marks.delete_alias(session, name, alias, actor, expect=expect))


def protect_alias(database: Database, name: str, alias: str, *, protected: bool, actor: str) -> Alias:
    reference.check_name(name)
    reference.check_alias(alias)
    return database.transact(
        lambda session: marks.protect_alias(session, name, alias, actor, protected=protected)
    )


def aliases(database: Database, name: str | None) -> tuple[Alias, ...]:
    if name is not None:
        reference.check_name(name)
    with database.read() as session:
        return marks.aliases(session, name)


def set_tags(database: Database, ref: str, tags: Mapping[str, str], *, actor: str) -> Tagged:
    check_tags(tags)
    wanted = reference.parse(ref)

    def work(session: Session) -> Tagged:
        pin = references.resolve(session, wanted)
        marks.set_tags(session, pin, tags, actor)
        session.flush()
        return Tagged(ref=pin.ref, tags=marks.tags(session, pin))

    return database.transact(work)


def delete_tags(database: Database, ref: str, keys: Sequence[str], *, actor: str) -> Tagged:
    check_tags(dict.fromkeys(keys, ""))
    wanted = reference.parse(ref)

    def work(session: Session) -> Tagged:
        pin = references.resolve(session, wanted)
        marks.delete_tags(session, pin, keys, actor)
        return Tagged(ref=pin.ref, tags=marks.tags(session, pin))

    return database.transact(work)


def set_note(database: Database, ref: str, note: str | None, *, actor: str) -> Version:
    if note is not None:
        check_text("note", note)
    wanted = reference.parse(ref)

    def work(session: Session) -> Version:
        pin = references.resolve(session, wanted)
        marks.set_note(session, pin, note, actor)
        session.flush()
        return views.version(session, pin.id)

    return database.transact(work)


def add_evaluation(
    database: Database, ref: str, metric: str, value: float, *, dataset: str, split: str | None, actor: str
) -> Evaluation:
    for what, text in (("metric", metric), ("dataset", dataset), ("split", split or "-")):
        check_text(what, text)
    if not math.isfinite(value):
        raise UsageError(f"the value of {metric} is {value}, not a finite number")
    wanted = reference.parse(ref)

    def work(session: Session) -> Evaluation:
        pin = references.resolve(session, wanted)
        return marks.add_evaluation(
            session, pin, metric, float(value), dataset=dataset, split=split, actor=actor
        )

    return database.transact(work)


def delete(database: Database, ref: str, *, actor: str) -> Deleted:
    wanted = reference.parse(ref)

    def work(session: Session) -> Deleted:
        pin = references.resolve(session, wanted)
        downstream = versions.tombstone(session, pin, actor)
        return Deleted(ref=pin.ref, digest=pin.digest, downstream=tuple(downstream))

    return database.transact(work)


def _version_of(name: str, version: int | str) -> Reference:
    """A version given as a number, as an alias, or as a whole reference of the same adapter."""
    text = str(version)
    if text == name or "@" in text or text.startswith("sha256:"):
        wanted = reference.parse(text)
        if wanted.name is not None and wanted.name.lower() != name.lower():
            raise _foreign(text, name)
        return wanted
    return reference.parse(f"{name}@{text}")


def _foreign(text: str, name: str) -> UsageError:
    return UsageError(f"{text} is not a version of {name}", hint="an alias stays within its adapter")
