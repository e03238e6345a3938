"""Staleness, revocation, free text, protected aliases, names and layouts of base models, and indexes for searching."""

from collections.abc import Iterable, Iterator
from itertools import islice

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from registry import expression
from registry.catalog import words
from registry.errors import RegistryError
from registry.reference import Reference, parse

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CHUNK = 500

TABLES = ["name_words", "words", "affected", "revocations", "followed", "base_layouts", "base_aliases"]
INDEXES = {
    "ix_base_models_fingerprint": ("base_models", ["fingerprint"]),
    "ix_artifacts_kind": ("artifacts", ["kind"]),
    "ix_artifacts_rank": ("artifacts", ["rank"]),
    "ix_artifacts_size_digest": ("artifacts", ["size", "digest"]),
    "ix_artifacts_parameters_digest": ("artifacts", ["parameters", "digest"]),
    "ix_versions_adapter_id_id": ("versions", ["adapter_id", "id"]),
    "ix_versions_base_model_id_id": ("versions", ["base_model_id", "id"]),
    "ix_versions_task_id": ("versions", ["task", "id"]),
    "ix_versions_license_id": ("versions", ["license", "id"]),
    "ix_versions_created_by_id": ("versions", ["created_by", "id"]),
    "ix_versions_created_at": ("versions", ["created_at"]),
    "ix_evaluations_metric_value_version_id": ("evaluations", ["metric", "value", "version_id"]),
    "ix_events_subject_id": ("events", ["subject", "id"]),
    "ix_events_actor_id": ("events", ["actor", "id"]),
    "ix_events_action_id": ("events", ["action", "id"]),
    "ix_events_at": ("events", ["at"]),
}
REPLACED = {
    "ix_versions_base_model_id": ("versions", ["base_model_id"]),
    "ix_versions_task": ("versions", ["task"]),
    "ix_events_subject": ("events", ["subject"]),
}


def upgrade() -> None:
    create_tables()
    rebuild_aliases(with_versions=True)
    for name in REPLACED:
        op.drop_index(name)
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)
    latest = sa.text("latest_of IS NOT NULL")
    op.create_index("ix_versions_latest", "versions", ["id"], sqlite_where=latest, postgresql_where=latest)
    fill_words()
    fill_followed()


def downgrade() -> None:
    op.drop_index("ix_versions_latest")
    for name in INDEXES:
        op.drop_index(name)
    for name, (table, columns) in REPLACED.items():
        op.create_index(name, table, columns)
    rebuild_aliases(with_versions=False)
    for table in TABLES:
        op.drop_table(table)


def create_tables() -> None:
    op.create_table(
        "base_aliases",
        sa.Column("alias_key", PLAIN, nullable=False),
        sa.Column("alias", PLAIN, nullable=False),
        sa.Column("base_model_id", IDENTITY, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("alias_key = lower(alias)", name=op.f("ck_base_aliases_alias_key")),
        reference("base_aliases", "base_model_id", "base_models.id"),
        sa.PrimaryKeyConstraint("alias_key", name=op.f("pk_base_aliases")),
    )
    op.create_index("ix_base_aliases_base_model_id", "base_aliases", ["base_model_id"])
    op.create_table(
        "base_layouts",
        sa.Column("fingerprint", PLAIN, nullable=False),
        sa.Column("layout", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_base_layouts")),
    )
    op.create_table(
        "followed",
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("adapter_id", IDENTITY, nullable=False),
        sa.Column("alias_key", PLAIN, nullable=False),
        sa.Column("pinned_id", IDENTITY, nullable=False),
        reference("followed", "version_id", "versions.id"),
        reference("followed", "adapter_id", "adapters.id"),
        reference("followed", "pinned_id", "versions.id"),
        sa.PrimaryKeyConstraint("version_id", "adapter_id", "alias_key", name=op.f("pk_followed")),
    )
    op.create_index("ix_followed_adapter_id_alias_key", "followed", ["adapter_id", "alias_key"])
    op.create_table(
        "revocations",
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("revoked_at", TIME, nullable=False),
        sa.Column("revoked_by", sa.Text(), nullable=False),
        reference("revocations", "version_id", "versions.id"),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_revocations")),
    )
    op.create_table(
        "affected",
        sa.Column("version_id", IDENTITY, nullable=False),
        sa.Column("revoked_id", IDENTITY, nullable=False),
        reference("affected", "version_id", "versions.id"),
        reference("affected", "revoked_id", "revocations.version_id"),
        sa.PrimaryKeyConstraint("version_id", "revoked_id", name=op.f("pk_affected")),
    )
    op.create_index("ix_affected_revoked_id", "affected", ["revoked_id"])
    for table, column, target in (
        ("words", "version_id", "versions.id"),
        ("name_words", "adapter_id", "adapters.id"),
    ):
        op.create_table(
            table,
            sa.Column("word", PLAIN, nullable=False),
            sa.Column(column, IDENTITY, nullable=False),
            reference(table, column, target),
            sa.PrimaryKeyConstraint("word", column, name=op.f(f"pk_{table}")),
        )
        op.create_index(f"ix_{table}_{column}", table, [column])


def rebuild_aliases(*, with_versions: bool) -> None:
    """Made anew with its rows: SQLite cannot add a column that is never NULL."""
    columns = "adapter_id, alias_key, alias, number, updated_at, updated_by"
    op.execute(f"CREATE TABLE aliases_before AS SELECT {columns} FROM aliases")  # noqa: S608
    op.drop_table("aliases")
    more = [sa.Column("version_id", IDENTITY, nullable=False)] if with_versions else []
    protected: list[sa.Column[bool]] = [
        sa.Column("protected", sa.Boolean(), server_default=sa.false(), nullable=False)
    ]
    op.create_table(
        "aliases",
        sa.Column("adapter_id", IDENTITY, nullable=False),
        sa.Column("alias_key", PLAIN, nullable=False),
        sa.Column("alias", PLAIN, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        *more,
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        *(protected if with_versions else []),
        sa.CheckConstraint("alias_key = lower(alias)", name=op.f("ck_aliases_alias_key")),
        sa.ForeignKeyConstraint(
            ["adapter_id", "number"],
            ["versions.adapter_id", "versions.number"],
            name=op.f("fk_aliases_adapter_id_number"),
            ondelete="RESTRICT",
        ),
        *([reference("aliases", "version_id", "versions.id")] if with_versions else []),
        sa.PrimaryKeyConstraint("adapter_id", "alias_key", name=op.f("pk_aliases")),
    )
    op.create_index("ix_aliases_adapter_id_number", "aliases", ["adapter_id", "number"])
    if with_versions:
        op.create_index("ix_aliases_version_id", "aliases", ["version_id"])
        op.create_index("ix_aliases_alias_key_version_id", "aliases", ["alias_key", "version_id"])
        op.execute(
            f"INSERT INTO aliases ({columns}, version_id) "  # noqa: S608
            "SELECT b.adapter_id, b.alias_key, b.alias, b.number, b.updated_at, b.updated_by, v.id "
            "FROM aliases_before b JOIN versions v ON v.adapter_id = b.adapter_id AND v.number = b.number"
        )
    else:
        op.execute(f"INSERT INTO aliases ({columns}) SELECT {columns} FROM aliases_before")  # noqa: S608
    op.drop_table("aliases_before")


def fill_words() -> None:
    """The words of what is there: by adapter from names, by version from notes and tags."""
    names = rows("SELECT id, name FROM adapters WHERE id > :last ORDER BY id LIMIT :most")
    insert(
        "INSERT INTO name_words (word, adapter_id) VALUES (:word, :id)",
        ({"word": word, "id": row.id} for row in names for word in words.split(row.name)),
    )
    versions = rows(
        "SELECT v.id AS id, v.note AS note, t.key AS key, t.value AS value FROM "
        "(SELECT id, note FROM versions WHERE id > :last ORDER BY id LIMIT :most) v "
        "LEFT JOIN tags t ON t.version_id = v.id ORDER BY v.id"
    )
    insert("INSERT INTO words (word, version_id) VALUES (:word, :id)", words_of(versions))


def words_of(versions: Iterable[sa.Row[tuple[int]]]) -> Iterator[dict[str, object]]:
    seen: set[str] = set()
    current = None
    for row in versions:
        if row.id != current:
            current, seen = row.id, set()
        for word in words.split(f"{row.note or ''} {row.key or ''} {row.value or ''}"):
            if word not in seen:
                seen.add(word)
                yield {"word": word, "id": row.id}


def fill_followed() -> None:
    """What expressions follow: their references by alias or to the latest, as pinned when they were written."""
    bind = op.get_bind()
    find = sa.text(
        "SELECT v.id AS id, v.adapter_id AS adapter FROM versions v JOIN adapters a ON v.adapter_id = a.id "
        "WHERE a.name_key = :name AND v.number = :number"
    )
    derived = rows(
        "SELECT id, expression, resolved FROM versions WHERE expression IS NOT NULL AND id > :last "
        "ORDER BY id LIMIT :most"
    )
    for row in list(derived):
        found = {}
        for typed, pinned in moving(row.expression, row.resolved):
            version = bind.execute(find, {"name": (pinned.name or "").lower(), "number": pinned.version})
            if (pin := version.one_or_none()) is not None:
                found[pin.adapter, (typed.alias or "").lower()] = pin.id
        insert(
            "INSERT INTO followed (version_id, adapter_id, alias_key, pinned_id) VALUES (:id, :adapter, :alias, :pin)",
            ({"id": row.id, "adapter": a, "alias": alias, "pin": pin} for (a, alias), pin in found.items()),
        )


def moving(typed: str, resolved: str) -> list[tuple[Reference, Reference]]:
    """The references of an expression that can come to mean another version, each with what it was pinned to."""
    try:
        before = list(expression.references(expression.parse(typed)))
        after = [parse(str(each)) for each in expression.references(expression.parse(resolved))]
    except RegistryError:  # written by a grammar of before: it stays as it is, and is never called stale
        return []
    if len(before) != len(after):
        return []
    pairs = zip(before, after, strict=True)
    return [(one, other) for one, other in pairs if one.digest is None and one.version is None]


def rows(query: str) -> Iterator[sa.Row[tuple[int]]]:
    """The rows of a query that is asked again from the last id on, until there are none."""
    last = 0
    while found := op.get_bind().execute(sa.text(query), {"last": last, "most": CHUNK}).all():
        yield from found
        last = found[-1].id


def insert(statement: str, values: Iterator[dict[str, object]]) -> None:
    while chunk := list(islice(values, CHUNK)):
        op.get_bind().execute(sa.text(statement), chunk)


def reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"), ondelete="RESTRICT")
