"""From a request to the function that answers it.

Patterns are matched on the path as it was sent: a revision is one segment, so `refs%2Fpr%2F1` must not be decoded
before the path is split.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.responses import JSONResponse, Response

from registry.testing.hub._access import HubError, User, repository_not_found
from registry.testing.hub._objects import Objects, Spool
from registry.testing.hub._store import Commit, Repo, Store

_PLACE = re.compile(r"\{(\w+)(\*?)\}")
MODEL = "/api/models/{namespace}/{name}"


@dataclass(frozen=True, slots=True)
class Site:
    """What every answer may need: the state, the users, the addresses and the settings of a server."""

    store: Store
    objects: Objects
    users: Mapping[str, User]
    url: str
    storage_url: str
    cdn: bool
    xet: bool
    multipart_chunk: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """A request that found its handler."""

    site: Site
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes
    spool: Spool | None
    places: Mapping[str, str]

    def __getitem__(self, place: str) -> str:
        return self.places[place]

    @property
    def repo_id(self) -> str:
        return f"{self['namespace']}/{self['name']}"

    def value(self, key: str, default: str = "") -> str:
        return self.query.get(key, [default])[0]

    def flag(self, key: str) -> bool:
        return self.value(key).lower() in {"1", "true"}

    def number(self, key: str, default: int) -> int:
        text = self.value(key, str(default))
        if not text.isdecimal():
            raise HubError(400, f"{key} must be a number")
        return int(text)

    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, f"Malformed JSON: {error}") from error
        if not isinstance(found, dict):
            raise HubError(400, "The body must be a JSON object")
        return found

    def user(self) -> User | None:
        """The user who asks; None if nobody in particular does."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        if not kind:
            return None
        if kind != "Bearer" or token not in self.site.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.site.users[token]

    def signed_in(self) -> User:
        if (user := self.user()) is None:
            raise HubError(401, "Invalid username or password.")
        return user

    def writer(self) -> User:
        """The user who asks, with a token that may write."""
        user = self.signed_in()
        if user.role != "write":
            raise HubError(403, "You don't have the required permissions: this token can only read")
        return user

    def repo(self) -> Repo:
        """The repository of the path, if the user may see it."""
        user, repo = self.user(), self.site.store.get(self.repo_id)
        if repo is None or (repo.private and not (user and user.owns(repo.id))):
            raise repository_not_found(anonymous=user is None)
        return repo

    def writable_repo(self) -> Repo:
        """The repository of the path, if the user may change it."""
        repo, user = self.repo(), self.writer()
        if not user.owns(repo.id):
            raise HubError(403, f"You don't have the rights to change {repo.id}")
        return repo

    def contribution(self) -> Repo:
        """The repository of the path, if the user may add a commit to it or propose one."""
        repo, user = self.repo(), self.writer()
        if user.owns(repo.id) or self.flag("create_pr"):
            return repo
        kind, _, number = self.places.get("revision", "").rpartition("/")
        if kind == "refs/pr" and repo.discussion(number).author == user.name:
            return repo
        raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")

    def commit(self) -> tuple[Repo, Commit]:
        """The repository and the commit that the path names."""
        repo = self.repo()
        return repo, repo.commit(self.places.get("revision", "main"))


Handler = Callable[[Call], Response]


class Routes:
    """A list of patterns; `{place}` matches a segment, `{place*}` the rest of the path."""

    def __init__(self, *parts: "Routes") -> None:
        self.known: list[tuple[list[str], re.Pattern[str], Handler]] = []
        for part in parts:
            self.known += part.known

    def on(self, methods: str, pattern: str) -> Callable[[Handler], Handler]:
        """Answer requests with these methods ("GET HEAD") to paths of this pattern."""
        # Every other character of a split by the place pattern is literal text.
        pieces = _PLACE.split(pattern)
        expression = re.escape(pieces[0])
        for name, rest, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            expression += f"(?P<{name}>{'.+' if rest else '[^/]+'}){re.escape(text)}"
        compiled = re.compile(expression)

        def register(handler: Handler) -> Handler:
            self.known.append((methods.split(), compiled, handler))
            return handler

        return register

    def answer(self, call: Call) -> Response:
        """The answer to a call, whether it is granted or refused."""
        try:
            handler, places = self._find(call)
            return handler(replace(call, places=places))
        except HubError as error:
            return JSONResponse(error.body, error.status, headers=error.headers)

    def _find(self, call: Call) -> tuple[Handler, dict[str, str]]:
        for methods, pattern, handler in self.known:
            if call.method in methods and (match := pattern.fullmatch(call.path)):
                return handler, {name: unquote(value) for name, value in match.groupdict().items()}
        raise HubError(404, f"This server does not know {call.method} {call.path}")


def page(call: Call, items: list[dict[str, Any]], *, size: int) -> JSONResponse:
    """A page of a list, with a link to the next."""
    start, limit = call.number("cursor", 0), max(1, min(call.number("limit", size), size))
    headers = {}
    if start + limit < len(items):
        query = urlencode({**call.query, "cursor": [start + limit]}, doseq=True)
        headers["Link"] = f'<{call.site.url}{call.path}?{query}>; rel="next"'
    return JSONResponse(items[start : start + limit], headers=headers)
