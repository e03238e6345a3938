"""What a commit does to a tree: read the lines of a commit request, apply them, merge two lines of work."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.testing.hub._access import HubError
from registry.testing.hub._objects import Objects, blob_oid, pointer
from registry.testing.hub._store import Entry

Tree = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """A commit request: what to write, and on top of what."""

    title: str
    message: str
    parent: str | None
    operations: list[tuple[str, dict[str, Any]]]


def read(body: bytes) -> Change:
    """Read a commit request: one JSON object a line, the header first."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        pairs = [(str(line["key"]), dict(line["value"])) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise HubError(400, f"Malformed commit request: {error!r}") from error
    if not pairs or pairs[0][0] != "header":
        raise HubError(400, "The first line of a commit request is its header")
    header = pairs[0][1]
    if not header.get("summary"):
        raise HubError(400, "A commit needs a summary")
    return Change(header["summary"], header.get("description") or "", header.get("parentCommit"), pairs[1:])


def apply(tree: Tree, change: Change, objects: Objects) -> dict[str, Entry]:
    """The tree after the operations of a change."""
    result = dict(tree)
    for kind, value in change.operations:
        try:
            path = _safe(value["path"])
            match kind:
                case "file":
                    result[path] = _small(value, objects)
                case "lfsFile":
                    result[path] = _large(value, objects)
                case "deletedFile" | "deletedFolder":
                    _delete(result, path, folder=kind == "deletedFolder")
                case _:
                    raise HubError(400, f"Unknown operation: {kind}")
        except (KeyError, TypeError, ValueError) as error:
            raise HubError(400, f"Malformed {kind} operation: {error!r}") from error
    _check_folders(result)
    return result


def merge(base: Tree, ours: Tree, theirs: Tree) -> tuple[dict[str, Entry], list[str]]:
    """The tree that holds the changes of both sides, and the paths that both changed differently."""
    result, conflicts = dict(ours), []
    for path in sorted(base.keys() | theirs.keys()):
        before, here, there = base.get(path), ours.get(path), theirs.get(path)
        if there in (before, here):
            continue
        if here != before:
            conflicts.append(path)
        elif there is None:
            del result[path]
        else:
            result[path] = there
    return result, conflicts


def _safe(path: str) -> str:
    parts = path.rstrip("/").split("/")
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts) or not path.isprintable():
        raise HubError(400, f"Invalid path: {path!r}")
    return "/".join(parts)


def _small(value: dict[str, Any], objects: Objects) -> Entry:
    content = value["content"]
    data = content.encode() if value.get("encoding") == "utf-8" else base64.b64decode(content, validate=True)
    return Entry(oid=objects.add_blob(data), size=len(data))


def _large(value: dict[str, Any], objects: Objects) -> Entry:
    sha256 = value["oid"]
    size = objects.size(sha256)
    if size is None:
        raise HubError(400, f"LFS pointer points to a file that does not exist: {value['path']} ({sha256})")
    # A copy names no size: the file is already known.
    if value.get("size", size) != size:
        raise HubError(400, f"{value['path']} has {size} bytes, not {value['size']}")
    return Entry(oid=blob_oid(pointer(sha256, size)), size=size, sha256=sha256)


def _delete(tree: dict[str, Entry], path: str, *, folder: bool) -> None:
    found = [each for each in tree if each.startswith(f"{path}/")] if folder else [path]
    if not found or any(each not in tree for each in found):
        raise HubError(404, f"Nothing to delete at {path}", code="EntryNotFound")
    for each in found:
        del tree[each]


def _check_folders(tree: Tree) -> None:
    for path in tree:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            if "/".join(parts[:depth]) in tree:
                raise HubError(400, f"{path} lies in a folder that is a file")
