"""Alembic's entry point: runs the revisions on the connection it is given, or on the configured URL."""

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from registry import settings
from registry.catalog.database import Database, make_engine
from registry.catalog.tables import Base


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # A migration that cannot get its lock soon should fail, not queue every other client behind it.
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
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


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    engine = make_engine(Database(settings.load().database_url).url).execution_options(registry_write=True)
    with engine.connect() as own:
        run(own)
