"""Sweeps with their points, and the sketches by which contents are compared."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", IDENTITY, nullable=False),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("digest", "name", "name_key")),
        sa.Column("expression", sa.Text(), nullable=False),
        *(sa.Column(name, JSON, nullable=False) for name in ("pins", "variables")),
        sa.Column("evaluator", sa.Text(), nullable=False),
        sa.Column("evaluator_digest", PLAIN, nullable=False),
        *(sa.Column(name, JSON, nullable=False) for name in ("objectives", "constraints")),
        sa.Column("search", PLAIN, nullable=False),
        sa.Column("budget", sa.Integer(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("dataset", "split", "state")),
        sa.Column("version_id", IDENTITY, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("seal", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("digest LIKE 'sha256:%'", name=op.f("ck_sweeps_digest")),
        sa.CheckConstraint("name_key = lower(name)", name=op.f("ck_sweeps_name_key")),
        sa.CheckConstraint("search IN ('grid', 'bayes')", name=op.f("ck_sweeps_search")),
        sa.CheckConstraint("state IN ('running', 'stopped', 'done')", name=op.f("ck_sweeps_state")),
        sa.CheckConstraint("(state = 'running') = (finished_at IS NULL)", name=op.f("ck_sweeps_finished")),
        refers("sweeps", "version_id", "versions.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("digest", name=op.f("uq_sweeps_digest")),
    )
    for column in ("name_key", "evaluator_digest", "version_id"):
        op.create_index(f"ix_sweeps_{column}", "sweeps", [column])
    op.create_table(
        "sweep_points",
        sa.Column("sweep_id", IDENTITY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("values", JSON, nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("recipe_digest", "state")),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("seal", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("position >= 1", name=op.f("ck_sweep_points_position")),
        sa.CheckConstraint("state IN ('ok', 'failed', 'timeout')", name=op.f("ck_sweep_points_state")),
        sa.CheckConstraint("(state = 'ok') = (error IS NULL)", name=op.f("ck_sweep_points_error")),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_sweep_points_attempts")),
        refers("sweep_points", "sweep_id", "sweeps.id"),
        refers("sweep_points", "recipe_digest", "recipes.digest"),
        sa.PrimaryKeyConstraint("sweep_id", "position", name=op.f("pk_sweep_points")),
    )
    op.create_index("ix_sweep_points_recipe_digest", "sweep_points", ["recipe_digest"])
    op.create_table(
        "sketches",
        sa.Column("artifact_digest", PLAIN, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("seal", sa.BigInteger(), nullable=True),
        refers("sketches", "artifact_digest", "artifacts.digest"),
        sa.PrimaryKeyConstraint("artifact_digest", "version", name=op.f("pk_sketches")),
    )


def downgrade() -> None:
    for table in ("sketches", "sweep_points", "sweeps"):
        op.drop_table(table)


def refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"), ondelete="RESTRICT")
