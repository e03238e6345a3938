"""Every error a user can meet.

::

    RegistryError                1  FAILURE
    ├── UsageError               2  USAGE
    │   └── ExpressionError      2  SYNTAX            points at a column
    ├── NotFound                 3  NOT_FOUND
    │   └── NotHeld              3  NOT_HELD          known, but its bytes are elsewhere
    ├── Conflict                 4  CONFLICT          taken, moved or already there
    ├── IntegrityFailure         5  INTEGRITY         bytes are not what was recorded
    ├── Stale                    6  STALE             something would change
    ├── Refused                  7  REFUSED           input that is not understood or not sound
    │   └── Incompatible         7  INCOMPATIBLE      inputs that do not belong together
    ├── SchemaOutdated           1  SCHEMA
    ├── StorageFailure           1  STORAGE           disk full, permissions, database gone
    │   └── Denied               1  DENIED            the database does not let this login do it
    └── HubFailure               1  HUB
        ├── HubUnauthorized      1  HUB_UNAUTHORIZED
        └── HubUnavailable       1  HUB_UNAVAILABLE   worth trying again

A message is one line: what is wrong and in which input. ``hint`` is what to do about it. ``code`` and
``exit_code`` are part of the command line's contract.
"""

from typing import ClassVar

_EXCERPT = 100  # characters of an expression that an error shows
_LONGEST = 2000  # characters of a line


def _line(text: str) -> str:
    """One line of bounded length without what acts on a terminal or reorders what is shown: names in it may be anybody's."""
    if not text.isprintable():
        words = " ".join(text[: 10 * _LONGEST].split())
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words)
    if len(text) <= _LONGEST:
        return text
    # Between two words, so that a secret is not cut in two, of which one would not be known as such.
    return f"{text[: text.rfind(' ', _LONGEST // 2, _LONGEST) if ' ' in text[_LONGEST // 2 : _LONGEST] else _LONGEST]} …"


class RegistryError(Exception):
    """Base of every error raised on purpose by this package."""

    code: ClassVar[str] = "FAILURE"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = _line(message)
        self.hint = None if hint is None else _line(hint)
        super().__init__(self.message)


class UsageError(RegistryError):
    """The request itself makes no sense (a bad option value, contradictory options)."""

    code = "USAGE"
    exit_code = 2


class ExpressionError(UsageError):
    """An expression that does not parse; ``column`` counts from 1."""

    code = "SYNTAX"

    def __init__(self, message: str, *, text: str, column: int, hint: str | None = None) -> None:
        start = max(0, column - _EXCERPT // 2)
        excerpt = text[start : start + _EXCERPT]
        shown = ("…" if start else "") + excerpt + ("…" if len(text) > start + _EXCERPT else "")
        super().__init__(f"{message} at column {column} of {shown!r}", hint=hint)
        self.text = text
        self.column = column


class NotFound(RegistryError):
    """A name, version, alias, digest or repo that does not exist."""

    code = "NOT_FOUND"
    exit_code = 3


class NotHeld(NotFound):
    """A version that is only known: its bytes are not in this catalog's blob store."""

    code = "NOT_HELD"


class Conflict(RegistryError):
    """Something is taken, has moved meanwhile, or is already there."""

    code = "CONFLICT"
    exit_code = 4


class IntegrityFailure(RegistryError):
    """Stored bytes differ from what was recorded about them."""

    code = "INTEGRITY"
    exit_code = 5


class Stale(RegistryError):
    """Under ``--check``: something is out of date or would change."""

    code = "STALE"
    exit_code = 6


class Refused(RegistryError):
    """Input that is malformed, unsafe, or carries parts whose maths is not implemented."""

    code = "REFUSED"
    exit_code = 7


class Incompatible(Refused):
    """Inputs that are sound one by one but do not belong together."""

    code = "INCOMPATIBLE"


class SchemaOutdated(RegistryError):
    """The catalog was made by another release; it is never migrated on open."""

    code = "SCHEMA"


class StorageFailure(RegistryError):
    """The disk or the database did not do what was asked."""

    code = "STORAGE"


class Denied(StorageFailure):
    """The database does not let this login do it."""

    code = "DENIED"


class DatabaseDamaged(StorageFailure):
    """The database gives what nobody wrote there, or cannot be read at all."""

    code = "INTEGRITY"
    exit_code = 5

    def __init__(
        self,
        what: str,
        *,
        hint: str = "see what is damaged: registry verify; to replace it, move it aside, then: registry restore BACKUP",
    ) -> None:
        super().__init__(what, hint=hint)


class HubFailure(RegistryError):
    """The Hub answered with an error."""

    code = "HUB"


class HubUnauthorized(HubFailure):
    """No token, a wrong token, or one without the rights needed."""

    code = "HUB_UNAUTHORIZED"


class HubUnavailable(HubFailure):
    """The Hub could not be reached or answered 429 or 5xx; the same command may work later."""

    code = "HUB_UNAVAILABLE"
