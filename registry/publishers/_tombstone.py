"""The card that stays where a release was: that it is gone, and why. The same withdrawal gives the same card."""

from __future__ import annotations

import re

import yaml

from registry.publishers._markup import code, plain

MARK = "<!-- adapter-registry: withdrawn -->"

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def tombstone(ref: str, reason: str | None, written: str | None = None) -> bytes:
    """The README.md after ``ref`` was unpublished. What people have ``written`` into the one before comes after it."""
    front = yaml.safe_dump({"tags": ["adapter-registry", "withdrawn"]}, sort_keys=False)
    parts = [
        f"---\n{front}---",
        MARK,
        f"# {plain(ref)} was withdrawn",
        f"This repo held {code(ref)}. It was unpublished: do not use it any more.",
    ]
    if reason:
        parts.append(f"Reason: {plain(reason)}")
    if written is not None and (rest := _FRONT_MATTER.sub("", written, count=1).strip()):
        parts += ["---", "What follows was written before.", rest]
    return ("\n\n".join(parts) + "\n").encode()


def is_tombstone(card: str) -> bool:
    return MARK in card
