"""The schema, as SQLAlchemy typed models. Constraints are the truth: every one is named, and code reads them back.

Changing anything here needs a revision under ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from registry.errors import DatabaseDamaged


class _Stored(TypeDecorator[Any]):
    """What SQLite keeps as text, which may have become one that says nothing."""

    __abstract__ = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        process = super().result_processor(dialect, coltype)
        if process is None or dialect.name != "sqlite":
            return process

        def read(value: Any) -> Any:
            try:
                return process(value)
            except (ValueError, TypeError, RecursionError) as error:
                raise DatabaseDamaged(
                    f"the database holds {str(value)[:40]!a} where nobody wrote it"
                ) from error

        return read


class UTCDateTime(_Stored):
    """Timezone-aware UTC on every database; SQLite alone would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else in_utc(value)


def in_utc(value: datetime) -> datetime:
    """A time as a database gives it, which without a zone is in UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(_Stored):
    """JSON, as JSONB on PostgreSQL, whose dialect is imported only where it is used."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


# Names and digests sort and compare by bytes everywhere: PostgreSQL's default collation would not.
Plain = String().with_variant(String(collation="C"), "postgresql")
Identity = BigInteger().with_variant(Integer(), "sqlite")


_IS_LATEST = text("latest_of IS NOT NULL")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Plain,
        datetime: UTCDateTime(),
        dict[str, Any]: Json(),
        list[Any]: Json(),
    }


class Sealed:
    """Content: ``seal`` is a checksum over the row, by which ``registry.catalog.seals`` sees that it was not changed."""

    seal: Mapped[int | None] = mapped_column(BigInteger, sort_order=1)


class BaseModelRow(Sealed, Base):
    """A base model; ``revision`` is '' where it was never said. The fingerprint is set once, when seen.

    ``license`` is an identifier as the Hub has them; NULL where nobody said, nor the Hub.
    """

    __tablename__ = "base_models"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    repo: Mapped[str]
    revision: Mapped[str]
    fingerprint: Mapped[str | None] = mapped_column(index=True)
    license: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("repo", "revision"),
        CheckConstraint("repo <> ''", name="repo"),
    )


class BaseAliasRow(Sealed, Base):
    """A short name for a base model."""

    __tablename__ = "base_aliases"

    alias_key: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str]
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_models.id", ondelete="RESTRICT"), index=True)
    updated_at: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(Text)

    __table_args__ = (CheckConstraint("alias_key = lower(alias)", name="alias_key"),)


class BaseLayoutRow(Sealed, Base):
    """What the weight files with this fingerprint hold: see ``registry.base_layout``."""

    __tablename__ = "base_layouts"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    layout: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class AdapterRow(Sealed, Base):
    """A named line. ``last_version`` is the counter that version numbers come from; it never goes back."""

    __tablename__ = "adapters"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(unique=True)
    last_version: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("name_key = lower(name)", name="name_key"),
        CheckConstraint("last_version >= 0", name="last_version"),
    )


class BlobRow(Sealed, Base):
    """Bytes in the blob store. The row is written after the bytes and removed before them."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("digest LIKE 'sha256:%'", name="digest"),
        CheckConstraint("size >= 0", name="size"),
    )


class ArtifactRow(Sealed, Base):
    """Content: an adapter by its content digest, or a merged model by the digest over its files."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str]
    kind: Mapped[str] = mapped_column(index=True)
    rank: Mapped[int | None] = mapped_column(index=True)
    parameters: Mapped[int] = mapped_column(BigInteger)
    modules: Mapped[int]
    dtype: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    not_composable: Mapped[list[Any]]
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("digest LIKE 'sha256:%'", name="digest"),
        CheckConstraint("target IN ('adapter', 'model')", name="target"),
        Index("ix_artifacts_size_digest", "size", "digest"),
        Index("ix_artifacts_parameters_digest", "parameters", "digest"),
    )


class ArtifactFileRow(Sealed, Base):
    """A file of an artifact, relative path to bytes."""

    __tablename__ = "artifact_files"

    artifact_digest: Mapped[str] = mapped_column(
        ForeignKey("artifacts.digest", ondelete="RESTRICT"), primary_key=True
    )
    path: Mapped[str] = mapped_column(primary_key=True)
    blob_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest", ondelete="RESTRICT"), index=True)


class RecipeRow(Sealed, Base):
    """A recipe's canonical JSON, as text: the digest is over these very bytes."""

    __tablename__ = "recipes"

    digest: Mapped[str] = mapped_column(primary_key=True)
    canonical: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("digest LIKE 'sha256:%'", name="digest"),)


class RealisationRow(Sealed, Base):
    """What a recipe gave, once: several rows with different outputs are a finding, never an overwrite.

    ``variant`` tells model outputs apart (base fingerprint, dtype, shard size); it is '' for adapters.
    """

    __tablename__ = "realisations"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    recipe_digest: Mapped[str] = mapped_column(ForeignKey("recipes.digest", ondelete="RESTRICT"))
    target: Mapped[str]
    variant: Mapped[str]
    output_digest: Mapped[str] = mapped_column(index=True)
    device: Mapped[str]
    dtype: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    libraries: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    report: Mapped[list[Any]]
    files: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint(
            "recipe_digest", "target", "variant", "output_digest", name="uq_realisations_output"
        ),
        CheckConstraint("target IN ('adapter', 'model')", name="target"),
    )


class VersionRow(Sealed, Base):
    """An immutable, numbered entry. Only the note, the tombstone and ``latest_of`` ever change.

    ``latest_of`` is the adapter's id on its latest live version and NULL on all others: unique, so there is at
    most one, and found in one look-up. ``source_revision`` is the branch or tag of the Hub that ``source`` was
    found by. ``origin`` says whose word recipe, parents and license are, where it is not this catalog's own: the
    published provenance, as ``hf://REPO@COMMIT``, and after ``#`` the reference that the version has there.
    """

    __tablename__ = "versions"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="RESTRICT"))
    number: Mapped[int]
    artifact_digest: Mapped[str] = mapped_column(
        ForeignKey("artifacts.digest", ondelete="RESTRICT"), index=True
    )
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_models.id", ondelete="RESTRICT"))
    recipe_digest: Mapped[str | None] = mapped_column(
        ForeignKey("recipes.digest", ondelete="RESTRICT"), index=True
    )
    expression: Mapped[str | None] = mapped_column(Text)
    resolved: Mapped[str | None] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    license: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    source_revision: Mapped[str | None] = mapped_column(Text)
    origin: Mapped[str | None] = mapped_column(Text)
    latest_of: Mapped[int | None] = mapped_column(ForeignKey("adapters.id", ondelete="RESTRICT"), unique=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    created_by: Mapped[str] = mapped_column(Text)
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("adapter_id", "number"),
        # Listings are by id, newest first: these give what fits in that order, so that a page ends early.
        Index("ix_versions_adapter_id_id", "adapter_id", "id"),
        Index("ix_versions_base_model_id_id", "base_model_id", "id"),
        Index("ix_versions_task_id", "task", "id"),
        Index("ix_versions_license_id", "license", "id"),
        Index("ix_versions_created_by_id", "created_by", "id"),
        # Of a million versions a few are the latest of an adapter, and they may all be old.
        Index("ix_versions_latest", "id", sqlite_where=_IS_LATEST, postgresql_where=_IS_LATEST),
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint(
            "(recipe_digest IS NULL) = (expression IS NULL) AND (recipe_digest IS NULL) = (resolved IS NULL)",
            name="derived",
        ),
        CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="tombstone"),
        CheckConstraint(
            "latest_of IS NULL OR (latest_of = adapter_id AND deleted_at IS NULL)", name="latest_is_live"
        ),
    )


class LineageRow(Sealed, Base):
    """An edge of the lineage graph. Parents are older than children, so the graph has no cycle."""

    __tablename__ = "lineage"

    child_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), index=True)
    relation: Mapped[str]
    coefficient: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("child_id", "relation", "parent_id"),
        CheckConstraint("relation IN ('input', 'declared')", name="relation"),
        CheckConstraint("parent_id < child_id", name="acyclic"),
    )


class FollowedRow(Sealed, Base):
    """A reference of an expression that moves: an alias, or '' for the latest, and the version it meant then.

    Where it means another one today, the composition is stale.
    """

    __tablename__ = "followed"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="RESTRICT"), primary_key=True)
    alias_key: Mapped[str] = mapped_column(primary_key=True)
    pinned_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"))

    __table_args__ = (Index("ix_followed_adapter_id_alias_key", "adapter_id", "alias_key"),)


class RevocationRow(Sealed, Base):
    """A version that is bad: nothing derived from it may be published."""

    __tablename__ = "revocations"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    revoked_at: Mapped[datetime]
    revoked_by: Mapped[str] = mapped_column(Text)


class AffectedRow(Base):
    """A version that was derived, over any number of steps, from a revoked one."""

    __tablename__ = "affected"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True)
    revoked_id: Mapped[int] = mapped_column(
        ForeignKey("revocations.version_id", ondelete="RESTRICT"), primary_key=True, index=True
    )


class AliasRow(Sealed, Base):
    """A movable pointer to a version of the same adapter. A ``protected`` one moves only by compare-and-set.

    ``version_id`` is the row id of the version called ``number``.
    """

    __tablename__ = "aliases"

    adapter_id: Mapped[int] = mapped_column(Identity, primary_key=True)
    alias_key: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str]
    number: Mapped[int]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), index=True)
    updated_at: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(Text)
    protected: Mapped[bool] = mapped_column(server_default=false())

    __table_args__ = (
        ForeignKeyConstraint(
            ["adapter_id", "number"], ["versions.adapter_id", "versions.number"], ondelete="RESTRICT"
        ),
        Index("ix_aliases_adapter_id_number", "adapter_id", "number"),
        Index("ix_aliases_alias_key_version_id", "alias_key", "version_id"),
        CheckConstraint("alias_key = lower(alias)", name="alias_key"),
    )


class TagRow(Sealed, Base):
    """Free key=value metadata of a version; never part of any digest."""

    __tablename__ = "tags"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]

    __table_args__ = (Index("ix_tags_key_value_version_id", "key", "value", "version_id"),)


class NameWordRow(Base):
    """A word of an adapter's name, in lower case: what free text is searched by, with :class:`WordRow`."""

    __tablename__ = "name_words"

    word: Mapped[str] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapters.id", ondelete="RESTRICT"), primary_key=True, index=True
    )


class WordRow(Base):
    """A word of a version's note or tags, in lower case."""

    __tablename__ = "words"

    word: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("versions.id", ondelete="RESTRICT"), primary_key=True, index=True
    )


class EvaluationRow(Sealed, Base):
    """A metric's value for a version on a dataset; ``split`` is '' where there is none."""

    __tablename__ = "evaluations"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"))
    metric: Mapped[str]
    dataset: Mapped[str]
    split: Mapped[str]
    value: Mapped[float]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("version_id", "dataset", "split", "metric"),
        Index("ix_evaluations_metric_value_version_id", "metric", "value", "version_id"),
    )


class RuleRow(Sealed, Base):
    """What is to be published where: the versions that an alias of the selected adapters points to.

    ``selector`` is an adapter's name or a filter, ``alias`` is '' for the latest version. ``repo``, ``revision`` and
    ``tag`` are templates, such as ``team/{name}``.
    """

    __tablename__ = "rules"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    selector: Mapped[str]
    alias: Mapped[str]
    repo: Mapped[str]
    revision: Mapped[str]
    target: Mapped[str]
    private: Mapped[bool]
    adopt: Mapped[bool]
    propose: Mapped[bool]
    tag: Mapped[str | None]
    license: Mapped[str | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("selector", "alias", "repo", "revision", "target", name="uq_rules_what_where"),
        CheckConstraint("target IN ('adapter', 'model')", name="target"),
    )


class PublicationRow(Sealed, Base):
    """A push to the Hub: written before the push (``pending``), closed after it.

    ``pull_request`` is its number, 0 until it was opened, and NULL for a push to the branch itself. ``tag`` is the tag
    that the commit is to have on the Hub, and ``tagged`` whether it was seen there. ``seen`` is the newest commit of the
    branch that was found to hold the files, so that it need not be looked into again. A ``withdrawn`` one was
    unpublished, for the ``reason``.
    """

    __tablename__ = "publications"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    publish_id: Mapped[str] = mapped_column(unique=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), index=True)
    repo: Mapped[str]
    revision: Mapped[str]
    target: Mapped[str]
    state: Mapped[str]
    commit: Mapped[str | None]
    url: Mapped[str | None] = mapped_column(Text)
    files: Mapped[dict[str, Any]]
    error: Mapped[str | None] = mapped_column(Text)
    pull_request: Mapped[int | None]
    tag: Mapped[str | None]
    tagged: Mapped[bool] = mapped_column(server_default=false())
    seen: Mapped[str | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    finished_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("ix_publications_repo_revision_id", "repo", "revision", "id"),
        CheckConstraint("target IN ('adapter', 'model')", name="target"),
        CheckConstraint("state IN ('pending', 'done', 'failed', 'withdrawn')", name="state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("state NOT IN ('done', 'withdrawn') OR \"commit\" IS NOT NULL", name="commit"),
        CheckConstraint("(state = 'withdrawn') = (withdrawn_at IS NOT NULL)", name="withdrawn"),
        CheckConstraint("pull_request >= 0", name="pull_request"),
    )


class SweepRow(Sealed, Base):
    """A sweep: one expression with variables in it, at many values, measured by one evaluator.

    ``digest`` is over all that says what is to be done, so that the same command is the same sweep. ``pins`` are the
    versions that the references of ``expression`` meant, ``variables`` the values as they were asked for,
    ``objectives`` pairs of a metric and ``min`` or ``max``. ``version_id`` is the version that the best point became.
    """

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(index=True)
    expression: Mapped[str] = mapped_column(Text)
    pins: Mapped[dict[str, Any]]
    variables: Mapped[dict[str, Any]]
    evaluator: Mapped[str] = mapped_column(Text)
    evaluator_digest: Mapped[str] = mapped_column(index=True)
    objectives: Mapped[list[Any]]
    constraints: Mapped[list[Any]]
    search: Mapped[str]
    budget: Mapped[int | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    dataset: Mapped[str]
    split: Mapped[str]
    state: Mapped[str]
    version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id", ondelete="RESTRICT"), index=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("digest LIKE 'sha256:%'", name="digest"),
        CheckConstraint("name_key = lower(name)", name="name_key"),
        CheckConstraint("search IN ('grid', 'bayes')", name="search"),
        CheckConstraint("state IN ('running', 'stopped', 'done')", name="state"),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished"),
    )


class SweepPointRow(Sealed, Base):
    """What was measured at one point of a sweep: no version, but a recipe, by which others find it again.

    ``attempts`` is 0 where the metrics were known before; ``metrics`` is empty where the evaluation failed.
    """

    __tablename__ = "sweep_points"

    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="RESTRICT"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[dict[str, Any]]
    expression: Mapped[str] = mapped_column(Text)
    recipe_digest: Mapped[str] = mapped_column(ForeignKey("recipes.digest", ondelete="RESTRICT"), index=True)
    state: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    seconds: Mapped[float]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("position >= 1", name="position"),
        CheckConstraint("state IN ('ok', 'failed', 'timeout')", name="state"),
        CheckConstraint("(state = 'ok') = (error IS NULL)", name="error"),
        CheckConstraint("attempts >= 0", name="attempts"),
    )


class SketchRow(Sealed, Base):
    """A short vector that stands for an adapter's content where many are compared; it can be made again.

    ``version`` is that of the way it is made; vectors of different ones are not compared.
    """

    __tablename__ = "sketches"

    artifact_digest: Mapped[str] = mapped_column(
        ForeignKey("artifacts.digest", ondelete="RESTRICT"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Sealed, Base):
    """Who changed what, written in the same transaction as the change, never changed afterwards."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]

    __table_args__ = (
        Index("ix_events_subject_id", "subject", "id"),
        Index("ix_events_actor_id", "actor", "id"),
        Index("ix_events_action_id", "action", "id"),
        Index("ix_events_at", "at"),
    )
