"""Accounts and repositories: who am I, create, delete, describe, search, settings, card checks."""

import hashlib
from typing import Any

from starlette.responses import JSONResponse, Response

from registry.testing.hub import _cards
from registry.testing.hub._access import HubError, User, repository_not_found
from registry.testing.hub._objects import pointer
from registry.testing.hub._routing import MODEL, Call, Routes, Site, page
from registry.testing.hub._store import Commit, Entry, Repo

routes = Routes()

_LARGE = ("bin", "ckpt", "gguf", "h5", "model", "msgpack", "npz", "onnx", "pkl", "pt", "pth", "safetensors")
_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LARGE).encode()
_KEY = {"_id", "id", "modelId"}
_LISTED = _KEY | {"private", "likes", "downloads", "tags", "pipeline_tag", "library_name", "createdAt"}
_LISTED_FULL = _LISTED | {"author", "sha", "lastModified", "gated", "disabled", "siblings"}
_ON_REQUEST = {"baseModels"}


@routes.on("GET", "/api/whoami-v2")
def whoami(call: Call) -> Response:
    user = call.signed_in()
    return JSONResponse(
        {
            "type": "user",
            "id": _id(user.name),
            "name": user.name,
            "fullname": user.name,
            "orgs": [{"type": "org", "name": name} for name in user.organizations],
            "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": user.role}},
        }
    )


@routes.on("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Response:
    readme = str(call.json().get("content", ""))
    problems = [{"message": sentence} for sentence in _cards.problems(readme)]
    warnings = [{"message": sentence} for sentence in _cards.warnings(readme)]
    return JSONResponse({"errors": problems, "warnings": warnings}, 400 if problems else 200)


@routes.on("POST", "/api/repos/create")
def create(call: Call) -> Response:
    repo_id, url = _named(call)
    wanted = call.json()
    gitattributes = Entry(oid=call.site.objects.add_blob(_ATTRIBUTES), size=len(_ATTRIBUTES))
    first = Commit.make(None, {".gitattributes": gitattributes}, "initial commit", "", call.writer().name)
    private = wanted.get("visibility") == "private" or wanted.get("private") is True
    if not call.site.store.add(Repo.make(repo_id, first, private=private)):
        # `exist_ok` reads the address from this answer.
        raise HubError(409, "You already created this model repo", details={"url": url})
    return JSONResponse({"url": url, "name": repo_id, "id": _id(repo_id)})


@routes.on("DELETE", "/api/repos/delete")
def delete(call: Call) -> Response:
    repo_id, _ = _named(call)
    call.site.store.remove(repo_id)
    return Response("OK")


@routes.on("POST", "/api/repos/move")
def move(call: Call) -> Response:
    user, wanted = call.writer(), call.json()
    old, new = (str(wanted.get(key, "")) for key in ("fromRepo", "toRepo"))
    if not (user.owns(old) and user.owns(new)):
        raise HubError(403, f"You don't have the rights to move {old} to {new}")
    if not call.site.store.move(old, new):
        raise HubError(409, f"There is a repository {new} already")
    return Response("OK")


@routes.on("GET", "/api/models")
def search(call: Call) -> Response:
    user = call.user()
    found = [
        _describe(call.site, repo, repo.commit("main"))
        for repo in call.site.store.all()
        if _visible(repo, user)
    ]
    found = [model for model in found if _matches(call, model)]
    if (key := call.value("sort")) in {"createdAt", "lastModified"}:
        found.sort(key=lambda model: str(model[key]), reverse=True)
    shown = _LISTED_FULL if call.flag("full") else _LISTED
    if call.flag("cardData"):
        shown = shown | {"cardData"}
    if expand := call.query.get("expand"):
        shown = _KEY.union(expand)
    return page(call, [{key: model[key] for key in model if key in shown} for model in found], size=1000)


@routes.on("GET", MODEL)
@routes.on("GET", MODEL + "/revision/{revision}")
def describe(call: Call) -> Response:
    repo, commit = call.commit()
    model = _describe(call.site, repo, commit)
    if call.flag("blobs"):
        model["siblings"] = [_sibling(path, entry) for path, entry in sorted(commit.tree.items())]
    if expand := call.query.get("expand"):
        return JSONResponse({key: model[key] for key in model if key in _KEY.union(expand)})
    return JSONResponse({key: model[key] for key in model if key not in _ON_REQUEST})


@routes.on("GET", "/api/models/{name}")
@routes.on("GET HEAD", "/{name}/resolve/{revision}/{path*}")
def canonical(call: Call) -> Response:
    """Models without a namespace exist on the Hub, but never here."""
    raise repository_not_found(anonymous=call.user() is None)


@routes.on("PUT", MODEL + "/settings")
def settings(call: Call) -> Response:
    repo, wanted = call.writable_repo(), call.json()
    with call.site.store.edit(repo.id) as edit:
        visibility = wanted.get("visibility", "private" if edit.repo.private else "public")
        if visibility not in {"private", "public"}:
            raise HubError(400, f"Unknown visibility: {visibility}")
        edit.repo = edit.repo.model_copy(update={"private": visibility == "private"})
    return JSONResponse(wanted)


@routes.on("GET", MODEL + "/auth-check")
def readable(call: Call) -> Response:
    call.repo()
    return Response("OK")


@routes.on("GET", MODEL + "/auth-check/write")
def writable(call: Call) -> Response:
    call.writable_repo()
    return Response("OK")


def _named(call: Call) -> tuple[str, str]:
    """The repository that the body names, and its address."""
    user, wanted = call.writer(), call.json()
    if wanted.get("type") not in {None, "model"}:
        raise HubError(400, f"This server keeps models only, not a {wanted['type']}")
    repo_id = f"{wanted.get('organization') or user.name}/{wanted.get('name', '')}"
    if not user.owns(repo_id):
        raise HubError(403, f'You don\'t have the rights to create or delete "{repo_id}"')
    return repo_id, f"{call.site.url}/{repo_id}"


def _visible(repo: Repo, user: User | None) -> bool:
    return not repo.private or (user is not None and user.owns(repo.id))


def _matches(call: Call, model: dict[str, Any]) -> bool:
    wanted = {tag for value in call.query.get("filter", ()) for tag in value.split(",")}
    return (
        wanted <= {*model["tags"]}
        and call.value("author", model["author"]) == model["author"]
        and call.value("search").lower() in model["id"].lower()
        and call.value("pipeline_tag", model["pipeline_tag"] or "") == (model["pipeline_tag"] or "")
    )


def _describe(site: Site, repo: Repo, commit: Commit) -> dict[str, Any]:
    readme = commit.tree.get("README.md")
    text = site.objects.blob(readme.oid).read_text(errors="replace") if readme and not readme.sha256 else ""
    card = _cards.metadata(text)
    relation, models = _cards.base_models(card, commit.tree)
    return {
        "_id": _id(repo.id),
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": commit.oid,
        "createdAt": repo.created_at,
        "lastModified": commit.date,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": _cards.tags(card, commit.tree),
        "pipeline_tag": card.get("pipeline_tag"),
        "library_name": card.get("library_name"),
        "cardData": card or None,
        "siblings": [{"rfilename": path} for path in sorted(commit.tree)],
        "usedStorage": sum(entry.size for entry in commit.tree.values()),
        "baseModels": {"relation": relation, "models": [{"_id": _id(each), "id": each} for each in models]},
    }


def _sibling(path: str, entry: Entry) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path, "blobId": entry.oid, "size": entry.size}
    if entry.sha256:
        length = len(pointer(entry.sha256, entry.size))
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": length}
    return sibling


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]
