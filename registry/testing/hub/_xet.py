"""Content that arrived through xet: read the shards the client wrote, and put files back together.

The `hf_xet` wheel accepts `local://FOLDER` as the address of its content store and then writes chunks and shards
into that folder itself. A commit names a file only by its sha256; the shards say which xet file that is.
"""

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ENTRY = 48
_END = b"\xff" * 32
_HAS_VERIFICATION = 1 << 31
_HAS_METADATA = 1 << 30


class XetFile(NamedTuple):
    """A file as xet knows it."""

    hash: str
    size: int


class XetStore:
    """A folder that the client uses as its content store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[Path, int] = {}
        self._files: dict[str, XetFile] = {}
        self._made = threading.Lock()
        self._ready = False

    @property
    def url(self) -> str:
        return f"local://{self._root}"

    def make(self) -> None:
        """Make the store before any client does: one that is killed halfway leaves a database that nobody can open."""
        with self._made:
            if self._ready:
                return
            try:
                self._open()
            except (OSError, RuntimeError):
                # It is only an index, of a server that was killed itself.
                (self._root / "xet" / "xorbs" / "global_dedup_lookup.redb").unlink(missing_ok=True)
                self._open()
            self._ready = True

    def _open(self) -> None:
        try:
            import hf_xet
        except ImportError:  # clients elsewhere may have it
            return
        with hf_xet.XetSession().new_file_download_group(endpoint=self.url):
            pass

    def find(self, sha256: str) -> XetFile | None:
        """The xet file with this content, if the store has it."""
        if sha256 not in self._files:
            self._read_new_shards()
        return self._files.get(sha256)

    def write(self, file: XetFile, target: Path) -> None:
        """Write the content of a file to `target`."""
        import hf_xet

        with hf_xet.XetSession().new_file_download_group(endpoint=self.url) as group:
            group.start_download_file(hf_xet.XetFileInfo(file.hash, file.size), str(target))

    def _read_new_shards(self) -> None:
        for path in sorted((self._root / "xet" / "xorbs" / "shards").glob("*.mdb")):
            shard = path.read_bytes() if self._read.get(path) != path.stat().st_size else b""
            if shard:
                self._files.update(_files_in(shard))
                # A shard that another client is still writing grows, and is then read again.
                self._read[path] = len(shard)


def _files_in(shard: bytes) -> Iterator[tuple[str, XetFile]]:
    """The files a shard describes, by sha256.

    After a header come blocks of 48-byte entries: one for the file (hash, flags, number of segments), one for each
    segment, as many again if the segments carry verification hashes, and one with the sha256 if there is metadata.
    """
    offset = _ENTRY
    while offset + _ENTRY <= len(shard) and shard[offset : offset + 32] != _END:
        flags, count = struct.unpack_from("<II", shard, offset + 32)
        metadata = offset + _ENTRY * (1 + count * (2 if flags & _HAS_VERIFICATION else 1))
        following = metadata + (_ENTRY if flags & _HAS_METADATA else 0)
        if following > len(shard):
            return
        if flags & _HAS_METADATA:
            segments = range(offset + _ENTRY, offset + _ENTRY * (1 + count), _ENTRY)
            size = sum(struct.unpack_from("<I", shard, segment + 36)[0] for segment in segments)
            yield _hash_at(shard, metadata), XetFile(_hash_at(shard, offset), size)
        offset = following


def _hash_at(shard: bytes, offset: int) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", shard, offset))
