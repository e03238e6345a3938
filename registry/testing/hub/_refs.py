"""History and references: commits, branches, tags, discussions and pull requests."""

from typing import Any

from starlette.responses import JSONResponse, Response

from registry.testing.hub import _changes
from registry.testing.hub._access import HubError, User, revision_not_found
from registry.testing.hub._routing import MODEL, Call, Routes, page
from registry.testing.hub._store import Commit, Discussion, Entry, Repo, now

routes = Routes()

_DISCUSSIONS = MODEL + "/discussions"
_DISCUSSION = _DISCUSSIONS + "/{number}"
_SHORTEST_TITLE = 3


@routes.on("GET", MODEL + "/commits/{revision}")
def commits(call: Call) -> Response:
    repo, head = call.commit()
    found = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.history(head.oid)
    ]
    return page(call, found, size=1000)


@routes.on("GET", MODEL + "/refs")
def refs(call: Call) -> Response:
    repo = call.repo()
    answer: dict[str, Any] = {
        "branches": _references("heads", repo.branches),
        "tags": _references("tags", repo.tags),
        "converts": [],
    }
    if call.flag("include_prs"):
        answer["pullRequests"] = _references("pr", repo.pulls())
    return JSONResponse(answer)


@routes.on("POST", MODEL + "/branch/{branch}")
def create_branch(call: Call) -> Response:
    branch, start = _reference_name(call["branch"]), call.json().get("startingPoint") or "main"
    with call.site.store.edit(call.writable_repo().id) as edit:
        if branch in edit.repo.branches:
            raise HubError(409, f"Reference already exists: {branch}")
        branches = {**edit.repo.branches, branch: edit.repo.commit(start).oid}
        edit.repo = edit.repo.model_copy(update={"branches": branches})
    return Response("OK")


@routes.on("DELETE", MODEL + "/branch/{branch}")
def delete_branch(call: Call) -> Response:
    branch = call["branch"]
    with call.site.store.edit(call.writable_repo().id) as edit:
        if branch == "main":
            raise HubError(403, "Cannot delete refs/heads/main")
        edit.repo = edit.repo.model_copy(update={"branches": _without(edit.repo.branches, branch)})
    return Response("OK")


@routes.on("POST", MODEL + "/tag/{revision}")
def create_tag(call: Call) -> Response:
    tag = _reference_name(str(call.json().get("tag", "")))
    with call.site.store.edit(call.writable_repo().id) as edit:
        if tag in edit.repo.tags:
            raise HubError(409, f"Tag reference exists already: {tag}")
        tags = {**edit.repo.tags, tag: edit.repo.commit(call["revision"]).oid}
        edit.repo = edit.repo.model_copy(update={"tags": tags})
    return Response("OK")


@routes.on("DELETE", MODEL + "/tag/{tag}")
def delete_tag(call: Call) -> Response:
    with call.site.store.edit(call.writable_repo().id) as edit:
        edit.repo = edit.repo.model_copy(update={"tags": _without(edit.repo.tags, call["tag"])})
    return Response("OK")


@routes.on("POST", MODEL + "/super-squash/{branch}")
def squash(call: Call) -> Response:
    """A branch becomes one commit; what other references name stays."""
    user, branch = call.writer(), call["branch"]
    with call.site.store.edit(call.writable_repo().id) as edit:
        if branch not in edit.repo.branches:
            raise revision_not_found(branch)
        title = str(call.json().get("message") or f"Super-squash branch '{branch}'")
        made = Commit.make(None, edit.repo.commit(branch).tree, title, "", user.name)
        edit.repo = edit.repo.committed(branch, made)
    return Response("OK")


@routes.on("GET", _DISCUSSIONS)
def discussions(call: Call) -> Response:
    repo = call.repo()
    found = [_summary(repo, each) for each in repo.discussions if _wanted(call, each)]
    # Everything fits on the first page.
    return JSONResponse({"count": len(found), "start": 0, "discussions": found})


@routes.on("POST", _DISCUSSIONS)
def open_discussion(call: Call) -> Response:
    user, wanted = call.writer(), call.json()
    with call.site.store.edit(call.repo().id) as edit:
        proposed = wanted.get("pullRequest") is True
        number = len(edit.repo.discussions) + 1
        discussion = Discussion(
            number=number,
            title=str(wanted.get("title", "")),
            author=user.name,
            status="draft" if proposed else "open",
            created_at=now(),
            head=edit.repo.commit("main").oid if proposed else None,
        )
        edit.repo = edit.repo.discussed(
            discussion.with_comment(user.name, str(wanted.get("description", "")))
        )
    return JSONResponse({"num": number})


@routes.on("GET", _DISCUSSION)
def discussion_details(call: Call) -> Response:
    repo = call.repo()
    discussion = repo.discussion(call["number"])
    changes = {"base": f"refs/heads/{discussion.base}"}
    if discussion.merged:
        changes["mergeCommitId"] = discussion.merged
    undecided = discussion.head is not None and discussion.status in {"open", "draft"}
    conflicts = _merged_tree(repo, discussion)[1] if undecided else []
    return JSONResponse(
        {
            **_summary(repo, discussion),
            "events": list(discussion.events),
            "changes": changes,
            "filesWithConflicts": conflicts,
            "diff": "",
        }
    )


@routes.on("POST", _DISCUSSION + "/comment")
def comment(call: Call) -> Response:
    user = call.writer()
    with call.site.store.edit(call.repo().id) as edit:
        text = str(call.json().get("comment", ""))
        discussion = edit.repo.discussion(call["number"]).with_comment(user.name, text)
        edit.repo = edit.repo.discussed(discussion)
    return JSONResponse({"newMessage": discussion.events[-1]})


@routes.on("POST", _DISCUSSION + "/title")
def change_title(call: Call) -> Response:
    user, title = call.writer(), str(call.json().get("title", ""))
    with call.site.store.edit(call.repo().id) as edit:
        discussion = edit.repo.discussion(call["number"])
        _require_voice(user, edit.repo, discussion)
        if len(title) < _SHORTEST_TITLE:
            raise HubError(400, f"A title has at least {_SHORTEST_TITLE} characters")
        said = {"from": discussion.title, "to": title}
        discussion = discussion.with_event("title-change", user.name, said)
        edit.repo = edit.repo.discussed(discussion.model_copy(update={"title": title}))
    return JSONResponse({"newTitle": discussion.events[-1]})


@routes.on("POST", _DISCUSSION + "/status")
def change_status(call: Call) -> Response:
    user, status = call.writer(), call.json().get("status")
    if status not in {"open", "closed"}:
        raise HubError(400, f"Unknown status: {status}")
    with call.site.store.edit(call.repo().id) as edit:
        discussion = edit.repo.discussion(call["number"])
        _require_voice(user, edit.repo, discussion)
        if discussion.status == "merged":
            raise HubError(400, "This pull request is merged")
        discussion = discussion.with_event("status-change", user.name, {"status": status})
        edit.repo = edit.repo.discussed(discussion.model_copy(update={"status": status}))
    return JSONResponse({"newStatus": discussion.events[-1]})


@routes.on("POST", _DISCUSSION + "/merge")
def merge(call: Call) -> Response:
    user = call.writer()
    with call.site.store.edit(call.writable_repo().id) as edit:
        pull = edit.repo.discussion(call["number"])
        if pull.head is None or pull.status != "open":
            raise HubError(400, f"Only an open pull request can be merged, this one is {pull.status}")
        tree, conflicts = _merged_tree(edit.repo, pull)
        if conflicts:
            raise HubError(409, f"Conflicting changes in {', '.join(conflicts)}")
        made = Commit.make(edit.repo.commit(pull.base), tree, f"{pull.title} (#{pull.number})", "", user.name)
        pull = pull.model_copy(update={"status": "merged", "merged": made.oid})
        pull = pull.with_event("status-change", user.name, {"status": "merged"})
        edit.repo = edit.repo.committed(pull.base, made).discussed(pull)
    return JSONResponse({})


def _require_voice(user: User, repo: Repo, discussion: Discussion) -> None:
    if not (user.owns(repo.id) or user.name == discussion.author):
        raise HubError(403, "Only the author and the owner of the repository may do this")


def _merged_tree(repo: Repo, pull: Discussion) -> tuple[dict[str, Entry], list[str]]:
    ours, theirs = repo.history(pull.base), repo.history(f"refs/pr/{pull.number}")
    known = {commit.oid for commit in ours}
    common = next(commit for commit in theirs if commit.oid in known)
    return _changes.merge(common.tree, ours[0].tree, theirs[0].tree)


def _references(kind: str, heads: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in heads.items()]


def _reference_name(name: str) -> str:
    parts = name.split("/")
    bad = any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    if bad or ".." in name or any(mark in name for mark in " ~^:?*[\\") or not name.isprintable():
        raise HubError(400, f"Invalid reference name: {name!r}")
    return name


def _without(heads: dict[str, str], name: str) -> dict[str, str]:
    if name not in heads:
        raise revision_not_found(name)
    return {each: oid for each, oid in heads.items() if each != name}


def _wanted(call: Call, discussion: Discussion) -> bool:
    kind = "pull_request" if discussion.head else "discussion"
    status = "open" if discussion.status in {"open", "draft"} else "closed"
    return (
        call.value("type", "all") in {"all", kind}
        and call.value("status", "all") in {"all", status}
        and call.value("author", discussion.author) == discussion.author
    )


def _summary(repo: Repo, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "isPullRequest": discussion.head is not None,
        "createdAt": discussion.created_at,
        "author": {"name": discussion.author},
        "repo": {"name": repo.id, "type": "model"},
    }
