"""Alembic's entry point: runs the revisions on the connection it is given, or on the configured URL."""

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, inspect, text

from registry import settings
from registry.catalog import migrate
from registry.catalog.database import Database, make_engine
from registry.catalog.tables import Base


def run(connection: Connection) -> None:
    server = connection.dialect.name == "postgresql"
    if server:
        # A migration that cannot get its lock soon should fail, not queue every other client behind it.
        connection.execute(text(f"SET lock_timeout = {int(1000 * migrate.PATIENCE)}"))
        connection.commit()
        event.listen(connection, "begin", alone)
    is_new = not MigrationContext.configure(connection).get_current_heads()
    connection.rollback()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        # A catalog is made at once: one that was left half made would be an old one to whoever opens it.
        transaction_per_migration=not is_new,
        transactional_ddl=True,
        compare_type=True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
    )
    with context.begin_transaction():
        context.run_migrations()
    if server:
        event.remove(connection, "begin", alone)


def alone(connection: Connection) -> None:
    """Each revision waits for those who look at the catalog or write to it, and they for it: see ``Database``.

    Single statements and earlier releases hold no revision: they are waited for table by table.
    """
    there = set(inspect(connection).get_table_names())
    if "alembic_version" in there:
        connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        if tables := there & set(Base.metadata.tables):
            migrate.everything(connection, tables)


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    engine = make_engine(Database(settings.load().database_url).url).execution_options(registry_write=True)
    with engine.connect() as own:
        run(own)
