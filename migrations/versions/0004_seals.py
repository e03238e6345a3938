"""A checksum in every row of content, by which a value that changed by itself is found."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from registry.catalog import seals
from registry.catalog.tables import Json, UTCDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CHUNK = 500
TABLES = [
    "base_models", "base_aliases", "base_layouts", "adapters", "blobs", "artifacts", "artifact_files", "recipes",
    "realisations", "versions", "lineage", "followed", "revocations", "aliases", "tags", "evaluations", "rules",
    "publications", "events",
]  # fmt: skip


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("seal", sa.BigInteger(), nullable=True))
    for table in TABLES:
        seal(as_it_is(table))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "seal")


def as_it_is(name: str) -> sa.Table:
    """The table as the database has it, with times that know their zone on both; what is damaged is told as everywhere."""
    table = sa.Table(name, sa.MetaData(), autoload_with=op.get_bind(), resolve_fks=False)
    for column in table.c:
        if isinstance(column.type, sa.DateTime):
            column.type = UTCDateTime()
        elif isinstance(column.type, sa.JSON):
            column.type = Json()
    return table


def seal(table: sa.Table) -> None:
    keys = list(table.primary_key.columns)
    found = {key.name: sa.bindparam(f"its_{key.name}", type_=key.type) for key in keys}
    statement = (
        sa.update(table)
        .where(*[key == found[key.name] for key in keys])
        .values(seal=sa.bindparam("its_seal", type_=sa.BigInteger()))
    )
    for rows in chunks(table, keys):
        op.get_bind().execute(
            statement,
            [
                {
                    "its_seal": seals.of(table.name, row) + row.get("id", 0),
                    **{f"its_{key.name}": row[key.name] for key in keys},
                }
                for row in rows
            ],
        )


def chunks(table: sa.Table, keys: list[sa.Column[Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The rows in the order of their keys, each time from the last one on: never all of them at once."""
    query = sa.select(table).order_by(*keys).limit(CHUNK)
    after = query
    while rows := list(op.get_bind().execute(after).mappings().all()):
        yield [dict(row) for row in rows]
        last = sa.tuple_(*[sa.literal(rows[-1][key.name], key.type) for key in keys])
        after = query.where(sa.tuple_(*keys) > last)
