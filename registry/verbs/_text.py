"""Free text from users: bounded, and without what could not be stored or shown safely."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.errors import UsageError

_DEVICE = re.compile(r"auto|cpu|cuda(?::[0-9]+)?")
MAX_TEXT = 10_000
MAX_KEY = 200
MAX_TAG = 400
_LIMITS = dict.fromkeys(("task", "license", "metric", "dataset", "split"), MAX_KEY)
"""What is indexed has to fit an index entry of PostgreSQL, 2,704 bytes, four to a character at worst: the key
and value of a tag in one, dataset, split and metric in another.
"""


def check_device(name: str) -> None:
    """Raise ``UsageError`` unless ``name`` can be a device; whether there is one is seen when it is used."""
    if _DEVICE.fullmatch(name) is None:
        raise UsageError(f"unknown device {name!r}", hint="one of: auto, cpu, cuda, cuda:0, cuda:1 …")


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise ``UsageError`` for a tag that cannot be stored or shown safely."""
    for key, value in tags.items():
        check_text("tag", key, limit=MAX_KEY)
        check_text(f"tag {key}", value or "-", limit=MAX_TAG)


def check_text(what: str, text: str, *, limit: int | None = None) -> None:
    """Raise ``UsageError`` for text that is empty, too long for what it is, or holds control characters."""
    limit = _LIMITS.get(what, MAX_TEXT) if limit is None else limit
    if not text.strip():
        raise UsageError(f"the {what} is empty", hint="give some text")
    if len(text) > limit:
        raise UsageError(f"the {what} is {len(text)} characters long", hint=f"at most {limit}")
    if any(ord(character) < ord(" ") and character not in "\n\t" for character in text) or "\x7f" in text:
        raise UsageError(f"the {what} holds control characters", hint="remove them")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the {what} is no valid Unicode text", hint="write it in UTF-8") from None
