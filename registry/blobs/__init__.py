"""Blob stores: bytes by their sha256. One file each; the URL's scheme is the file's name (a path is ``local``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

from registry.errors import UsageError
from registry.plugins import Family


class BlobStore:
    """Base of the blob stores. Digests are ``"sha256:…"``; a blob is there whole or not at all."""

    @classmethod
    def open(cls, url: str) -> BlobStore:
        """The store at ``url``, made where it does not exist."""
        raise NotImplementedError

    def stage(self) -> AbstractContextManager[Path]:
        """An empty private folder on the store's own file system, removed at the end of the block.

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
        """A local file with the blob's bytes, to read only. Raises ``IntegrityFailure`` where it is missing."""
        raise NotImplementedError

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

    def digests(self) -> Iterator[tuple[str, int]]:
        """Every blob with its size in bytes, in no particular order."""
        raise NotImplementedError

    def unused_for(self, digest: str, age: timedelta) -> bool:
        """Whether nobody put this blob for ``age``: what was put a moment ago may not be recorded yet."""
        raise NotImplementedError

    def leftovers(self, age: timedelta) -> list[Path]:
        """Staged work whose process is gone, and that nobody touched for ``age``: folders to be removed."""
        raise NotImplementedError


family: Family[BlobStore] = Family(BlobStore, "blob store")


def open_store(url: str) -> BlobStore:
    """The blob store at ``url``: a folder, or ``scheme://…`` for the store called ``scheme``."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "file":
        scheme, url = "local", url.removeprefix("file://")
    name = scheme if separator else "local"
    if name not in family.names():
        raise UsageError(
            f"no blob store for {scheme}:// URLs", hint=f"known are: {', '.join(family.names())}"
        )
    return family.load(name).open(url)
