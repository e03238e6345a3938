"""Where a registry lives: the home folder, the database and the blob store, from arguments or environment."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from registry._paths import expanded
from registry.blobs import Room
from registry.errors import UsageError

_LONGEST_NAME = 200
_UNITS = ("", "K", "M", "G", "T")
_ROOM = 20 * 10**9


@dataclass(frozen=True)
class Settings:
    """``home`` holds ``registry.db`` and ``blobs/`` unless the two URLs point elsewhere."""

    home: Path
    database_url: str = field(repr=False)  # may have a password in it
    blobs: str
    given_actor: str | None
    cache_size: int = _ROOM

    @property
    def room(self) -> Room:
        """Where copies of blobs that are kept elsewhere go; blobs in a local folder need none."""
        return Room(self.home / "cache", self.cache_size)

    @property
    def exposed(self) -> str | None:
        """Why what is kept in the home cannot be relied on, if it is so: others may write there."""
        try:
            found = self.home.stat()
        except OSError:  # not there yet
            return None
        if found.st_uid != os.geteuid():
            return f"{self.home} belongs to somebody else, who could change what is kept there"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return (
                f"{self.home} may be written to by others, who could change what is kept there: chmod 700 it"
            )
        return None

    @property
    def bereft(self) -> str | None:
        """That the home has blobs and no database: that is lost, and an empty one is about to take its place."""
        file, blobs = self.home / "registry.db", self.home / "blobs" / "sha256"
        if self.database_url != _own_database(self.home) or self.blobs != str(blobs.parent):
            return None  # they are elsewhere
        try:
            if (file.exists() and file.stat().st_size) or not any(blobs.iterdir()):
                return None
        except OSError:
            return None
        return (
            f"{self.home} has blobs and no database: if a catalog was here, move {file} aside,"
            " run registry restore BACKUP, and no registry gc --apply before"
        )

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
    """Arguments first, then ``REGISTRY_HOME``, ``REGISTRY_DATABASE_URL``, ``REGISTRY_BLOBS``,
    ``REGISTRY_ACTOR`` and ``REGISTRY_CACHE_SIZE``, then the platform's user data folder and the login name.
    """
    root = Path(home or os.environ.get("REGISTRY_HOME") or platformdirs.user_data_path("adapter-registry"))
    root = expanded(root).absolute()
    return Settings(
        home=root,
        database_url=database_url or os.environ.get("REGISTRY_DATABASE_URL") or _own_database(root),
        blobs=blobs or os.environ.get("REGISTRY_BLOBS") or str(root / "blobs"),
        given_actor=actor or os.environ.get("REGISTRY_ACTOR"),
        cache_size=_size(os.environ.get("REGISTRY_CACHE_SIZE") or str(_ROOM)),
    )


def _own_database(home: Path) -> str:
    """What means something in a URL and not in a path is escaped: the file is nowhere but in the home."""
    path = str(home / "registry.db")
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15}) ?(?:([KMGT]?)(I?)B)?", text.strip().upper())
    if found is None:
        raise UsageError(
            f"REGISTRY_CACHE_SIZE is {text[:40]!a}, which is no size",
            hint="write a number of bytes, or a size such as 500MB, 20GB or 2GiB",
        )
    unit: int = (1024 if found[3] else 1000) ** _UNITS.index(found[2] or "")
    return int(found[1]) * unit


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # no entry for this user id, as in many containers
        raise UsageError("cannot tell who you are", hint="set REGISTRY_ACTOR to a name") from error
