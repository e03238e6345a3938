"""Digests: ``"sha256:" + 64 hex digits``, and the canonical JSON they are taken over.

Canonical JSON is UTF-8 with sorted keys, no spaces, and no floating-point numbers: those are written as
strings by whoever knows their exact meaning, so that a digest never depends on how a float prints.
"""

import hashlib
import json
import re
from typing import Any

from registry.errors import IntegrityFailure

PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def canonical_json(value: Any) -> bytes:
    """Serialize ``value`` so that equal values give equal bytes.

    Raises ``TypeError`` for floats and for mappings whose keys are not strings.
    """
    _reject_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def of_bytes(data: bytes | bytearray | memoryview) -> str:
    return PREFIX + hashlib.sha256(data).hexdigest()


def of_json(value: Any) -> str:
    """Digest of the canonical JSON of ``value``."""
    return of_bytes(canonical_json(value))


def check(name: str, *, expected: str, found: str, hint: str | None = None) -> None:
    """Raise ``IntegrityFailure`` unless the two digests are equal; ``hint`` says where another good one comes from."""
    if expected != found:
        raise IntegrityFailure(
            f"{name} is damaged: recorded {expected}, found {found}",
            hint=hint or "put a good copy in its place: registry verify --repair",
        )


def _reject_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats: {value!r}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON needs string keys: {key!r}")
            _reject_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _reject_floats(item)
