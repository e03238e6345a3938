"""Repositories as values, and the folder that remembers them.

A `Repo` never changes: an edit makes a new one. Readers therefore see a whole state, and of two commits that race
for the same parent the second one finds the first already there.
"""

import hashlib
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from registry.testing.hub._access import HubError, repository_not_found, revision_not_found

_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_]([\w.-]{0,94}[A-Za-z0-9_])?(?<!\.git)", re.ASCII)
_OID = re.compile(r"[0-9a-f]{5,40}")
_FULL_REF = re.compile(r"refs/(heads|tags|pr)/(.+)")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Entry(_Value):
    """A file in a commit. `sha256` is set if the file is large and git keeps a pointer to it."""

    oid: str
    size: int
    sha256: str | None = None


class Commit(_Value):
    """A commit with its whole tree, path to entry."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    tree: dict[str, Entry]

    @classmethod
    def make(
        cls, parent: "Commit | None", tree: dict[str, Entry], title: str, message: str, author: str
    ) -> Self:
        unique = secrets.token_bytes(16)  # equal commits of two repositories are still two commits
        oid = hashlib.sha1(unique, usedforsecurity=False).hexdigest()
        above = None if parent is None else parent.oid
        return cls(oid=oid, parent=above, title=title, message=message, author=author, date=now(), tree=tree)


class Discussion(_Value):
    """A discussion, or a pull request if it has a `head`."""

    number: int
    title: str
    author: str
    status: str
    created_at: str
    base: str = "main"
    head: str | None = None
    merged: str | None = None
    events: tuple[dict[str, Any], ...] = ()

    def with_event(self, kind: str, author: str, data: dict[str, Any]) -> Self:
        event = {
            "id": secrets.token_hex(12),
            "type": kind,
            "createdAt": now(),
            "author": {"name": author},
            "data": data,
        }
        return self.model_copy(update={"events": (*self.events, event)})

    def with_comment(self, author: str, text: str) -> Self:
        latest = {"raw": text, "html": text, "updatedAt": now(), "author": {"name": author}}
        return self.with_event(
            "comment", author, {"edited": False, "hidden": False, "latest": latest, "history": [latest]}
        )


class Repo(_Value):
    """A model repository at one moment."""

    id: str
    private: bool
    created_at: str
    branches: dict[str, str]
    tags: dict[str, str] = {}
    discussions: tuple[Discussion, ...] = ()
    commits: dict[str, Commit] = {}

    @classmethod
    def make(cls, repo_id: str, first: Commit, *, private: bool) -> Self:
        return cls(
            id=repo_id,
            private=private,
            created_at=now(),
            branches={"main": first.oid},
            commits={first.oid: first},
        )

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, tag, full reference or (shortened) commit id names."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and (match := _FULL_REF.fullmatch(revision)):
            kind, name = match.groups()
            oid = {"heads": self.branches, "tags": self.tags, "pr": self.pulls()}[kind].get(name)
        if oid is None and _OID.fullmatch(revision):
            found = [full for full in self.commits if full.startswith(revision)]
            oid = found[0] if len(found) == 1 else None
        return None if oid is None else self.commits[oid]

    def commit(self, revision: str) -> Commit:
        if (commit := self.find(revision)) is None:
            raise revision_not_found(revision)
        return commit

    def history(self, revision: str) -> list[Commit]:
        """The commit a revision names and all before it, newest first."""
        commits, commit = [], self.find(revision)
        while commit is not None:
            commits.append(commit)
            commit = None if commit.parent is None else self.commits[commit.parent]
        return commits

    def pulls(self) -> dict[str, str]:
        return {str(each.number): each.head for each in self.discussions if each.head is not None}

    def discussion(self, number: str) -> Discussion:
        for each in self.discussions:
            if str(each.number) == number:
                return each
        raise HubError(404, f"No discussion {number}", code="EntryNotFound")

    def committed(self, revision: str, commit: Commit) -> Self:
        """The repository with a new commit at the head of a branch or pull request."""
        repo = self.model_copy(update={"commits": {**self.commits, commit.oid: commit}})
        branch = revision.removeprefix("refs/heads/")
        if branch in self.branches:
            return repo.model_copy(update={"branches": {**self.branches, branch: commit.oid}})
        number = revision.removeprefix("refs/pr/")
        if number == revision or number not in self.pulls():
            raise revision_not_found(revision)
        pull = self.discussion(number).with_event(
            "commit", commit.author, {"subject": commit.title, "oid": commit.oid}
        )
        return repo.discussed(pull.model_copy(update={"head": commit.oid}))

    def discussed(self, discussion: Discussion) -> Self:
        """The repository with a discussion added, or replaced by a newer state of it."""
        rest = [each for each in self.discussions if each.number != discussion.number]
        return self.model_copy(
            update={"discussions": tuple(sorted([*rest, discussion], key=lambda each: each.number))}
        )


class Edit:
    """A repository under change: assign `repo` to change it."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo


class Store:
    """All repositories, in memory and as JSON under a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._repos: dict[str, Repo] = {}
        for path in sorted(root.glob("*/*/repo.json")):
            commits = (
                Commit.model_validate_json(file.read_bytes()) for file in path.parent.glob("commits/*.json")
            )
            repo = Repo.model_validate_json(path.read_bytes())
            repo = repo.model_copy(update={"commits": {commit.oid: commit for commit in commits}})
            self._repos[repo.id] = repo

    def all(self) -> list[Repo]:
        return list(self._repos.values())

    def get(self, repo_id: str) -> Repo | None:
        return self._repos.get(repo_id)

    def add(self, repo: Repo) -> bool:
        """Add a repository; False if its name is taken."""
        # The name becomes a folder, so nothing but a plain name may pass.
        namespace, _, name = repo.id.partition("/")
        if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
            raise HubError(400, f"Invalid repository name: {repo.id}")
        with self._lock:
            if repo.id in self._repos:
                return False
            self._write(repo, known=())
            return True

    def remove(self, repo_id: str) -> None:
        with self._lock:
            if self._repos.pop(repo_id, None) is None:
                raise repository_not_found()
            shutil.rmtree(self._root / repo_id)

    def move(self, repo_id: str, to: str) -> bool:
        """Give a repository another name; False if that is taken."""
        with self._lock:
            if (repo := self._repos.get(repo_id)) is None:
                raise repository_not_found()
            if not self.add(repo.model_copy(update={"id": to})):
                return False
            self.remove(repo_id)
            return True

    @contextmanager
    def edit(self, repo_id: str) -> Iterator[Edit]:
        """Change a repository, one change at a time; an error leaves it as it was."""
        with self._lock:
            if (before := self._repos.get(repo_id)) is None:
                raise repository_not_found()
            edit = Edit(before)
            yield edit
            if edit.repo is not before:
                self._write(edit.repo, known=before.commits)

    def _write(self, repo: Repo, known: dict[str, Commit] | tuple[()]) -> None:
        folder = self._root / repo.id
        (folder / "commits").mkdir(parents=True, exist_ok=True)
        for oid, commit in repo.commits.items():
            if oid not in known:
                _replace(folder / "commits" / f"{oid}.json", commit.model_dump_json())
        # The references come last: whatever they name is already there.
        _replace(folder / "repo.json", repo.model_dump_json(exclude={"commits"}))
        self._repos[repo.id] = repo


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
