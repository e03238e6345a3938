"""What must be neither shown nor recorded: tokens and passwords, in texts that others wrote."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_SECRET_VARIABLE = re.compile(r"(?i)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)$")
_PASSWORDS = re.compile(r"(?i)(?<=[?&])(?:ssl)?password=([^&]+)|://[^:/@]*:([^@]+)@")
_SHORTEST_SECRET = 6
_SECRETS = (
    # Hub tokens: long, or mixed as no folder's name is (``hf_adapters`` stays readable).
    (re.compile(r"(?<![A-Za-z0-9])hf_(?:[A-Za-z0-9]{16,}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,})"), "hf_***"),
    (re.compile(r"(?<![A-Za-z0-9])(hf_jwt|hf_oauth|api_org)_[\w.-]{8,}"), r"\1_***"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{6,}"), r"\1 ***"),
    # A password in a URL; a port that is followed by a path is not one.
    (re.compile(r"(://[^\s:/@]*:)(?!\d{1,5}/)(?:[^\s/]*@|[^\s@]*@)"), r"\1***@"),
    (re.compile(r"(?i)([?&](?:ssl)?(?:password|passwd|token|key)=)[^\s&'\"]+"), r"\1***"),
)


def redact(text: str) -> str:
    """Take tokens and passwords out of a text: those that look so, and those of the environment."""
    secrets = [value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)]
    found = _PASSWORDS.findall(os.environ.get("REGISTRY_DATABASE_URL", ""))
    secrets += [unquote(each) for pair in found for each in pair]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be the start of another
        if len(secret) >= _SHORTEST_SECRET:  # a shorter one would be found in what is none
            text = text.replace(secret, "***")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
