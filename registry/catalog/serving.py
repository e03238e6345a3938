"""What an alias points at, of all adapters, with what decides whether it may be served."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from registry.catalog.references import base_identity
from registry.catalog.tables import (
    AdapterRow,
    AffectedRow,
    AliasRow,
    ArtifactRow,
    BaseAliasRow,
    BaseModelRow,
    RevocationRow,
    VersionRow,
)
from registry.results import BaseModelIdentity


@dataclass(frozen=True)
class Candidate:
    """A version at the alias. ``revoked`` has the reason, ``affected`` the revoked versions it derives from."""

    name: str
    number: int
    digest: str
    kind: str
    rank: int | None
    not_composable: tuple[str, ...]
    base_model: BaseModelIdentity
    revoked: str | None
    affected: tuple[str, ...]

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class ServedBase:
    """A base model as it is served, and the fingerprints that the catalog knows it by."""

    identity: BaseModelIdentity
    fingerprints: frozenset[str]

    def is_of(self, base: BaseModelIdentity) -> bool:
        """Whether an adapter on ``base`` runs on it: the same name, or the same weights under another one."""
        same = base.repo == self.identity.repo and self.identity.revision in {None, base.revision}
        return same or base.fingerprint in self.fingerprints


def candidates(session: Session, alias: str) -> list[Candidate]:
    """By name, everything that this alias points at."""
    found = (
        select(AdapterRow.name, VersionRow, ArtifactRow, BaseModelRow, RevocationRow.reason)
        .select_from(AliasRow)
        .join(VersionRow, AliasRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .join(ArtifactRow, VersionRow.artifact_digest == ArtifactRow.digest)
        .join(BaseModelRow, VersionRow.base_model_id == BaseModelRow.id)
        .outerjoin(RevocationRow, RevocationRow.version_id == VersionRow.id)
        .where(AliasRow.alias_key == alias.lower())
        .order_by(AdapterRow.name_key)
    )
    affected = _affected(session, alias)
    return [
        Candidate(
            name=row.name,
            number=row.VersionRow.number,
            digest=row.ArtifactRow.digest,
            kind=row.ArtifactRow.kind,
            rank=row.ArtifactRow.rank,
            not_composable=tuple(row.ArtifactRow.not_composable),
            base_model=base_identity(row.BaseModelRow),
            revoked=row.reason,
            affected=tuple(affected.get(row.VersionRow.id, ())),
        )
        for row in session.execute(found)
    ]


def _affected(session: Session, alias: str) -> dict[int, list[str]]:
    revoked = aliased(VersionRow)
    found = (
        select(AffectedRow.version_id, AdapterRow.name, revoked.number)
        .join(AliasRow, AliasRow.version_id == AffectedRow.version_id)
        .join(revoked, AffectedRow.revoked_id == revoked.id)
        .join(AdapterRow, revoked.adapter_id == AdapterRow.id)
        .where(AliasRow.alias_key == alias.lower())
        .order_by(AffectedRow.version_id, AdapterRow.name_key, revoked.number)
    )
    refs: dict[int, list[str]] = defaultdict(list)
    for row in session.execute(found):
        refs[row.version_id].append(f"{row.name}@{row.number}")
    return refs


def served_base(session: Session, text: str) -> ServedBase:
    """The base model ``repo[@revision]``, or the one with this short name; one that no adapter has is one, too."""
    named = (
        select(BaseModelRow)
        .join(BaseAliasRow, BaseAliasRow.base_model_id == BaseModelRow.id)
        .where(BaseAliasRow.alias_key == text.lower())
    )
    if (row := session.execute(named).scalar_one_or_none()) is not None:
        identity = base_identity(row)
    else:
        repo, _, revision = text.partition("@")
        identity = BaseModelIdentity(repo=repo, revision=revision or None)
    query = select(BaseModelRow).where(BaseModelRow.repo == identity.repo)
    if identity.revision is not None:
        query = query.where(BaseModelRow.revision == identity.revision)
    known = frozenset(row.fingerprint for row in session.scalars(query) if row.fingerprint)
    return ServedBase(identity, known)
