"""Blob stores: bytes by their sha256. One file each; the URL's scheme is the file's name (a path is ``local``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from registry.errors import IntegrityFailure, UsageError
from registry.plugins import Family


@dataclass(frozen=True)
class Room:
    """Where a store that is elsewhere may keep copies on this machine, and how many bytes of them."""

    folder: Path
    size: int


class Missing(IntegrityFailure):
    """A blob that is not there."""


class BlobStore:
    """Base of the blob stores. Digests are ``"sha256:…"``; a blob is there whole or not at all."""

    @classmethod
    def open(cls, url: str, room: Room | None = None) -> BlobStore:
        """The store at ``url``; a folder is made where it does not exist."""
        raise NotImplementedError

    def stage(self) -> AbstractContextManager[Path]:
        """An empty private folder where ``put`` takes files from at no cost, removed at the end of the block.

        It is no leftover for as long as this process lives.
        """
        raise NotImplementedError

    def put(self, file: Path, digest: str) -> None:
        """Take over ``file`` (staged, closed, with these very contents) as a blob, durably.

        Storing what is there already is a success and marks the blob as just used; one that is there but
        damaged is replaced.
        """
        raise NotImplementedError

    def put_many(self, files: Mapping[str, Path]) -> None:
        """Take over many files, by digest, as :meth:`put` takes one: all are durable when this returns."""
        for digest, file in files.items():
            self.put(file, digest)

    def path(self, digest: str) -> Path:
        """A local file with the blob's bytes, to read only; it stays for as long as this store is in use.

        Raises ``Missing`` where it is not there.
        """
        raise NotImplementedError

    def forget(self, digest: str) -> None:
        """Where ``path`` hands out copies: drop this one, which turned out to be damaged, and fetch it again."""

    def recheck(self, digest: str) -> None:
        """Where ``path`` hands out copies: read every byte of the blob itself too.

        Raises ``IntegrityFailure`` where it is missing or damaged.
        """

    def has(self, digest: str) -> bool:
        raise NotImplementedError

    def intact(self, digest: str) -> bool:
        """Whether the blob is there and what it was.

        One that shows no sign of a change since it was written or read may be taken at that: what a disk loses
        by itself is found by those who read.
        """
        raise NotImplementedError

    def delete(self, digest: str) -> None:
        """Remove a blob; a missing one is a success."""
        raise NotImplementedError

    def quarantine(self, digest: str) -> bool:
        """Put a blob that is damaged aside, where nothing serves it; False where it is missing, or whole after all.

        What was put aside stays until :meth:`discard`. Nobody else may be recording blobs meanwhile.
        """
        raise NotImplementedError

    def quarantined(self) -> Iterator[tuple[str, str, int]]:
        """What was put aside: its name (for :meth:`discard`), the digest it should have had, its size in bytes."""
        raise NotImplementedError

    def copy_of_quarantined(self, name: str, into: Path) -> None:
        """Copy what was put aside to a new file."""
        raise NotImplementedError

    def digests(self) -> Iterator[tuple[str, int]]:
        """Every blob with its size in bytes, in no particular order."""
        raise NotImplementedError

    def unused_for(self, digest: str, age: timedelta) -> bool:
        """Whether nobody put this blob for ``age``: what was put a moment ago may not be recorded yet."""
        raise NotImplementedError

    def leftovers(self, age: timedelta) -> list[str]:
        """What interrupted work left, and nobody touched for ``age``: staged folders, unfinished uploads."""
        raise NotImplementedError

    def discard(self, leftover: str) -> None:
        """Remove a leftover; a missing one is a success."""
        raise NotImplementedError


family: Family[BlobStore] = Family(BlobStore, "blob store")


def open_store(url: str, room: Room | None = None) -> BlobStore:
    """The blob store at ``url``: a folder, or ``scheme://…`` for the store called ``scheme``.

    ``room`` is where a store that is elsewhere keeps copies; the user's cache folder if it is not given.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "file":
        scheme, url = "local", url.removeprefix("file://")
    name = scheme if separator else "local"
    if name not in family.names():
        raise UsageError(
            f"no blob store for {scheme}:// URLs", hint=f"known are: {', '.join(family.names())}"
        )
    return family.load(name).open(url, room)
