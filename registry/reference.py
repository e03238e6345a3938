"""References: how a version is named. ``toxic@3``, ``toxic@prod``, ``toxic`` (latest), ``sha256:…``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from registry.errors import UsageError

NAME = r"[A-Za-z][A-Za-z0-9._-]*(?:/[A-Za-z][A-Za-z0-9._-]*)?"
MAX_LENGTH = 200
_NAME = re.compile(NAME)
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[vV]?([1-9][0-9]{0,8})")
_LIKE_VERSION = re.compile(r"[vV][0-9]+")
_SHORTEST_DIGEST = 8
_DIGEST = re.compile(rf"sha256:[0-9a-f]{{{_SHORTEST_DIGEST},64}}")


@dataclass(frozen=True)
class Reference:
    """A parsed reference: a name with at most one of ``version`` and ``alias``, or a ``digest`` (or its start).

    ``column`` is where it stands in an expression, counting from 1; it is no part of what is meant.
    """

    name: str | None = None
    version: int | None = None
    alias: str | None = None
    digest: str | None = None
    column: int = field(default=1, compare=False)

    def __str__(self) -> str:
        if self.digest is not None:
            return self.digest
        selector = self.version if self.version is not None else self.alias
        return f"{self.name}" if selector is None else f"{self.name}@{selector}"


def parse(text: str, *, column: int = 1) -> Reference:
    """Raises ``UsageError`` for anything that is not a reference."""
    if text.startswith("sha256:"):
        if _DIGEST.fullmatch(text) is None:
            raise UsageError(
                f"{text!r} is not a digest",
                hint=f"give sha256: and {_SHORTEST_DIGEST} to 64 lower-case hex digits",
            )
        return Reference(digest=text, column=column)
    name, separator, selector = text.partition("@")
    check_name(name)
    if not separator or selector.lower() == "latest":
        return Reference(name=name, column=column)
    if version := _VERSION.fullmatch(selector):
        return Reference(name=name, version=int(version[1]), column=column)
    check_alias(selector, within=text)
    return Reference(name=name, alias=selector, column=column)


def check_name(name: str) -> None:
    """Raise ``UsageError`` unless ``name`` can name an adapter."""
    if _NAME.fullmatch(name) is None or len(name) > MAX_LENGTH:
        raise UsageError(
            f"{_shown(name)} is not an adapter name",
            hint="a name is letters, digits, '.', '_' and '-', starting with a letter; one '/' may group names",
        )


def check_alias(alias: str, *, within: str | None = None) -> None:
    """Raise ``UsageError`` unless ``alias`` can be an alias (``latest`` and ``v3`` mean something else)."""
    if _ALIAS.fullmatch(alias) is None or len(alias) > MAX_LENGTH:
        rule = "an alias is letters, digits, '.', '_' and '-', starting with a letter"
        if within is None:
            raise UsageError(f"{_shown(alias)} cannot be an alias", hint=rule)
        raise UsageError(
            f"{_shown(alias)} in {_shown(within)} is neither a version nor an alias",
            hint=f"a version is a number from 1; {rule}",
        )
    if alias.lower() == "latest" or _LIKE_VERSION.fullmatch(alias):
        raise UsageError(
            f"{alias!r} cannot be an alias", hint="'latest' and version numbers have fixed meanings"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…")
