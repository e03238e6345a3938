"""Where a registry lives: the home folder, the database and the blob store, from arguments or environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from registry.errors import UsageError

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Settings:
    """``home`` holds ``registry.db`` and ``blobs/`` unless the two URLs point elsewhere."""

    home: Path
    database_url: str
    blobs: str
    given_actor: str | None

    @property
    def actor(self) -> str:
        """Who changes something. Raises ``UsageError`` for a name that cannot be told, or stored and shown."""
        name = self.given_actor or _login()
        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise UsageError(
                f"{name[:40]!a} cannot be the name of who changes something",
                hint=f"set REGISTRY_ACTOR to at most {_LONGEST_NAME} characters, without control characters",
            )
        return name


def load(
    home: str | Path | None = None,
    *,
    database_url: str | None = None,
    blobs: str | None = None,
    actor: str | None = None,
) -> Settings:
    """Arguments first, then ``REGISTRY_HOME``, ``REGISTRY_DATABASE_URL``, ``REGISTRY_BLOBS`` and
    ``REGISTRY_ACTOR``, then the platform's user data folder and the login name.
    """
    root = Path(home or os.environ.get("REGISTRY_HOME") or platformdirs.user_data_path("adapter-registry"))
    root = root.expanduser().absolute()
    return Settings(
        home=root,
        database_url=database_url
        or os.environ.get("REGISTRY_DATABASE_URL")
        or f"sqlite:///{root / 'registry.db'}",
        blobs=blobs or os.environ.get("REGISTRY_BLOBS") or str(root / "blobs"),
        given_actor=actor or os.environ.get("REGISTRY_ACTOR"),
    )


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # no entry for this user id, as in many containers
        raise UsageError("cannot tell who you are", hint="set REGISTRY_ACTOR to a name") from error
