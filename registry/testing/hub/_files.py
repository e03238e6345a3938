"""Reading a repository: its tree, facts about paths, and the files themselves."""

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.responses import FileResponse, JSONResponse, Response

from registry.testing.hub._access import entry_not_found
from registry.testing.hub._objects import pointer
from registry.testing.hub._routing import MODEL, Call, Routes, Site, page
from registry.testing.hub._store import Commit, Entry

routes = Routes()

_BYTES = "application/octet-stream"


@routes.on("GET", MODEL + "/tree/{revision}")
@routes.on("GET", MODEL + "/tree/{revision}/{path*}")
def tree(call: Call) -> Response:
    _, commit = call.commit()
    folder = call.places.get("path", "").strip("/")
    prefix = f"{folder}/" if folder else ""
    below = {path: entry for path, entry in commit.tree.items() if path.startswith(prefix)}
    if folder and not below:
        raise entry_not_found(folder, commit.oid)
    names = set(below).union(*(_parents(path) for path in below)) - {""}
    if not call.flag("recursive"):
        names = {name for name in names if "/" not in name.removeprefix(prefix)}
    found = [
        _fact(call.site, commit, name, expand=call.flag("expand"))
        for name in sorted(names)
        if name.startswith(prefix)
    ]
    return page(call, found, size=1000)


@routes.on("POST", MODEL + "/paths-info/{revision}")
def paths_info(call: Call) -> Response:
    _, commit = call.commit()
    if call.headers.get("content-type", "").startswith("application/json"):
        form: dict[str, Any] = call.json()
    else:
        form = parse_qs(call.body.decode())
    expand = str(form.get("expand", "")).lower().strip("[']") in {"1", "true"}
    known = {*commit.tree}.union(*(_parents(path) for path in commit.tree)) - {""}
    # A path that does not exist is simply absent from the answer.
    wanted = [path.strip("/") for path in form.get("paths", ())]
    return JSONResponse([_fact(call.site, commit, path, expand=expand) for path in wanted if path in known])


@routes.on("GET HEAD", "/{namespace}/{name}/resolve/{revision}/{path*}")
def resolve(call: Call) -> Response:
    """A file: answered here, or by the storage it redirects to if the file is large and the server has a CDN."""
    _, commit = call.commit()
    site, path = call.site, call["path"]
    if (entry := commit.tree.get(path)) is None:
        raise entry_not_found(path, commit.oid)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.oid}"'}
    if entry.sha256 is None:
        return FileResponse(site.objects.blob(entry.oid), headers=headers, media_type=_BYTES)
    headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if xet := _xet_hash(site, entry):
        token = f"{site.url}/api/models/{quote(call.repo_id)}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": xet, "Link": f'<{token}>; rel="xet-auth"'}
    if site.cdn:
        location = f"{site.storage_url}/_storage/objects/{entry.sha256}"
        return Response(status_code=302, headers={**headers, "Location": location})
    return _content(call, entry.sha256, entry.size, headers)


@routes.on("GET HEAD", "/_storage/objects/{sha256}")
def stored(call: Call) -> Response:
    return _content(call, call["sha256"], call.site.objects.size(call["sha256"]), {})


def _content(call: Call, sha256: str, size: int | None, headers: dict[str, str]) -> Response:
    headers["ETag"] = f'"{sha256}"'
    if call.method == "HEAD" and size is not None:
        # No need to put a xet file together in order to tell its size.
        return Response(
            headers={**headers, "Content-Length": str(size), "Accept-Ranges": "bytes"}, media_type=_BYTES
        )
    return FileResponse(call.site.objects.large(sha256), headers=headers, media_type=_BYTES)


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def _fact(site: Site, commit: Commit, path: str, *, expand: bool) -> dict[str, Any]:
    entry = commit.tree.get(path)
    if entry is None:
        fact: dict[str, Any] = {
            "type": "directory",
            "oid": _folder_oid(commit, path),
            "size": 0,
            "path": path,
        }
    else:
        fact = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
        if entry.sha256:
            length = len(pointer(entry.sha256, entry.size))
            fact["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": length}
        if xet := _xet_hash(site, entry):
            fact["xetHash"] = xet
    if expand:
        fact["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
        if entry is not None:
            fact["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return fact


def _xet_hash(site: Site, entry: Entry) -> str | None:
    file = site.objects.xet.find(entry.sha256) if site.xet and entry.sha256 else None
    return None if file is None else file.hash


def _folder_oid(commit: Commit, folder: str) -> str:
    """Equal folders have equal ids, as in git (though not the ids that git computes)."""
    inside = sorted((path, entry.oid) for path, entry in commit.tree.items() if path.startswith(f"{folder}/"))
    return hashlib.sha1(repr(inside).encode(), usedforsecurity=False).hexdigest()
