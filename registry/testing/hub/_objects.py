"""Content on disk: small files by their git object id, large ones by their sha256."""

import hashlib
import re
import secrets
from pathlib import Path

from registry.testing.hub._access import HubError
from registry.testing.hub._xet import XetStore

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


class Spool:
    """A request body on its way to disk, hashed as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("wb")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Forget the body, unless it was kept under its final name."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Objects:
    """The content of all repositories, shared between them as on the Hub."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._large = root / "lfs"
        self._incoming = root / "incoming"
        for folder in (self._blobs, self._large, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        self.xet = XetStore(root / "xet")

    def add_blob(self, data: bytes) -> str:
        """Keep a small file and return its git object id."""
        oid = blob_oid(data)
        if not self.blob(oid).exists():
            spool = self.spool()
            spool.write(data)
            spool.close()
            spool.path.replace(self.blob(oid))
        return oid

    def blob(self, oid: str) -> Path:
        return self._blobs / oid

    def size(self, sha256: str) -> int | None:
        """The size of a large file, None if its content never arrived."""
        path = self._large_path(sha256)
        if path.exists():
            return path.stat().st_size
        file = self.xet.find(sha256)
        return None if file is None else file.size

    def large(self, sha256: str) -> Path:
        """A large file, put together from its chunks if it came through xet."""
        path = self._large_path(sha256)
        if not path.exists():
            file = self.xet.find(sha256)
            if file is None:
                raise HubError(404, f"No content with sha256 {sha256}")
            # Two readers may do this at once: each writes its own copy, the last rename wins.
            spool = self.spool()
            spool.close()
            self.xet.write(file, spool.path)
            spool.path.replace(path)
        return path

    def spool(self) -> Spool:
        return Spool(self._incoming / secrets.token_hex(16))

    def keep(self, spool: Spool, sha256: str) -> None:
        """Accept an upload under the name it claims, if that is what it contains."""
        path = self._large_path(sha256)
        if spool.sha256 != sha256:
            raise HubError(400, f"The content has sha256 {spool.sha256}, not {sha256}")
        spool.path.replace(path)

    def keep_part(self, spool: Spool, sha256: str, number: int) -> str:
        """Accept one part of an upload and return its entity tag."""
        spool.path.replace(self._part(sha256, number))
        return f'"{spool.sha256[:32]}"'

    def join_parts(self, sha256: str, tags: list[str]) -> None:
        """Accept an upload that arrived in parts, given the entity tag of each."""
        whole = self.spool()
        try:
            for number, tag in enumerate(tags, start=1):
                if _append(whole, self._part(sha256, number)) != tag:
                    raise HubError(400, f"Part {number} of {sha256} is missing or was replaced")
            whole.close()
            self.keep(whole, sha256)
        finally:
            whole.discard()
        for number in range(1, len(tags) + 1):
            self._part(sha256, number).unlink()

    def _large_path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise HubError(422, f"Not a sha256: {sha256}")
        return self._large / sha256

    def _part(self, sha256: str, number: int) -> Path:
        return self._incoming / f"{self._large_path(sha256).name}.{number:05d}"


def blob_oid(data: bytes) -> str:
    """The git object id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The file that git keeps in place of a large one."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _append(whole: Spool, part: Path) -> str | None:
    if not part.exists():
        return None
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.write(piece)
            digest.update(piece)
    return f'"{digest.hexdigest()[:32]}"'
