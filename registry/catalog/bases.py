"""Base models: what they are called, which of them are the same, and what their weight files hold."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry import base_layout
from registry.base_layout import BaseLayout
from registry.catalog import references
from registry.catalog.database import insert_or_ignore
from registry.catalog.events import now, record
from registry.catalog.tables import BaseAliasRow, BaseLayoutRow, BaseModelRow, VersionRow
from registry.errors import Conflict, NotFound, UsageError
from registry.results import BaseAlias, BaseModelIdentity, BaseModelInfo

SHORTEST_FINGERPRINT = len("sha256:") + 8


def find(session: Session, text: str) -> BaseModelRow:
    """The base model called ``text``: an alias, ``repo[@revision]``, or the start of a fingerprint.

    Of several revisions of a repo it is the one without a revision, where there is one. Raises ``NotFound``, and
    ``UsageError`` where it could be several.
    """
    if (named := _by_alias(session, text)) is not None:
        return named
    repo, _, revision = text.partition("@")
    chosen = BaseModelRow.repo == repo
    if text.startswith("sha256:") and len(text) >= SHORTEST_FINGERPRINT:
        chosen = (BaseModelRow.fingerprint >= text) & (BaseModelRow.fingerprint < text + "g")
    elif revision:
        chosen &= BaseModelRow.revision == revision
    found = session.scalars(select(BaseModelRow).where(chosen).order_by(BaseModelRow.revision)).all()
    if not found:
        raise NotFound(f"there is no base model called {text!r}", hint="see: registry base list")
    if len(found) > 1 and found[0].revision and len({row.fingerprint for row in found} - {None}) != 1:
        revisions = ", ".join(str(references.base_identity(row)) for row in found[:5])
        raise UsageError(f"{text} could be several base models", hint=f"say which: {revisions}")
    return found[0]


def named(session: Session, text: str) -> BaseModelIdentity | None:
    """The base model that the alias ``text`` stands for, None where it is no alias."""
    row = _by_alias(session, text)
    return None if row is None else references.base_identity(row)


def equal(session: Session, row: BaseModelRow) -> list[int]:
    """The row ids of this base model and of all others with the same weights."""
    if row.fingerprint is None:
        return [row.id]
    same = select(BaseModelRow.id).where(BaseModelRow.fingerprint == row.fingerprint)
    return list(session.scalars(same.order_by(BaseModelRow.id)))


def info(session: Session, rows: Sequence[BaseModelRow]) -> tuple[BaseModelInfo, ...]:
    """What is known of these base models, in their order; a handful of statements for any number."""
    ids = [row.id for row in rows]
    fingerprints = {row.fingerprint for row in rows if row.fingerprint is not None}
    aliases: dict[int, list[str]] = {}
    statement = select(BaseAliasRow).order_by(BaseAliasRow.alias_key)
    for alias in session.scalars(statement):
        aliases.setdefault(alias.base_model_id, []).append(alias.alias)
    versions = select(VersionRow.base_model_id, func.count().label("versions")).group_by(
        VersionRow.base_model_id
    )
    if len(ids) == 1:
        versions = versions.where(VersionRow.base_model_id == ids[0])
    counts = {row.base_model_id: row.versions for row in session.execute(versions)}
    same: dict[str | None, list[tuple[int, str]]] = {}
    layouts: dict[str, BaseLayout] = {}
    if fingerprints:
        for row in session.scalars(_with_fingerprints(fingerprints)):
            same.setdefault(row.fingerprint, []).append((row.id, str(references.base_identity(row))))
        for kept in session.scalars(select(BaseLayoutRow).where(BaseLayoutRow.fingerprint.in_(fingerprints))):
            layouts[kept.fingerprint] = base_layout.from_json(kept.layout)
    return tuple(
        _info(
            row,
            aliases=aliases.get(row.id, []),
            versions=counts.get(row.id, 0),
            same_as=[name for row_id, name in same.get(row.fingerprint, []) if row_id != row.id],
            layout=layouts.get(row.fingerprint or ""),
        )
        for row in rows
    )


def listing(session: Session) -> tuple[BaseModelInfo, ...]:
    """Every base model, by name."""
    rows = session.scalars(select(BaseModelRow).order_by(BaseModelRow.repo, BaseModelRow.revision)).all()
    return info(session, rows)


def layout(session: Session, fingerprint: str | None) -> BaseLayout | None:
    """What the weight files with this fingerprint hold, where they were ever seen."""
    row = None if fingerprint is None else session.get(BaseLayoutRow, fingerprint)
    return None if row is None else base_layout.from_json(row.layout)


def layout_of(session: Session, identity: BaseModelIdentity) -> BaseLayout | None:
    """What the base model called so holds, where its weights were ever seen."""
    statement = select(BaseModelRow.fingerprint).where(
        BaseModelRow.repo == (identity.repo or ""), BaseModelRow.revision == (identity.revision or "")
    )
    return layout(session, session.scalar(statement))


def save_layout(session: Session, fingerprint: str, found: BaseLayout) -> None:
    """Keep what the weight files with this fingerprint hold; it is the same whoever looks."""
    if session.get(BaseLayoutRow, fingerprint) is None:
        insert_or_ignore(
            session, BaseLayoutRow, fingerprint=fingerprint, layout=found.to_json(), created_at=now()
        )


def set_alias(session: Session, alias: str, row: BaseModelRow, actor: str) -> BaseAlias:
    """Let ``alias`` stand for the base model. Raises ``Conflict`` where a base model itself is called so."""
    key, made = alias.lower(), now()
    # Regardless of case, as an alias is looked up before a name.
    if own := session.scalar(select(BaseModelRow.repo).where(func.lower(BaseModelRow.repo) == key).limit(1)):
        raise Conflict(f"{own} is a base model's own name", hint="choose another alias")
    columns = {"alias": alias, "base_model_id": row.id, "updated_at": made, "updated_by": actor}
    insert_or_ignore(session, BaseAliasRow, alias_key=key, **columns)
    statement = references.locking(select(BaseAliasRow).where(BaseAliasRow.alias_key == key))
    there = session.execute(statement).scalar_one()
    new = there.updated_at == made
    if new or there.base_model_id != row.id:
        there.base_model_id, there.updated_at, there.updated_by = row.id, made, actor
        record(session, actor, "base alias", there.alias, base_model=str(references.base_identity(row)))
    return _alias(there, row)


def delete_alias(session: Session, alias: str, actor: str) -> BaseAlias:
    """Remove an alias; returns it as it was. Raises ``NotFound``."""
    statement = references.locking(select(BaseAliasRow).where(BaseAliasRow.alias_key == alias.lower()))
    row = session.execute(statement).scalar_one_or_none()
    if row is None:
        raise NotFound(f"no base model has the alias {alias!r}", hint="see: registry base alias list")
    found = _alias(row, session.get_one(BaseModelRow, row.base_model_id))
    session.delete(row)
    record(session, actor, "base alias", found.alias, base_model=None)
    return found


def aliases(session: Session) -> tuple[BaseAlias, ...]:
    statement = select(BaseAliasRow, BaseModelRow).join(
        BaseModelRow, BaseAliasRow.base_model_id == BaseModelRow.id
    )
    rows = session.execute(statement.order_by(BaseAliasRow.alias_key))
    return tuple(_alias(row.BaseAliasRow, row.BaseModelRow) for row in rows)


def _alias(row: BaseAliasRow, base: BaseModelRow) -> BaseAlias:
    return BaseAlias(
        alias=row.alias,
        base_model=references.base_identity(base),
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def _by_alias(session: Session, text: str) -> BaseModelRow | None:
    statement = (
        select(BaseModelRow)
        .join(BaseAliasRow, BaseAliasRow.base_model_id == BaseModelRow.id)
        .where(BaseAliasRow.alias_key == text.lower())
    )
    return session.execute(statement).scalar_one_or_none()


def _with_fingerprints(fingerprints: set[str]) -> Select[BaseModelRow]:
    statement = select(BaseModelRow).where(BaseModelRow.fingerprint.in_(fingerprints))
    return statement.order_by(BaseModelRow.repo, BaseModelRow.revision)


def _info(
    row: BaseModelRow, *, aliases: list[str], versions: int, same_as: list[str], layout: BaseLayout | None
) -> BaseModelInfo:
    return BaseModelInfo(
        repo=row.repo,
        revision=row.revision or None,
        fingerprint=row.fingerprint,
        aliases=tuple(aliases),
        same_as=tuple(same_as),
        versions=versions,
        tensors=None if layout is None else len(layout.shapes),
        parameters=None if layout is None else layout.parameters,
        dtypes=() if layout is None else layout.dtypes,
        license=row.license,
    )
