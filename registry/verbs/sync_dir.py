"""Keep a folder that inference servers load adapters from in step with an alias.

``DIR/NAME`` is a symbolic link to a folder in ``DIR/.registry-sync``, which is written beside and made whole before the
link is turned to it in one step. So whatever is in ``.registry-sync``, and every link into it, is a sync's own; nothing
else is ever changed or removed. What was replaced, or a crash left there, the next sync removes.

vLLM's filesystem resolver takes ``DIR/NAME`` for the model ``NAME`` where its ``adapter_config.json`` says ``LORA`` and
the very base model that is served. Neither it nor LoRAX reads patterns: one rank and one scale are applied to all modules.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import peft_format, reference
from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import serving
from registry.catalog.database import Database
from registry.catalog.serving import Candidate, ServedBase
from registry.errors import Conflict, IntegrityFailure, NotFound, NotHeld, Refused, StorageFailure, UsageError
from registry.peft_format import CONFIG, TENSORS, StoredAdapter
from registry.results import BaseModelIdentity, SyncedAdapter, SyncedFolder
from registry.verbs import _content
from registry.verbs._folders import new_folder
from registry.verbs.checkout import peft_folder

Progress = Callable[[str, int, int], None]
OWN = ".registry-sync"
_ALIAS = "alias"  # the file that says what the last sync followed: a slip of the pen must not empty a folder
_FORMAT = 1  # of the folders that are written: another one has them written anew
_PATIENCE_S = 60
_SERVED_FORMS = {"linear", "embedding"}


@dataclass(frozen=True)
class _Wanted:
    """A version that may be served, as far as the catalog says, and where."""

    candidate: Candidate
    folder: str
    base_model: BaseModelIdentity

    @property
    def target(self) -> str:
        """Its own folder's name, which tells its content and the base model that it names."""
        base = [self.base_model.repo, self.base_model.revision]
        said = json.dumps([_FORMAT, self.candidate.digest, *base]).encode()
        return f"{self.folder}@{hashlib.sha256(said).hexdigest()[:16]}"


def sync_dir(
    database: Database,
    blobs: BlobStore,
    directory: str | Path,
    alias: str,
    *,
    base: str | None,
    max_rank: int | None,
    dry_run: bool,
    progress: Progress | None,
) -> SyncedFolder:
    reference.check_alias(alias)
    if max_rank is not None and max_rank < 1:
        raise UsageError(f"a rank of {max_rank} is none", hint="--max-rank takes a number from 1")
    root = expanded(directory).absolute()
    with _locked(root, dry_run=dry_run):
        with database.read() as session:
            served = None if base is None else serving.served_base(session, base)
            found = serving.candidates(session, alias)
        last = _last_alias(root)
        if not found and _own_links(root) and last not in {None, alias.lower()}:
            raise NotFound(
                f"no adapter has the alias {alias!r}, and all of {directory} would be removed",
                hint=f"it was in step with {last!r} so far; see: registry alias list",
            )
        synced = _Sync(database, blobs, root, dry_run=dry_run).run(found, served, max_rank, progress)
        if not dry_run and last != alias.lower():
            with _storage(root / OWN):
                (root / OWN / _ALIAS).write_text(alias.lower(), encoding="utf-8")
    changed = any(each.outcome in {"added", "updated", "removed"} for each in synced)
    return SyncedFolder(
        path=str(directory), alias=alias, applied=not dry_run, changed=changed, adapters=tuple(synced)
    )


class _Sync:
    def __init__(self, database: Database, blobs: BlobStore, root: Path, *, dry_run: bool) -> None:
        self._database = database
        self._blobs = blobs
        self._root = root
        self._dry_run = dry_run
        self._links = _own_links(root)

    def run(
        self,
        found: Sequence[Candidate],
        served: ServedBase | None,
        max_rank: int | None,
        progress: Progress | None,
    ) -> list[SyncedAdapter]:
        if not self._dry_run:
            self._sweep()
        results: list[SyncedAdapter] = []
        kept: set[str] = set()
        taken: dict[str, str] = {}
        # A name without a group is its own folder's; only one with a group can find it taken.
        for done, candidate in enumerate(
            sorted(found, key=lambda each: ("/" in each.name, each.name.lower())), 1
        ):
            folder = folder_of(candidate.name)
            reason = next(_against(candidate, served, max_rank), None)
            if reason is None and (other := taken.get(folder.lower())) is not None:
                reason = f"{other} has the folder {folder} already"
            result = (
                _told(candidate, folder, "left out", reason)
                if reason is not None
                else self._one(_Wanted(candidate, folder, _named(candidate, served)))
            )
            if result.outcome != "left out":
                taken[folder.lower()] = candidate.name
                kept.add(folder)
            results.append(result)
            if progress is not None:
                progress("syncing", done, len(found))
        results.extend(self._removed(kept))
        return sorted(results, key=lambda each: (each.folder.lower(), each.folder, each.outcome))

    def _one(self, wanted: _Wanted) -> SyncedAdapter:
        candidate, folder = wanted.candidate, wanted.folder
        there = self._links.get(folder)
        if there == wanted.target and _is_whole(self._root / OWN / wanted.target):
            return _told(candidate, folder, "unchanged")
        if there is None and os.path.lexists(self._root / folder):
            what = f"{self._root / folder} is in the way, and no sync put it there"
            return _told(candidate, folder, "failed", what, Conflict.code)
        try:
            with self._opened(candidate) as (stored, paths):
                if (reason := next(_within(stored), None)) is not None:
                    return _told(candidate, folder, "left out", reason)
                if not self._dry_run:
                    self._write(wanted, stored, paths)
        except (IntegrityFailure, NotHeld) as error:
            return _told(candidate, folder, "failed", error.message, error.code)
        return _told(candidate, folder, "added" if there is None else "updated")

    @contextmanager
    def _opened(self, candidate: Candidate) -> Iterator[tuple[StoredAdapter, dict[str, Path]]]:
        with self._database.read() as session:
            files = _content.files_of(session, candidate.digest, candidate.ref)
        paths = _content.verified_paths(files, self._blobs, candidate.ref)
        yield peft_format.open_files(paths[CONFIG], paths[TENSORS]), paths

    def _write(self, wanted: _Wanted, stored: StoredAdapter, paths: dict[str, Path]) -> None:
        """Write the folder beside, whole, and then turn the link to it."""
        target = self._root / OWN / wanted.target
        if os.path.lexists(target):  # damaged, or left by a sync that ended before it turned the link
            aside = Path(tempfile.mkdtemp(dir=self._root / OWN, prefix=".old."))
            target.rename(aside / "old")
        with new_folder(target) as staging:
            if _has_patterns(stored):
                peft_format.write_uniform(stored, staging, wanted.base_model)
            else:
                peft_folder(paths, staging, wanted.base_model)
        link = self._root / OWN / f".{wanted.folder}.link"
        with _storage(self._root / wanted.folder):
            link.unlink(missing_ok=True)
            link.symlink_to(f"{OWN}/{wanted.target}")
            link.rename(self._root / wanted.folder)
            _fsync(self._root)
        self._links[wanted.folder] = wanted.target

    def _removed(self, kept: set[str]) -> Iterator[SyncedAdapter]:
        for folder in sorted(set(self._links) - kept):
            if not self._dry_run:
                with _storage(self._root / folder):
                    (self._root / folder).unlink()
                    _fsync(self._root)
                del self._links[folder]
            yield SyncedAdapter(folder=folder, name=None, ref=None, outcome="removed")

    def _sweep(self) -> None:
        """Remove folders that no link leads to any more.

        It comes first, so that what this sync replaces stays until the next one: a server that has just followed a
        link finds both of its files.
        """
        linked = set(self._links.values())
        for path in (self._root / OWN).iterdir():
            if path.is_dir() and path.name not in linked:
                shutil.rmtree(path, ignore_errors=True)


def folder_of(name: str) -> str:
    """The folder of an adapter, which is what a server calls it: ``team/a`` is in ``team--a``."""
    return name.replace("/", "--")


def _named(candidate: Candidate, served: ServedBase | None) -> BaseModelIdentity:
    """The base model as the config has to say it: servers compare its name with what they serve, letter by letter."""
    own = candidate.base_model
    if served is None or own.repo == served.identity.repo:
        return own
    return served.identity


def _against(candidate: Candidate, served: ServedBase | None, max_rank: int | None) -> Iterator[str]:
    """What the catalog alone says against serving it."""
    if candidate.revoked is not None:
        yield f"it was revoked: {candidate.revoked}"
    if candidate.affected:
        yield f"it derives from {', '.join(candidate.affected)}, which was revoked"
    if candidate.kind != "lora":
        yield f"it is {candidate.kind}, and only lora is served"
    yield from candidate.not_composable
    if served is not None and not served.is_of(candidate.base_model):
        yield f"its base model is {candidate.base_model}, not {served.identity}"
    if max_rank is not None and (candidate.rank or 0) > max_rank:
        yield f"its rank {candidate.rank} is above {max_rank}: truncate it with registry compose --rank {max_rank}"


def _within(stored: StoredAdapter) -> Iterator[str]:
    """What the adapter's own files say against serving it."""
    config, modules = stored.config, stored.layout.modules
    if config.get("use_dora"):
        yield "it uses DoRA"
    if str(config.get("bias") or "none") != "none" or config.get("lora_bias"):
        yield "it has biases"
    if config.get("modules_to_save"):
        yield "it has modules stored whole (modules_to_save)"
    if config.get("trainable_token_indices"):
        yield "it has trained tokens"
    if stored.layout.initialization is not None:
        yield stored.layout.initialization
    if other := sorted({module.form for module in modules.values()} - _SERVED_FORMS):
        yield f"it has modules that are {' and '.join(other)}, not linear"
    if len({module.scale for module in modules.values()}) > 1:
        yield "the scales of its modules differ (alpha_pattern, rank_pattern): composed as 1*NAME they are one"


def _has_patterns(stored: StoredAdapter) -> bool:
    return bool(stored.config.get("rank_pattern") or stored.config.get("alpha_pattern"))


def _told(
    candidate: Candidate, folder: str, outcome: Any, reason: str | None = None, code: str | None = None
) -> SyncedAdapter:
    return SyncedAdapter(
        folder=folder, name=candidate.name, ref=candidate.ref, outcome=outcome, reason=reason, code=code
    )


def _last_alias(root: Path) -> str | None:
    """What the last sync followed, as far as it is known."""
    try:
        return (root / OWN / _ALIAS).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _own_links(root: Path) -> dict[str, str]:
    """The links into a sync's own folder, and the names there."""
    links: dict[str, str] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in root.iterdir():
            if path.is_symlink():
                folder, _, name = str(path.readlink()).partition("/")
                if folder == OWN and name and "/" not in name:
                    links[path.name] = name
    return links


def _is_whole(folder: Path) -> bool:
    """Whether both files are there, as long as they were: folders appear whole, but a disk may be tampered with."""
    return all((folder / name).is_file() and (folder / name).stat().st_size > 0 for name in (CONFIG, TENSORS))


@contextmanager
def _locked(root: Path, *, dry_run: bool) -> Iterator[None]:
    """One sync of a folder at a time; looking needs no turn, and makes nothing."""
    if dry_run:
        yield
        return
    from filelock import FileLock, Timeout

    with _storage(root):
        (root / OWN).mkdir(parents=True, exist_ok=True)
        if (root / OWN).is_symlink():
            raise Refused(f"{root / OWN} is a link", hint="remove it: a sync keeps its own folder there")
    lock = FileLock(root / OWN / "lock", timeout=_PATIENCE_S)
    with _storage(root):
        try:
            lock.acquire()
        except Timeout:
            raise Conflict(f"another sync of {root} is at work", hint="try again when it is done") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "free some disk space" if full else "check the folder and its permissions"
        raise StorageFailure(f"cannot write {path}: {error.strerror}", hint=hint) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
