"""Who may ask, and how the Hub refuses: a status, a sentence, and the header that clients dispatch on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

LOCAL_TOKEN = "hf_local"  # noqa: S105 - it opens nothing but a local server
"""The token of the default user."""


@dataclass(frozen=True, slots=True)
class User:
    """The owner of a token: its role, and the namespaces it may write to besides its own."""

    name: str
    role: Literal["read", "write"] = "write"
    organizations: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in {self.name, *self.organizations}


LOCAL_USERS: Mapping[str, User] = MappingProxyType({LOCAL_TOKEN: User("local", organizations=("team",))})
"""The tokens of a server that was given none."""


class HubError(Exception):
    """A refusal. `code` becomes `X-Error-Code`, `details` are added to the JSON body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": header_text(message), **(headers or {})}
        if code is not None:
            self.headers["X-Error-Code"] = code
        self.body = {"error": message, **(details or {})}


def header_text(text: str) -> str:
    """A sentence as a header can carry it: one line of ASCII."""
    return " ".join(text.split()).encode("ascii", "replace").decode("ascii")


def repository_not_found(*, anonymous: bool = False) -> HubError:
    """The Hub hides what exists: nobody in particular is asked to sign in, a user is told there is nothing."""
    if anonymous:
        # The client reads a bare 401 as "no such repository" on https only, so the code is spelled out here.
        return HubError(401, "Invalid username or password.", code="RepoNotFound")
    return HubError(404, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(path: str, commit: str) -> HubError:
    # The commit lets the client remember that this file does not exist there.
    return HubError(404, f"Entry not found: {path}", code="EntryNotFound", headers={"X-Repo-Commit": commit})
