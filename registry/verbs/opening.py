"""Open a registry: its database and its blob store, each made where there is none."""

from __future__ import annotations

from registry.blobs import BlobStore, open_store
from registry.catalog.database import Database, open_database
from registry.settings import Settings


def open_registry(settings: Settings) -> tuple[Settings, Database, BlobStore]:
    """Raises ``SchemaOutdated`` for a catalog of another release and ``StorageFailure`` where one is out of reach."""
    database = open_database(settings.database_url)
    return settings, database, open_store(settings.blobs)
