"""Open a registry: its database now, its blob store when bytes are asked for."""

from __future__ import annotations

from registry.catalog.database import Database, open_database
from registry.settings import Settings


def open_registry(settings: Settings) -> tuple[Settings, Database]:
    """Raises ``SchemaOutdated`` for a catalog of another release and ``StorageFailure`` where one is out of reach."""
    return settings, open_database(settings.database_url)
