"""The card that stays where a release was: that it is gone, and why. The same withdrawal gives the same card."""

from __future__ import annotations

import re

from registry.publishers import _merge
from registry.publishers._markup import code, plain

MARK = "<!-- withdrawn -->"

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def tombstone(ref: str, reason: str | None, written: bytes | None = None, *, repo: str) -> bytes:
    """The README.md after ``ref`` was unpublished, from one that people have ``written`` in, whose text is kept.

    Raises ``Conflict``, naming ``repo``, where it cannot be told what of it is whose.
    """
    parts = [
        MARK,
        f"# {plain(ref)} was withdrawn",
        f"This repo held {code(ref)}. It was unpublished: do not use it any more.",
    ]
    if reason:
        parts.append(f"Reason: {plain(reason)}")
    ours = _merge.compose({"tags": ["adapter-registry", "withdrawn"]}, "\n\n".join(parts))
    if written is None or _merge.part(written):
        return _merge.merge(ours, written, repo=repo)
    # Nothing of it is marked as ours: what is said now stands before it, where it is seen.
    rest = _FRONT_MATTER.sub("", written.decode(errors="replace"), count=1).strip()
    return ours + (f"\n{rest}\n".encode() if rest else b"")


def is_tombstone(card: str) -> bool:
    return MARK in card
