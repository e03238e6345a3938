"""The initial schema: everything the project's vocabulary names, and the outbox of publications."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
TABLES = [
    "tags",
    "publications",
    "lineage",
    "evaluations",
    "aliases",
    "versions",
    "realisations",
    "artifact_files",
    "recipes",
    "events",
    "blobs",
    "base_models",
    "artifacts",
    "adapters",
]
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "adapters",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("name", PLAIN, nullable=False),
        sa.Column("name_key", PLAIN, nullable=False),
        sa.Column("last_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("last_version >= 0", name=op.f("ck_adapters_last_version")),
        sa.CheckConstraint("name_key = lower(name)", name=op.f("ck_adapters_name_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("name_key", name=op.f("uq_adapters_name_key")),
    )
    op.create_table(
        "artifacts",
        sa.Column("digest", PLAIN, nullable=False),
        sa.Column("target", PLAIN, nullable=False),
        sa.Column("kind", PLAIN, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("modules", sa.Integer(), nullable=False),
        sa.Column("dtype", PLAIN, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "not_composable",
            JSON,
            nullable=False,
        ),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("digest LIKE 'sha256:%'", name=op.f("ck_artifacts_digest")),
        sa.CheckConstraint("target IN ('adapter', 'model')", name=op.f("ck_artifacts_target")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "base_models",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("repo", PLAIN, nullable=False),
        sa.Column("revision", PLAIN, nullable=False),
        sa.Column("fingerprint", PLAIN, nullable=True),
        sa.CheckConstraint("repo <> ''", name=op.f("ck_base_models_repo")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint("repo", "revision", name=op.f("uq_base_models_repo_revision")),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", PLAIN, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("digest LIKE 'sha256:%'", name=op.f("ck_blobs_digest")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_blobs_size")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "events",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", PLAIN, nullable=False),
        sa.Column("subject", PLAIN, nullable=False),
        sa.Column(
            "detail",
            JSON,
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)

    op.create_table(
        "recipes",
        sa.Column("digest", PLAIN, nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("digest LIKE 'sha256:%'", name=op.f("ck_recipes_digest")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_recipes")),
    )
    op.create_table(
        "artifact_files",
        sa.Column(
            "artifact_digest",
            PLAIN,
            nullable=False,
        ),
        sa.Column("path", PLAIN, nullable=False),
        sa.Column("blob_digest", PLAIN, nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_digest"],
            ["artifacts.digest"],
            name=op.f("fk_artifact_files_artifact_digest"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["blob_digest"], ["blobs.digest"], name=op.f("fk_artifact_files_blob_digest"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("artifact_digest", "path", name=op.f("pk_artifact_files")),
    )
    op.create_index(op.f("ix_artifact_files_blob_digest"), "artifact_files", ["blob_digest"], unique=False)

    op.create_table(
        "realisations",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("recipe_digest", PLAIN, nullable=False),
        sa.Column("target", PLAIN, nullable=False),
        sa.Column("variant", PLAIN, nullable=False),
        sa.Column("output_digest", PLAIN, nullable=False),
        sa.Column("device", PLAIN, nullable=False),
        sa.Column("dtype", PLAIN, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column(
            "libraries",
            JSON,
            nullable=False,
        ),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column(
            "report",
            JSON,
            nullable=False,
        ),
        sa.Column(
            "files",
            JSON,
            nullable=False,
        ),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("target IN ('adapter', 'model')", name=op.f("ck_realisations_target")),
        sa.ForeignKeyConstraint(
            ["recipe_digest"],
            ["recipes.digest"],
            name=op.f("fk_realisations_recipe_digest"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_realisations")),
        sa.UniqueConstraint(
            "recipe_digest", "target", "variant", "output_digest", name="uq_realisations_output"
        ),
    )
    op.create_index(op.f("ix_realisations_output_digest"), "realisations", ["output_digest"], unique=False)

    op.create_table(
        "versions",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("adapter_id", IDENTITY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "artifact_digest",
            PLAIN,
            nullable=False,
        ),
        sa.Column("base_model_id", IDENTITY, nullable=False),
        sa.Column("recipe_digest", PLAIN, nullable=True),
        sa.Column("expression", sa.Text(), nullable=True),
        sa.Column("resolved", sa.Text(), nullable=True),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("license", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("latest_of", IDENTITY, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name=op.f("ck_versions_tombstone")),
        sa.CheckConstraint(
            "(recipe_digest IS NULL) = (expression IS NULL) AND (recipe_digest IS NULL) = (resolved IS NULL)",
            name=op.f("ck_versions_derived"),
        ),
        sa.CheckConstraint(
            "latest_of IS NULL OR (latest_of = adapter_id AND deleted_at IS NULL)",
            name=op.f("ck_versions_latest_is_live"),
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_versions_number")),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_versions_adapter_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["artifact_digest"],
            ["artifacts.digest"],
            name=op.f("fk_versions_artifact_digest"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_versions_base_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["recipe_digest"], ["recipes.digest"], name=op.f("fk_versions_recipe_digest"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.ForeignKeyConstraint(
            ["latest_of"], ["adapters.id"], name=op.f("fk_versions_latest_of"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_versions_adapter_id_number")),
        sa.UniqueConstraint("latest_of", name=op.f("uq_versions_latest_of")),
    )
    op.create_index(op.f("ix_versions_artifact_digest"), "versions", ["artifact_digest"], unique=False)
    op.create_index(op.f("ix_versions_base_model_id"), "versions", ["base_model_id"], unique=False)
    op.create_index(op.f("ix_versions_recipe_digest"), "versions", ["recipe_digest"], unique=False)
    op.create_index(op.f("ix_versions_task"), "versions", ["task"], unique=False)

    op.create_table(
        "aliases",
        sa.Column("adapter_id", IDENTITY, nullable=False),
        sa.Column("alias_key", PLAIN, nullable=False),
        sa.Column("alias", PLAIN, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("alias_key = lower(alias)", name=op.f("ck_aliases_alias_key")),
        sa.ForeignKeyConstraint(
            ["adapter_id", "number"],
            ["versions.adapter_id", "versions.number"],
            name=op.f("fk_aliases_adapter_id_number"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("adapter_id", "alias_key", name=op.f("pk_aliases")),
    )
    op.create_index("ix_aliases_adapter_id_number", "aliases", ["adapter_id", "number"], unique=False)

    op.create_table(
        "evaluations",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("metric", PLAIN, nullable=False),
        sa.Column("dataset", PLAIN, nullable=False),
        sa.Column("split", PLAIN, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_evaluations_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint(
            "version_id",
            "dataset",
            "split",
            "metric",
            name=op.f("uq_evaluations_version_id_dataset_split_metric"),
        ),
    )
    op.create_table(
        "lineage",
        sa.Column("child_id", IDENTITY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent_id", IDENTITY, nullable=False),
        sa.Column("relation", PLAIN, nullable=False),
        sa.Column("coefficient", sa.Text(), nullable=True),
        sa.CheckConstraint("relation IN ('input', 'declared')", name=op.f("ck_lineage_relation")),
        sa.CheckConstraint("parent_id < child_id", name=op.f("ck_lineage_acyclic")),
        sa.ForeignKeyConstraint(
            ["child_id"], ["versions.id"], name=op.f("fk_lineage_child_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["versions.id"], name=op.f("fk_lineage_parent_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("child_id", "position", name=op.f("pk_lineage")),
        sa.UniqueConstraint(
            "child_id", "relation", "parent_id", name=op.f("uq_lineage_child_id_relation_parent_id")
        ),
    )
    op.create_index(op.f("ix_lineage_parent_id"), "lineage", ["parent_id"], unique=False)

    op.create_table(
        "publications",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("publish_id", PLAIN, nullable=False),
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("repo", PLAIN, nullable=False),
        sa.Column("revision", PLAIN, nullable=False),
        sa.Column("target", PLAIN, nullable=False),
        sa.Column("state", PLAIN, nullable=False),
        sa.Column("commit", PLAIN, nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column(
            "files",
            JSON,
            nullable=False,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "(state = 'pending') = (finished_at IS NULL)", name=op.f("ck_publications_finished")
        ),
        sa.CheckConstraint("state IN ('pending', 'done', 'failed')", name=op.f("ck_publications_state")),
        sa.CheckConstraint("target IN ('adapter', 'model')", name=op.f("ck_publications_target")),
        sa.CheckConstraint("state <> 'done' OR \"commit\" IS NOT NULL", name=op.f("ck_publications_commit")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_publications_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint("publish_id", name=op.f("uq_publications_publish_id")),
    )
    op.create_index(op.f("ix_publications_repo"), "publications", ["repo"], unique=False)
    op.create_index(op.f("ix_publications_version_id"), "publications", ["version_id"], unique=False)

    op.create_table(
        "tags",
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("key", PLAIN, nullable=False),
        sa.Column("value", PLAIN, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_tags_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("version_id", "key", name=op.f("pk_tags")),
    )
    op.create_index("ix_tags_key_value_version_id", "tags", ["key", "value", "version_id"], unique=False)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
