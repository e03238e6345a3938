"""The one file that talks to ``huggingface_hub``: what is on the Hub, writing to it, fetching from it.

Every call builds its own client, for the endpoint in ``HF_ENDPOINT`` as it is then: the library's globals are
computed when it is imported. Tokens are found by the library (``HF_TOKEN``, or ``hf auth login``) and are
neither kept nor shown. Errors leave here as errors of this package, each one line and without secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, Literal, cast

import httpx2
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import _http
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session, hf_raise_for_status

from registry import _hub_answers, _hub_log, _partial, base_layout, digest
from registry._hub_errors import SIGN_IN, clean, translated
from registry._hub_patience import gate, patiently
from registry._paths import expanded
from registry._safetensors import DTYPES, parse_object
from registry.base_layout import BaseLayout
from registry.errors import (
    Conflict,
    HubUnauthorized,
    HubUnavailable,
    IntegrityFailure,
    NotFound,
    Refused,
    UsageError,
)

MAIN = "main"
SILENCE = 120.0
"""Seconds without a byte, after which a request is given up. The Hub takes up to a minute for a commit."""
SCHEME = "hf://"

_DEFAULT_ENDPOINT = "https://huggingface.co"
_REPO = re.compile(r"(?!.*(?:--|\.\.|\.git$))(?:\w(?:[\w.-]*\w)?/)?\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20
_creating = threading.Lock()
_LARGE = 10 << 20
_LIBRARY = "adapter-registry"
_BAD, _UNKNOWN = 400, 404
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_CONFIG = 1 << 20
_MAX_COMPANION = 128 << 20
_COMPANIONS = re.compile(
    r"(?:\w[\w.-]*/)?(?:\w[\w.-]*\.(?:json|txt|model|jinja|tiktoken|py)|(?i:license|notice)(?:\.txt|\.md)?)"
    r"|\d+_\w+/model\.safetensors"
)
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")

_hub_log.hide()


@dataclass(frozen=True)
class Head:
    """Where a branch stands."""

    commit: str
    private: bool


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub: ``sha256`` (``"sha256:…"``) for a large one, else only git's own id of its content."""

    size: int
    sha256: str | None
    git_oid: str


@dataclass(frozen=True)
class Put:
    """A file to write, whose bytes have this digest."""

    path: str
    source: Path | bytes
    sha256: str


@dataclass(frozen=True)
class Delete:
    """A file to remove."""

    path: str


@dataclass(frozen=True)
class Committed:
    """A commit that was made, and the number of the pull request that it opened."""

    commit: str
    pull_request: int | None


@dataclass(frozen=True)
class PullRequest:
    """A pull request, and the commit that merged it where the Hub tells."""

    state: Literal["open", "closed", "merged"]
    merged: str | None


@dataclass(frozen=True)
class FetchedRepo:
    """A folder with what was fetched, at a commit that has the files ``listed``. It is removed together with this value."""

    folder: Path
    commit: str
    listed: Mapping[str, RemoteFile]


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or _DEFAULT_ENDPOINT


def commit_url(repo: str, commit: str) -> str:
    return f"{endpoint()}/{repo}/commit/{commit}"


def require_token() -> None:
    """Raise ``HubUnauthorized`` where there is no token, before anything is computed or sent."""
    with translated("find a token"):
        found = huggingface_hub.get_token()
    if found is None:
        raise HubUnauthorized("there is no token for the Hub", hint=SIGN_IN)


def parse(address: str) -> tuple[str, str | None]:
    """The repo and the revision, if any, of ``hf://OWNER/REPO[@REVISION]``. Raises ``UsageError``."""
    repo, _, revision = address.removeprefix(SCHEME).partition("@")
    if not is_repo_id(repo):
        raise UsageError(f"{address!r:.200} is not a repo on the Hub", hint="give hf://OWNER/REPO[@REVISION]")
    return repo, revision or None


def branch_or_tag(revision: str | None) -> str | None:
    """What may be looked at again later: a branch or a tag, by default the main branch; None for a commit."""
    found = revision or MAIN
    return None if _COMMIT.fullmatch(found) else found


def is_repo_id(text: str) -> bool:
    """Whether the Hub could have a model of this name; a path is none."""
    return _REPO.fullmatch(text) is not None


def head(repo: str, revision: str) -> Head | None:
    """Where a branch (or tag) stands, None where the repo has no such branch. ``NotFound`` without the repo."""

    def ask() -> Head | None:
        try:
            info = _api().model_info(repo, revision=revision)
        except errors.RevisionNotFoundError:
            return None
        return Head(_hub_answers.commit(info.sha), bool(info.private))

    return patiently(f"read {repo}", ask)


def create(repo: str, *, private: bool) -> None:
    """Make a repo where there is none; what is there is left as it is, and has to be looked at."""

    # An answer that got lost is asked for again, and finds the repo that was made. One at a time: the Hub refuses to
    # make two at once for one user, and the client then asks again without a pause.
    def ask() -> None:
        with _creating:
            _api().create_repo(repo, private=private, exist_ok=True)

    patiently(f"create {repo}", ask)


def create_branch(repo: str, branch: str) -> None:
    """A branch that starts where the main one stands, unless there is one."""
    patiently(
        f"create the branch {branch} of {repo}",
        lambda: _api().create_branch(repo, branch=branch, revision=MAIN, exist_ok=True),
    )


def delete(repo: str) -> None:
    """Remove a repo with everything in it, if it is there."""
    patiently(f"delete {repo}", lambda: _api().delete_repo(repo, missing_ok=True))


def tags(repo: str) -> dict[str, str]:
    """The tags of a repo, and the commits they are on."""
    refs = patiently(f"read the tags of {repo}", lambda: _api().list_repo_refs(repo))
    return {str(each.name): str(each.target_commit) for each in refs.tags}


def tag(repo: str, name: str, commit: str) -> None:
    """Put a tag on a commit. Raises ``Conflict`` where it is on another one, and leaves it there."""

    def ask() -> None:
        _api().create_tag(repo, tag=name, revision=commit, exist_ok=True)

    patiently(f"tag {repo}", ask)
    there = tags(repo).get(name)
    if there != commit:
        raise tag_taken(repo, name, there)


def tag_taken(repo: str, name: str, commit: str | None) -> Conflict:
    """The error for a tag that another commit has."""
    where = f"is on {commit[:12]}" if commit else "did not stay"
    return Conflict(
        f"the tag {name} of {repo} {where}, and was not moved", hint="choose another tag, or remove it there"
    )


def files(repo: str, revision: str) -> dict[str, RemoteFile]:
    """Every file of a repo at a revision."""
    with translated(f"list the files of {repo}"):  # the client is patient itself where there are pages
        tree = list(_api().list_repo_tree(repo, recursive=True, revision=revision))
    return {
        each.path: RemoteFile(
            each.size, None if each.lfs is None else digest.PREFIX + each.lfs.sha256, each.blob_id
        )
        for each in tree
        if isinstance(each, RepoFile)
    }


def resolve(repo: str, revision: str | None) -> str:
    """The commit that a revision is now. Raises ``NotFound``."""
    found = head(repo, revision or MAIN)
    if found is None:
        raise NotFound(f"{repo} has no revision {revision!r}", hint="give a branch, a tag or a commit")
    return found.commit


def read_checked(repo: str, commit: str, path: str, listed: RemoteFile) -> bytes:
    """The content of a small file, which is what the Hub lists. Raises ``IntegrityFailure``."""
    with _temporary() as folder:
        file = folder / "file"
        file.write_bytes(read(repo, commit, path))
        _check(f"{path} of {repo}", file, listed)
        return file.read_bytes()


def read(repo: str, commit: str, path: str) -> bytes:
    """The content of a small file, of ``LONGEST_ANSWER`` bytes at most; nothing is kept, and nothing written."""

    def ask() -> bytes:
        gate.enter()
        address = huggingface_hub.hf_hub_url(repo, path, revision=commit, endpoint=endpoint())
        answer = _session().get(address, headers=build_hf_headers(library_name=_LIBRARY))
        hf_raise_for_status(answer)
        return answer.content

    return patiently(f"read {path} of {repo}", ask)


def _temporary() -> AbstractContextManager[Path]:
    """A folder that is removed in the end: by this process or, where it is killed, by the next that needs one."""
    return _partial.new(Path(tempfile.gettempdir()), "registry", folder=True)


def license_of(repo: str, revision: str | None) -> str | None:
    """The license in a model's card, None where it states none; one that the Hub does not know by its name."""
    with translated(f"read {repo}"):
        data = _api().model_info(repo, revision=revision or MAIN).card_data
    found = None if data is None else data.license
    if found == "other" and data is not None:
        found = data.get("license_name") or found
    return found if isinstance(found, str) and found.strip() else None


def is_model_index(index: object) -> bool:
    """Whether the Hub's client can read these evaluations out of a card."""
    try:
        model_index_to_eval_results(cast("list[dict[str, object]]", index))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    return True


def validate_card(content: str) -> None:
    """Raise ``Refused`` for a model card that the Hub would refuse. A Hub that cannot tell has nothing against it."""

    def ask() -> list[str]:
        gate.enter()
        answer = _session().post(
            f"{endpoint()}/api/validate-yaml",
            json={"content": content, "repoType": "model"},
            headers=build_hf_headers(library_name=_LIBRARY),
        )
        if answer.status_code == _BAD:
            try:
                return [str(each["message"]) for each in answer.json()["errors"]] or ["it is malformed"]
            except (ValueError, LookupError, TypeError):
                return ["it is malformed"]
        if answer.status_code != _UNKNOWN:
            hf_raise_for_status(answer)
        return []

    if found := patiently("check the model card", ask):
        raise Refused(f"the Hub refuses the model card, so nothing was sent: {clean('; '.join(found))}")


class Upload:
    """A commit in the making: its large files are sent one by one, and stay sent when the commit is tried again."""

    def __init__(
        self, repo: str, revision: str, operations: Sequence[Put | Delete], *, propose: bool
    ) -> None:
        self.propose = propose
        self._repo, self._revision = repo, revision
        with translated(f"push to {repo}"):
            self._operations = [_operation(each) for each in operations]

    def send(self, sent: Callable[[int], None]) -> None:
        """Send what is large file by file, and say after each how many bytes that were; the rest together.

        Nobody sees any of it before the commit, and what is there already is not sent again.
        """
        added = [each for each in self._operations if isinstance(each, CommitOperationAdd)]
        large = [each for each in added if each.upload_info.size > _LARGE]
        rest = [each for each in added if each.upload_info.size <= _LARGE]
        for several in (*([each] for each in large), rest):
            if several:
                with translated(f"push to {self._repo}"):
                    _api().preupload_lfs_files(
                        self._repo,
                        several,
                        revision=self._revision,
                        create_pr=self.propose,
                        free_memory=False,
                    )
                sent(sum(each.upload_info.size for each in several))

    def commit(self, *, parent: str, message: str, description: str) -> Committed:
        """All operations in one commit on top of ``parent``, to the branch or as a pull request to it.

        Raises ``Conflict`` where the branch is no longer at ``parent``, and ``HubUnavailable`` also where the
        commit may have been made although its answer got lost: it is not repeated here.
        """
        with translated(f"push to {self._repo}"):
            done = _api().create_commit(
                self._repo,
                self._operations,
                commit_message=message,
                commit_description=description,
                revision=self._revision,
                parent_commit=parent,
                create_pr=self.propose,
            )
        if all(map(_was_there, self._operations)):
            raise Conflict(f"cannot push to {self._repo}: all of it was pushed there meanwhile")
        return Committed(done.oid, done.pr_num)


def _was_there(operation: CommitOperationAdd | CommitOperationDelete) -> bool:
    """Whether the client left a file out, as the branch has it already; where it leaves out all, it makes no commit."""
    # The client keeps to itself that it did, and hands out the branch's head as if it had made that.
    local, remote = (getattr(operation, name, None) for name in ("_local_oid", "_remote_oid"))
    return remote is not None and remote == local


def landed(repo: str, revision: str, marks: Collection[str]) -> dict[str, str]:
    """The commit whose description holds each mark, for those marks that the history has."""
    with translated(f"read the history of {repo}"):
        history = _api().list_repo_commits(repo, revision=revision)
    return {
        mark: _hub_answers.commit(each.commit_id)
        for each in history
        for mark in marks
        if mark in str(each.message)
    }


def pull_requests(repo: str, since: datetime) -> list[int]:
    """The numbers of the pull requests that were opened since a moment, newest first."""
    found = patiently(
        f"list the pull requests of {repo}",
        lambda: list(_api().get_repo_discussions(repo, discussion_type="pull_request")),
    )
    return sorted((each.num for each in found if each.created_at >= since), reverse=True)


def pull_request(repo: str, number: int) -> PullRequest:
    """What became of a pull request."""
    found = patiently(
        f"read pull request {number} of {repo}", lambda: _api().get_discussion_details(repo, number)
    )
    states: dict[str, Literal["closed", "merged"]] = {"closed": "closed", "merged": "merged"}
    merged = found.merge_commit_oid
    return PullRequest(
        states.get(str(found.status), "open"), None if merged is None else _hub_answers.commit(merged)
    )


def close(repo: str, number: int, comment: str) -> None:
    """Close a pull request that is open."""

    def ask() -> None:
        if _api().get_discussion_details(repo, number).status in {"open", "draft"}:
            _api().change_discussion_status(repo, number, new_status="closed", comment=comment)

    patiently(f"close pull request {number} of {repo}", ask)


def fetch_adapter(repo: str, revision: str | None) -> FetchedRepo:
    """The config and the tensors of an adapter, at a commit, each byte checked against what the Hub lists."""
    commit = resolve(repo, revision)
    listed = files(repo, commit)
    for name in (_CONFIG, _TENSORS):
        if name not in listed:
            pickle = "adapter_model.bin" in listed and name == _TENSORS
            raise Refused(
                f"{repo} has no {name}"
                + (", only a pickle, which can run code when it is opened" if pickle else ""),
                hint="if you trust it, load it with PEFT, save it again and add that folder"
                if pickle
                else None,
            )
    if listed[_CONFIG].size > _MAX_CONFIG:
        raise Refused(f"{_CONFIG} of {repo} has {listed[_CONFIG].size} bytes, more than {_MAX_CONFIG}")
    stack = ExitStack()
    folder = stack.enter_context(_temporary())
    fetched = FetchedRepo(folder, commit, listed)
    weakref.finalize(fetched, stack.close)
    for name in (_CONFIG, _TENSORS):
        with translated(f"download {name} of {repo}"), _hub_answers.downloads.of(listed[name].size):
            _api().hf_hub_download(repo, name, revision=commit, local_dir=folder)
        _check(f"{name} of {repo}", folder / name, listed[name])
    return fetched


def fetch_file(repo: str, commit: str, path: str, folder: Path) -> Path:
    """Download one file into a folder; what it holds is the caller's to check. Raises ``NotFound``."""
    listed = files(repo, commit).get(path)
    if listed is None:
        raise NotFound(f"{repo} has no {path} at {commit[:12]}")
    with translated(f"download {path} of {repo}"), _hub_answers.downloads.of(listed.size):
        return Path(_api().hf_hub_download(repo, path, revision=commit, local_dir=folder))


def fetch_model(repo: str, revision: str | None, into: Path | None = None) -> tuple[Path, str]:
    """A base model's folder and commit: its safetensors, config, tokenizer and what is needed to use them.

    Without ``into`` the files are in the Hub client's cache: what is there is used, without asking the Hub
    where ``revision`` is a commit that was fetched before, or where the Hub is out of reach.
    """
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    cached = None if into is not None else _in_cache(repo, revision or MAIN)
    if pinned and cached is not None and cached.complete:
        return cached.folder, cached.commit
    try:
        commit = resolve(repo, revision)
        listed = files(repo, commit)
    except HubUnavailable:
        if cached is None:
            raise
        return cached.folder, cached.commit
    wanted = _model_files(
        repo, {path: file.size for path, file in listed.items()}, lambda: read(repo, commit, _INDEX)
    )
    new = [path for path in wanted if into is not None or _cached_path(repo, path, commit) is None]
    longest = max(listed[path].size for path in wanted)
    with translated(f"download {repo}"), _hub_answers.downloads.of(longest):
        # Patterns, so that the client keeps the listing too: it tells later whether the cache is complete.
        found = _api().snapshot_download(
            repo,
            revision=commit,
            allow_patterns=[escape(path) for path in wanted],
            cache_dir=_cache(),
            local_dir=into,
        )
    folder = Path(found)
    for path in new:
        _check(f"{path} of {repo}", folder / path, listed[path])
    if into is not None:
        shutil.rmtree(into / ".cache", ignore_errors=True)
    return folder, commit


@dataclass(frozen=True)
class DescribedModel:
    """A model as its repo tells without its weights: the commit, the fingerprint, and what the files hold."""

    commit: str
    fingerprint: str
    layout: BaseLayout


def describe_model(repo: str, revision: str | None) -> DescribedModel:
    """What a model's weights are, from the Hub's digests of them and from their headers alone."""
    commit = resolve(repo, revision)
    listed = files(repo, commit)
    if "config.json" not in listed or listed["config.json"].size > _MAX_CONFIG:
        raise Refused(f"{repo} has no config.json of a sensible size", hint="give a transformers model")
    sizes = {path: file.size for path, file in listed.items()}
    wanted = _model_files(repo, sizes, lambda: read(repo, commit, _INDEX))
    shards = [path for path in wanted if path.endswith(".safetensors")]
    hashes = [listed[shard].sha256 for shard in shards]
    if None in hashes:
        raise Refused(
            f"{repo} keeps weights outside the large file storage", hint="download it, and use --base-path"
        )
    config = _config(repo, commit)
    try:
        tensors = [tensor for shard in shards for tensor in _tensors(repo, commit, shard)]
        found = base_layout.layout(tensors, config)
    except (ValueError, TypeError, RecursionError):
        raise Refused(f"config.json of {repo} is malformed") from None
    return DescribedModel(commit, digest.of_json(sorted(map(str, hashes))), found)


def model_config(repo: str, revision: str | None) -> dict[str, Any]:
    """A model's ``config.json``, and nothing else of it."""
    return _config(repo, resolve(repo, revision))


def _config(repo: str, commit: str) -> dict[str, Any]:
    """Infinity passes, as it does in a folder."""
    raw = read(repo, commit, "config.json")
    return parse_object(raw, name=f"config.json of {repo}", hint="give a transformers model", constants=True)


def _tensors(repo: str, commit: str, shard: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    with translated(f"read the header of {shard} of {repo}"):
        try:
            header = _api().parse_safetensors_file_metadata(repo, shard, revision=commit)
        except errors.SafetensorsParsingError:
            raise Refused(f"{shard} of {repo} has no safetensors header that can be read") from None
    for name, tensor in header.tensors.items():
        dtype, _ = DTYPES.get(tensor.dtype, (tensor.dtype.lower(), 0))
        yield name, dtype, tuple(tensor.shape)


@dataclass(frozen=True)
class _Cached:
    folder: Path
    commit: str
    complete: bool  # known to have all that would be fetched, not just the weights


def _in_cache(repo: str, revision: str) -> _Cached | None:
    """A model in the client's cache that has its config and all its weights."""
    plain = is_repo_id(repo) and ".." not in revision  # the cache makes paths of both
    config = _cached_path(repo, "config.json", revision) if plain else None
    if config is None:
        return None
    folder, commit = config.parent, config.parent.name
    try:
        tree = huggingface_hub.get_cached_repo_tree(repo, revision=commit, cache_dir=_cache())
        sizes = {file.path: file.size for file in tree}
    except errors.CachedRepoTreeNotFoundError:
        tree, sizes = [], {path.name: 0 for path in folder.iterdir()}
    try:
        wanted = _model_files(repo, sizes, (folder / _INDEX).read_bytes)
    except (Refused, OSError):
        return None
    there = {path for path in wanted if (folder / path).is_file()}
    if any(path not in there for path in wanted if path.endswith(".safetensors")):
        return None
    return _Cached(folder, commit, complete=bool(tree) and len(there) == len(wanted))


def _model_files(repo: str, sizes: Mapping[str, int], index: Callable[[], bytes]) -> list[str]:
    """Which files make up a model that ``transformers`` loads, with nothing that training or exporting left."""
    companions = [
        path for path, size in sizes.items() if _COMPANIONS.fullmatch(path) and size <= _MAX_COMPANION
    ]
    if _SINGLE in sizes:
        return sorted({_SINGLE, *companions} - {_INDEX})
    if _INDEX not in sizes:
        raise Refused(
            f"{repo} has neither {_SINGLE} nor {_INDEX}", hint="only safetensors are read; convert it first"
        )
    try:
        shards = set(json.loads(index())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused(f"{_INDEX} of {repo} is malformed") from None
    for shard in shards:
        if not isinstance(shard, str) or _SHARD.fullmatch(shard) is None or shard not in sizes:
            raise Refused(f"{_INDEX} of {repo} names {shard!r:.100}, which is none of its files")
    return sorted({_INDEX, *shards, *companions})


def _check(name: str, path: Path, listed: RemoteFile) -> None:
    """The client checks sizes only. A file that is not what was listed is taken out of its cache."""
    if not path.is_file():
        raise IntegrityFailure(f"{name} did not arrive", hint="try again")
    state = hashlib.sha256() if listed.sha256 else hashlib.sha1(usedforsecurity=False)
    if listed.sha256 is None:
        state.update(b"blob %d\0" % listed.size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    expected = listed.sha256.removeprefix(digest.PREFIX) if listed.sha256 else listed.git_oid
    if state.hexdigest() != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise IntegrityFailure(f"{name} arrived damaged: its hash is not {expected}", hint="try again")


def _cached_path(repo: str, path: str, revision: str) -> Path | None:
    found = huggingface_hub.try_to_load_from_cache(repo, path, cache_dir=_cache(), revision=revision)
    return Path(found) if isinstance(found, str) else None


def _cache() -> Path:
    """The client's cache as the environment has it now."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return expanded(chosen)
    home = os.environ.get("HF_HOME")
    return expanded(home) / "hub" if home else Path(constants.HF_HUB_CACHE)


def _operation(operation: Put | Delete) -> CommitOperationAdd | CommitOperationDelete:
    if isinstance(operation, Delete):
        return CommitOperationDelete(operation.path)
    added = CommitOperationAdd(operation.path, operation.source)
    digest.check(
        operation.path,
        expected=operation.sha256,
        found=digest.PREFIX + added.upload_info.sha256.hex(),
        hint="it changed meanwhile: publish it again",
    )
    return added


def _session() -> httpx2.Client:
    """The client's own, which by itself would wait for ever where a Hub stops answering."""
    # The client makes itself another one in the middle of a call, where it could not connect. To set what makes it as
    # others do would close the one that they may be using.
    given = _http._GLOBAL_CLIENT_FACTORY  # noqa: SLF001
    if not (isinstance(given, partial) and given.func is _made_guarded):
        _http._GLOBAL_CLIENT_FACTORY = partial(_made_guarded, given)  # noqa: SLF001
    session = _guarded(get_session())
    _hub_answers.begin()
    return session


def _made_guarded(factory: Callable[[], httpx2.Client]) -> httpx2.Client:
    return _guarded(factory())


def _guarded(session: httpx2.Client) -> httpx2.Client:
    if _bounded not in session.event_hooks["request"]:
        session.event_hooks["request"].append(_bounded)
        session.event_hooks["response"].append(_hub_answers.check)
    return session


def _bounded(request: httpx2.Request) -> None:
    """Give a request the limits that it has not: many calls of the client ask for none, or cannot be told any."""
    _hub_answers.ask(request, endpoint())
    told = request.extensions.get("timeout") or {}
    limits = {kind: told.get(kind) for kind in ("connect", "read", "write", "pool")}
    request.extensions["timeout"] = {
        kind: SILENCE if seconds is None else seconds for kind, seconds in limits.items()
    }


def _api() -> HfApi:
    gate.enter()
    _session()
    return HfApi(endpoint=endpoint(), library_name=_LIBRARY)
