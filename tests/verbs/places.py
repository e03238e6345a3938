"""What a registry consists of, seen from outside: rows, blobs and staging folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.errors import RegistryError
from tests.catalog.drafts import counts


def state(catalog: Registry) -> dict[str, Any]:
    """Everything that a failed command must leave as it was."""
    return {
        "rows": counts(catalog._database),
        "blobs": dict(catalog._blobs.digests()),
        "staged": catalog._blobs.leftovers(timedelta(0)),
    }


@contextmanager
def refused(catalog: Registry, error: type[RegistryError], *parts: str, code: int) -> Iterator[None]:
    """The block fails with one clear line that names these parts, and changes nothing."""
    before = state(catalog)
    with pytest.raises(error) as caught:
        yield
    assert caught.value.exit_code == code
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    said = f"{caught.value.message} {caught.value.hint or ''}"
    for part in parts:
        assert part in said
    assert state(catalog) == before


def blob(catalog: Registry, ref: str, name: str = "adapter_model.safetensors") -> Path:
    """Where a version's file lies."""
    from registry.catalog import artifacts

    with catalog._database.read() as session:
        return catalog._blobs.path(artifacts.files(session, catalog.show(ref).digest)[name].digest)


def damage(path: Path, position: int = -3) -> None:
    """Flip one byte of a file that is read-only."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
