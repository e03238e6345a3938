"""What a release looks like: which files it has, and what is said about it. Values and functions, no network.

A ``Release`` is everything that is published about a version; a ``Plan`` is its files with their hashes, made
before anything is sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from registry import digest
from registry.errors import Refused, StorageFailure
from registry.licenses import Source
from registry.publishers import _merge
from registry.publishers._upstream import Upstream
from registry.results import Comparison, Lineage, Objective, Parent, Target, Version

CARD = "README.md"
PROVENANCE = "provenance.json"

_CHUNK = 1 << 20
_TOKEN = re.compile(
    rb"hf\\?_(?:[A-Za-z0-9]{30,}|(?:oauth|jwt)\\?_[A-Za-z0-9]{15,})"
)  # also as Markdown escapes it
_LONGEST_TOKEN = 256
_HEADER_LIMIT = 100 << 20


@dataclass(frozen=True)
class Origin:
    """A parent of a release, and where it can be had: the Hub repo and commit, and that commit's address."""

    parent: Parent
    repo: str | None = None
    commit: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Build:
    """How the published bytes were computed, as it was recorded then."""

    device: str
    dtype: str
    seed: int
    libraries: Mapping[str, str]
    finished: datetime


@dataclass(frozen=True)
class Terms:
    """What a release is published under, and the licenses of what it is made of.

    ``despite`` is the reason that somebody gave for publishing it in spite of ``conflicts``.
    """

    license: str | None
    inputs: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    despite: str | None = None


@dataclass(frozen=True)
class Serving:
    """The rank that vLLM has to be told for an adapter, or else the ``reason`` why it does not load it."""

    rank: int | None
    reason: str = ""


@dataclass(frozen=True)
class Chosen:
    """What a sweep says of the version that it chose: the ``values`` of its best point, of how many ``points``."""

    expression: str
    values: Mapping[str, str]
    objectives: tuple[Objective, ...]
    constraints: tuple[str, ...]
    points: int


@dataclass(frozen=True)
class Release:
    """A version as it is published. Nothing in it depends on when or where it is published.

    ``recipe`` is the canonical recipe (None for an imported adapter), ``task_type`` PEFT's name of the task.
    ``comparison`` has the evaluations beside the parents', ``upstream`` what it was derived from at every depth, ``chosen``
    how a sweep found its numbers.
    """

    version: Version
    target: Target
    origins: tuple[Origin, ...]
    lineage: Lineage
    recipe: Mapping[str, Any] | None = None
    build: Build | None = None
    task_type: str | None = None
    upstream: Upstream | None = None
    serving: Serving | None = None
    comparison: Comparison | None = None
    terms: Terms | None = None
    chosen: Chosen | None = None

    @property
    def license(self) -> str | None:
        return self.version.license if self.terms is None else self.terms.license


@dataclass(frozen=True)
class PlannedFile:
    """A file to publish, and its sha256 (``"sha256:…"``)."""

    path: str
    size: int
    sha256: str
    source: Path | bytes

    @cached_property
    def git_oid(self) -> str:
        """The id git gives to its content, which is wanted only where the Hub has no sha256: of small files."""
        state = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for chunk in _chunks(self.source):
            state.update(chunk)
        return state.hexdigest()


@dataclass(frozen=True)
class Plan:
    """Every file of a release, by path. ``key`` is the private key that signs them, where one does."""

    files: Mapping[str, PlannedFile]
    key: Path | None = None

    @property
    def digests(self) -> dict[str, str]:
        """The digest of every file, and of the card that of our part: the rest is other people's."""
        return {path: _ours(file) for path, file in self.files.items()}


def planned(path: str, source: Path | bytes, *, sha256: str | None = None) -> PlannedFile:
    """Hash a file, unless its digest is known. Raises ``Refused`` for one that holds a Hub token."""
    size = len(source) if isinstance(source, bytes) else _size(source)
    state, scanner = hashlib.sha256(), _Scanner(path, size)
    for chunk in _chunks(source):
        scanner.feed(chunk)
        if sha256 is None:
            state.update(chunk)
        elif scanner.done:
            break  # the tensors of a large model were read when they were checked
    return PlannedFile(path, size, sha256 or digest.PREFIX + state.hexdigest(), source)


def _ours(file: PlannedFile) -> str:
    if file.path != CARD or not isinstance(file.source, bytes):
        return file.sha256
    return digest.of_bytes(_merge.part(file.source) or file.source)


def holds_token(text: str) -> bool:
    return _TOKEN.search(text.encode()) is not None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(path: Path, error: OSError) -> StorageFailure:
    return StorageFailure(f"cannot read {path!s:.200}: {error.strerror}")


class _Scanner:
    """Looks for tokens in what people write: any file, but only the header of one that holds tensors."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._left = size if not path.endswith(".safetensors") else None
        self._tail = b""

    @property
    def done(self) -> bool:
        return self._left is not None and self._left <= 0

    def feed(self, chunk: bytes) -> None:
        if self._left is None:
            # The first eight bytes say how long the header is.
            self._left = 8 + min(int.from_bytes(chunk[:8], "little"), _HEADER_LIMIT)
        if self._left <= 0:
            return
        seen = self._tail + chunk[: self._left]
        if _TOKEN.search(seen):
            raise Refused(
                f"{self._path} holds a Hub token, so nothing was sent",
                hint="remove it there, and revoke the token on the Hub",
            )
        self._left -= len(chunk)
        self._tail = seen[-_LONGEST_TOKEN:]
