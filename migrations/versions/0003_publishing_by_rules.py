"""Rules for publishing, pull requests, tags and withdrawals of publications, licenses of base models, foreign origins."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

KEPT = (
    'id, publish_id, version_id, repo, revision, target, state, "commit", url, files, error, created_at, '
    "created_by, finished_at"
)


def upgrade() -> None:
    op.add_column("base_models", sa.Column("license", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("source_revision", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("origin", sa.Text(), nullable=True))
    op.create_table(
        "rules",
        sa.Column("id", IDENTITY, nullable=False),
        *(
            sa.Column(name, PLAIN, nullable=False)
            for name in ("selector", "alias", "repo", "revision", "target")
        ),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("private", "adopt", "propose")),
        sa.Column("tag", PLAIN, nullable=True),
        sa.Column("license", PLAIN, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("target IN ('adapter', 'model')", name=op.f("ck_rules_target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules")),
        sa.UniqueConstraint(
            "selector", "alias", "repo", "revision", "target", name=op.f("uq_rules_what_where")
        ),
    )
    rebuild_publications(now=True)


def downgrade() -> None:
    rebuild_publications(now=False)
    op.drop_table("rules")
    for column in ("origin", "source_revision"):
        op.drop_column("versions", column)
    op.drop_column("base_models", "license")


def rebuild_publications(*, now: bool) -> None:
    """Made anew with its rows: SQLite cannot change what is checked."""
    op.execute(f"CREATE TABLE publications_before AS SELECT {KEPT} FROM publications")  # noqa: S608
    op.drop_table("publications")
    states = "'pending', 'done', 'failed'" + (", 'withdrawn'" if now else "")
    finished = "('done', 'withdrawn')" if now else "('done')"
    checks = {
        "target": "target IN ('adapter', 'model')",
        "state": f"state IN ({states})",
        "finished": "(state = 'pending') = (finished_at IS NULL)",
        "commit": f'state NOT IN {finished} OR "commit" IS NOT NULL'
        if now
        else "state <> 'done' OR \"commit\" IS NOT NULL",
    }
    if now:
        checks |= {
            "withdrawn": "(state = 'withdrawn') = (withdrawn_at IS NOT NULL)",
            "pull_request": "pull_request >= 0",
        }
    more: list[sa.Column[object]] = [
        sa.Column("pull_request", sa.Integer(), nullable=True),
        sa.Column("tag", PLAIN, nullable=True),
        sa.Column("tagged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("seen", PLAIN, nullable=True),
        sa.Column("withdrawn_at", TIME, nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
    ]
    op.create_table(
        "publications",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("publish_id", PLAIN, nullable=False),
        sa.Column("version_id", IDENTITY, nullable=False),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("repo", "revision", "target", "state")),
        sa.Column("commit", PLAIN, nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("files", JSON, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        *(more if now else []),
        *(sa.CheckConstraint(text, name=op.f(f"ck_publications_{name}")) for name, text in checks.items()),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
            name=op.f("fk_publications_version_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint("publish_id", name=op.f("uq_publications_publish_id")),
    )
    op.create_index("ix_publications_version_id", "publications", ["version_id"])
    if now:
        op.create_index("ix_publications_repo_revision_id", "publications", ["repo", "revision", "id"])
    else:
        op.create_index("ix_publications_repo", "publications", ["repo"])
        op.execute(
            "UPDATE publications_before SET state = 'failed', error = 'unpublished' WHERE state = 'withdrawn'"
        )
    op.execute(f"INSERT INTO publications ({KEPT}) SELECT {KEPT} FROM publications_before")  # noqa: S608
    op.drop_table("publications_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('publications', 'id'), "
            "(SELECT max(id) FROM publications)) WHERE EXISTS (SELECT FROM publications)"
        )
