"""Free text from users: bounded, and without what could not be stored or shown safely."""

from __future__ import annotations

from collections.abc import Mapping

from registry.errors import UsageError

MAX_TEXT = 10_000
MAX_KEY = 200


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise ``UsageError`` for a tag that cannot be stored or shown safely."""
    for key, value in tags.items():
        check_text("tag", key, limit=MAX_KEY)
        check_text(f"tag {key}", value or "-")


def check_text(what: str, text: str, *, limit: int = MAX_TEXT) -> None:
    """Raise ``UsageError`` for text that is empty, too long, or holds control characters."""
    if not text.strip():
        raise UsageError(f"the {what} is empty")
    if len(text) > limit:
        raise UsageError(f"the {what} is {len(text)} characters long", hint=f"at most {limit}")
    if any(ord(character) < ord(" ") and character not in "\n\t" for character in text) or "\x7f" in text:
        raise UsageError(f"the {what} holds control characters", hint="remove them")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the {what} is no valid Unicode text", hint="write it in UTF-8") from None
