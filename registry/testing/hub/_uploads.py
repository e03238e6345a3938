"""Writing a repository: which files are large, where their content goes, and the commit that names them."""

import base64
import time
from fnmatch import fnmatch
from typing import Any

from starlette.responses import JSONResponse, Response

from registry.testing.hub import _cards, _changes
from registry.testing.hub._access import HubError
from registry.testing.hub._routing import MODEL, Call, Routes, Site
from registry.testing.hub._store import Commit, Discussion, Entry, Repo, now

routes = Routes()

_LFS = "/{namespace}/{name}.git/info/lfs"
_LARGE = 10 << 20
_TOKEN_LIFETIME = 3600


@routes.on("POST", MODEL + "/preupload/{revision}")
def preupload(call: Call) -> Response:
    """Say of each file whether it is large, is ignored, and what the repository has in its place."""
    commit = call.contribution().commit(call["revision"])
    attributes = _patterns(_text(call.site, commit, ".gitattributes"), only="filter=lfs")
    wanted = call.json()
    ignored = _patterns(wanted.get("gitIgnore") or _text(call.site, commit, ".gitignore"))
    answers = []
    for file in wanted.get("files", ()):
        sample = base64.b64decode(file["sample"])
        large = _listed(file["path"], attributes) or file["size"] > _LARGE or b"\0" in sample
        answer = {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": _listed(file["path"], ignored),
        }
        if entry := commit.tree.get(file["path"]):
            answer["oid"] = entry.sha256 or entry.oid
        answers.append(answer)
    return JSONResponse({"files": answers})


@routes.on("GET", MODEL + "/xet-write-token/{revision}")
def xet_write_token(call: Call) -> Response:
    call.contribution()
    return _xet_token(call.site)


@routes.on("GET", MODEL + "/xet-read-token/{revision}")
def xet_read_token(call: Call) -> Response:
    call.commit()
    return _xet_token(call.site)


@routes.on("POST", _LFS + "/objects/batch")
def batch(call: Call) -> Response:
    """Say where the content of large files is to be sent; nothing is said of content that is here."""
    call.repo()
    call.writer()
    wanted = call.json()
    if wanted.get("operation") != "upload":
        raise HubError(422, "Only uploads are supported")
    multipart = "multipart" in wanted.get("transfers", ())
    objects = [
        _object(call, each["oid"], each["size"], multipart=multipart) for each in wanted.get("objects", ())
    ]
    return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")


@routes.on("POST", _LFS + "/verify")
def verify(call: Call) -> Response:
    call.writer()
    wanted = call.json()
    if call.site.objects.size(str(wanted.get("oid"))) != wanted.get("size"):
        raise HubError(404, "The object is missing or has another size")
    return Response()


@routes.on("PUT", "/_storage/objects/{sha256}")
def put_object(call: Call) -> Response:
    if call.spool is not None:
        call.site.objects.keep(call.spool, call["sha256"])
    return Response()


@routes.on("PUT", "/_storage/parts/{sha256}/{number}")
def put_part(call: Call) -> Response:
    if call.spool is None or not call["number"].isdecimal():
        raise HubError(400, "Not a part")
    tag = call.site.objects.keep_part(call.spool, call["sha256"], int(call["number"]))
    return Response(headers={"ETag": tag})


@routes.on("POST", "/_storage/complete/{sha256}")
def complete(call: Call) -> Response:
    parts = sorted(call.json().get("parts", ()), key=lambda part: int(part["partNumber"]))
    call.site.objects.join_parts(call["sha256"], [part["etag"] for part in parts])
    return Response()


@routes.on("POST", MODEL + "/commit/{revision}")
def commit(call: Call) -> Response:
    """Apply a list of operations: whole or not at all, on the parent it was meant for."""
    call.contribution()
    change = _changes.read(call.body)
    proposed = call.flag("create_pr")
    with call.site.store.edit(call.repo_id) as edit:
        head = edit.repo.commit(call["revision"])
        parent = head if change.parent is None else edit.repo.find(change.parent)
        if parent is None or (parent != head and not proposed):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        tree = _changes.apply(parent.tree, change, call.site.objects)
        made = Commit.make(parent, tree, change.title, change.message, call.writer().name)
        _check_card(call.site, made, before=parent.tree.get("README.md"))
        if proposed:
            edit.repo, number = _propose(edit.repo, made, base=call["revision"])
        else:
            edit.repo = edit.repo.committed(call["revision"], made)
    page = f"{call.site.url}/{call.repo_id}"
    answer = {
        "success": True,
        "commitUrl": f"{page}/commit/{made.oid}",
        "commitOid": made.oid,
        "hookOutput": "",
    }
    if proposed:
        answer["pullRequestUrl"] = f"{page}/discussions/{number}"
    return JSONResponse(answer)


def _propose(repo: Repo, made: Commit, *, base: str) -> tuple[Repo, int]:
    if base not in repo.branches:
        raise HubError(400, f"A pull request starts from a branch, not from {base}")
    number = len(repo.discussions) + 1
    pull = Discussion(
        number=number,
        title=made.title,
        author=made.author,
        status="open",
        created_at=now(),
        base=base,
        head=made.oid,
    )
    repo = repo.discussed(pull.with_comment(made.author, made.message))
    return repo.committed(f"refs/pr/{number}", made), number


def _check_card(site: Site, made: Commit, *, before: Entry | None) -> None:
    if made.tree.get("README.md") == before:
        return
    if problems := _cards.problems(_text(site, made, "README.md")):
        raise HubError(400, "Invalid metadata in README.md: " + "; ".join(problems))


def _object(call: Call, sha256: str, size: int, *, multipart: bool) -> dict[str, Any]:
    site = call.site
    answer: dict[str, Any] = {"oid": sha256, "size": size}
    if site.objects.size(sha256) is not None:
        return answer
    chunk = site.multipart_chunk
    if multipart and chunk and size > chunk:
        parts = {
            f"{number:05d}": f"{site.storage_url}/_storage/parts/{sha256}/{number}"
            for number in range(1, -(-size // chunk) + 1)
        }
        # The client finishes a multipart upload at the Hub, without a token: the address itself is the permission.
        href = f"{site.url}/_storage/complete/{sha256}"
        upload: dict[str, Any] = {"href": href, "header": {"chunk_size": str(chunk), **parts}}
    else:
        upload = {"href": f"{site.storage_url}/_storage/objects/{sha256}"}
    verify_at = f"{site.url}/{call.repo_id}.git/info/lfs/verify"
    return {**answer, "actions": {"upload": upload, "verify": {"href": verify_at}}}


def _xet_token(site: Site) -> Response:
    if not site.xet:
        raise HubError(404, "This server has no xet storage")
    site.objects.xet.make()
    token, expiry, url = "xet-local", int(time.time()) + _TOKEN_LIFETIME, site.objects.xet.url
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
    return JSONResponse({"accessToken": token, "exp": expiry, "casUrl": url}, headers=headers)


def _text(site: Site, commit: Commit, path: str) -> str:
    entry = commit.tree.get(path)
    return site.objects.blob(entry.oid).read_text(errors="replace") if entry and not entry.sha256 else ""


def _patterns(text: str, *, only: str = "") -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line.split()[0] for line in lines if line and not line.startswith("#") and only in line]


def _listed(path: str, patterns: list[str]) -> bool:
    """Whether a pattern names the path, its last part or a folder above it (a subset of what git understands)."""
    names = {path, path.rpartition("/")[2]}
    return any(
        path.startswith(pattern.lstrip("/"))
        if pattern.endswith("/")
        else any(fnmatch(name, pattern) for name in names)
        for pattern in patterns
    )
